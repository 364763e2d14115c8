"""What the tests of the studies folder share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import LabelVersion

Open = Callable[..., StudiesFolder]


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
