"""What the tests of the studies folder share."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import LabelVersion

Open = Callable[..., StudiesFolder]

_FORK = multiprocessing.get_context("fork")


def start(target: Callable[..., None], *args: Any) -> BaseProcess:
    """A process of its own that runs `target`; it opens its own folder."""
    process = _FORK.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def history(folder: StudiesFolder, image: str, tag: str | None = None) -> list[LabelVersion]:
    """Labels of an image that were replaced or removed, the oldest first."""
    versions = folder.index.label_versions(image, tag)
    current = [folder.index.label(image, one.tag) for one in versions]
    numbers = {label.version for label in current if label is not None}
    return [one for one in versions if one.id not in numbers]
