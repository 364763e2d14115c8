"""All finished cases as one ZIP file."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from atlas8k.services.errors import NotFoundError
from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.services.studies.names import LABEL_SUFFIXES, split_suffix

logger = logging.getLogger(__name__)

_PREFIX = "atlas8k-dataset-"
_KEPT_S = 6 * 3600.0
_SPARE_BYTES = 256 << 20


class Case(NamedTuple):
    """An image and its label; in the archive both are named after the id."""

    id: str
    image: Path
    label: Path


def write_archive(cases: Sequence[Case], metadata: bytes) -> str:
    """Write ``image/<id>.nii.gz``, ``label/<id>.nii.gz`` and ``metadata.json``; the file's path.

    Files are copied through, not held in memory, and not compressed again. Whoever asked for it
    deletes it; archives of hours ago, of a process that was killed, are cleared away here.

    Raises
    ------
    NotFoundError
        There is no case to write.
    StudiesFolderError
        The temporary folder cannot hold it; nothing is left there.
    """
    if not cases:
        raise NotFoundError("finished label to put into an archive", "final")
    folder = Path(tempfile.gettempdir())
    _clear_away(folder)
    size = sum(_size(path) for case in cases for path in (case.image, case.label))
    free = shutil.disk_usage(folder).free
    if size + _SPARE_BYTES > free:
        raise StudiesFolderError(
            folder,
            f"the archive needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; ask for fewer "
            "cases with limit_cases, or set TMPDIR to a larger disk",
        )
    handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=".zip", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            for case in cases:
                if not case.image.is_file() or not case.label.is_file():
                    logger.warning("%s: vanished meanwhile, left out", case.id)
                    continue
                for kind, path in (("image", case.image), ("label", case.label)):
                    archive.write(path, f"{kind}/{case.id}{_suffix(path)}")
            archive.writestr("metadata.json", metadata)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise StudiesFolderError(name, f"the archive cannot be written ({error})") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return name


def _suffix(path: Path) -> str:
    parts = split_suffix(path.name, LABEL_SUFFIXES)
    return parts[1] if parts else path.suffix


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _clear_away(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*.zip"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink()
