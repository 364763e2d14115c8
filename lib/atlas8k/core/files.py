"""Write files atomically, hash them, and lock between processes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Read once, on import: reading sets the mask for a moment, for every thread.
_MASK = os.umask(0)
os.umask(_MASK)
FILE_MODE = 0o666 & ~_MASK
"""Permissions of a new file as the process was started to give them."""


@contextlib.contextmanager
def publishing(path: Path, *, sync: bool = True, beside: Path | None = None) -> Iterator[Path]:
    """Yield a temporary file beside `path`; publish it at `path` when the block succeeds.

    Parameters
    ----------
    sync
        As in :func:`publish`.
    beside
        Folder of the temporary file, where not that of `path`; on the same file system.
    """
    for folder in {path.parent, beside or path.parent}:
        folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=beside or path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        publish(temporary, path, sync=sync)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path, *, sync: bool = True) -> None:
    """Make a finished temporary file the file at ``path``: sync, rename, sync the folder.

    Without ``sync`` a crash of the machine may leave another file there, or a part of this one.
    """
    os.chmod(temporary, FILE_MODE)
    if sync:
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
    os.replace(temporary, path)
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy_whole(source: Path, target: Path) -> None:
    """Copy `source` to `target`, complete or not at all."""
    with publishing(target) as temporary:
        shutil.copyfile(source, temporary)


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; ``{}`` where there is no file."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except FileNotFoundError:
        return {}
    return dict(value)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file, complete or not at all."""
    with publishing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")


def sha256_of(path: str | Path) -> str:
    """Return the hex sha256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` (made where missing) for the block.

    The lock is the kernel's: it ends with the process, and holds between threads too
    because each use opens the file anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Try to lock the file `path` for the block; yield whether this process has the lock.

    The kernel releases it when the process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
