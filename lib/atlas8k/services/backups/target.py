"""The folder that backups lie in: files by their hash, and one list a backup.

::

    TARGET/
      atlas8k-backup.json          says what this is, and of which format
      files/3f/3f9a...             every file that any backup has, by its sha256, once
      backups/<UTC time>.json.gz   one backup: which file lay where, with its hash
      damaged/                     files that were found altered here; they are copied anew

A backup is there when its list is, which is written last. A process that is killed leaves files
that the next backup finds and does not copy again.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from atlas8k.core.errors import FileError
from atlas8k.core.files import only_one, publishing, sync_folder, write_json
from atlas8k.services.drawings import FOLDER as DRAWINGS
from atlas8k.services.studies.names import LABELS_FOLDER

FORMAT = 1
MARK = "atlas8k-backup.json"
_KIND = "atlas8k-backup"
_BLOCK = 1 << 20
_NAME = re.compile(r"\d{8}T\d{6}(\.\d+)?Z")
_SPARE_BYTES = 64 << 20

Progress = Callable[[Iterable[Any]], Iterable[Any]]


class BackupError(FileError):
    """A backup cannot be made, read or restored; `path` is its folder or file."""


class Entry(NamedTuple):
    """A file of a backup.

    ``root`` says what ``path`` is relative to: ``studies``, ``state`` (beside the ledger) or
    ``models``. ``sha256`` is hex, ``size`` bytes, ``mtime_ns`` ns since 1970.
    """

    root: str
    path: str
    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Backup:
    """The list of one backup.

    Attributes
    ----------
    name
        Its time, UTC.
    release, schema
        Of the program that made it, and of its ledger.
    studies
        What was backed up, as it was given.
    entries
        Its files, the ledger among them (root ``state``, path ``ledger``).
    damaged
        Files that could not be backed up as they were kept, with the reason.
    embedded
        Hashes of the networks that come with the program, which are not backed up.
    conf
        Settings of the server, where they are not the default.
    """

    name: str
    release: str
    schema: int
    studies: str
    entries: tuple[Entry, ...]
    damaged: dict[str, str] = field(default_factory=dict)
    embedded: dict[str, str] = field(default_factory=dict)
    conf: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def copy_hashed(source: Path, target: Path) -> str:
    """Copy a file; return the hex sha256 of what was read."""
    digest = hashlib.sha256()
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while block := reader.read(_BLOCK):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def hash_on_disk(path: Path) -> str:
    """Return the hex sha256 of a file as the disk has it, not as it is still in memory."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        if hasattr(os, "posix_fadvise"):
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class BackupTarget:
    """A folder of backups.

    Parameters
    ----------
    path
        The folder.
    make
        Make it where there is none; a folder that holds something else is refused.

    Raises
    ------
    BackupError
        It is none, or one of a newer release.
    """

    def __init__(self, path: Path, *, make: bool = False) -> None:
        self.path = path.absolute()
        self._changed: set[Path] = set()
        mark = self.path / MARK
        if make and not mark.exists():
            self._make()
        try:
            said = json.loads(mark.read_bytes())
            kind, number = said["kind"], int(said["format"])
        except FileNotFoundError:
            raise BackupError(
                self.path, "is no folder of backups; `atlas8k backup FOLDER` makes one"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackupError(mark, f"cannot be read ({error})") from error
        if kind != _KIND:
            raise BackupError(self.path, "is a folder of another program")
        _check_format(self.path, number)

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise BackupError(
                    self.path, "holds something that is no backup; name a new or an empty folder"
                )
            write_json(self.path / MARK, {"kind": _KIND, "format": FORMAT})
        except OSError as error:
            raise BackupError(self.path, f"cannot be made or written ({error})") from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for one backup at a time; clear away what a killed one left.

        Raises
        ------
        BackupError
            Another backup is being written.
        """
        with only_one(self.path / ".lock") as alone:
            if not alone:
                raise BackupError(self.path, "another backup is being written here")
            shutil.rmtree(self.incoming, ignore_errors=True)
            self.incoming.mkdir()
            try:
                yield
            finally:
                shutil.rmtree(self.incoming, ignore_errors=True)

    @property
    def incoming(self) -> Path:
        """The folder of files that are being written."""
        return self.path / ".incoming"

    # --- files --------------------------------------------------------------------------

    def file(self, sha256: str) -> Path:
        """Return where the file of a hash lies."""
        return self.path / "files" / sha256[:2] / sha256

    def holds(self, sha256: str, size: int) -> bool:
        """Return whether the file of a hash is here, of that size."""
        try:
            return self.file(sha256).stat().st_size == size
        except OSError:
            return False

    def find(self, sha256: str) -> Path | None:
        """Return the file of a hash, checked; None where it is not here, or was altered."""
        path = self.file(sha256)
        return path if path.is_file() and hash_on_disk(path) == sha256 else None

    def add(self, source: Path, expected: str | None = None) -> str:
        """Copy a file here under its hash, and read it again; return the hash.

        Raises
        ------
        BackupError
            `source` has not the hash that is expected of it; or what was written cannot be read
            again as it was.
        OSError
            `source` cannot be read, or the disk is full.
        """
        handle, name = tempfile.mkstemp(dir=self.incoming)
        os.close(handle)
        temporary = Path(name)
        try:
            sha256 = copy_hashed(source, temporary)
            if expected not in (None, sha256):
                raise BackupError(source, "is not what was kept: its hash is another")
            if hash_on_disk(temporary) != sha256:
                raise BackupError(temporary, "cannot be read again as it was written; see the disk")
            target = self.file(sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, target)
            self._changed.add(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return sha256

    def check_room(self, needed: int) -> None:
        """Raise :class:`BackupError` where so many bytes have no room here."""
        free = shutil.disk_usage(self.path).free
        if needed + _SPARE_BYTES > free:
            raise BackupError(
                self.path, f"{needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free"
            )

    def set_damaged_aside(self, progress: Progress = iter) -> list[str]:
        """Read every file here; move aside those that are not what their names say.

        Returns
        -------
        list of str
            The hashes that are not here any more.
        """
        found = []
        for path in progress(sorted((self.path / "files").glob("*/*"))):
            if hash_on_disk(path) != path.name:
                aside = self.path / "damaged"
                aside.mkdir(exist_ok=True)
                number = sum(1 for _ in aside.glob(f"{path.name}*"))
                os.replace(path, aside / f"{path.name}{f'-{number}' if number else ''}")
                found.append(path.name)
        return found

    # --- lists --------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Return the backups that are here, the oldest first."""
        found = (path.name.removesuffix(".json.gz") for path in self.path.glob("backups/*.json.gz"))
        return sorted(name for name in found if _NAME.fullmatch(name))

    def write(self, backup: Backup) -> None:
        """Write the list of a backup whose files are here; it is there from now on."""
        for folder in self._changed:
            sync_folder(folder)
        files = self.path / "files"
        if files.is_dir():
            sync_folder(files)
        text = json.dumps({**asdict(backup), "entries": [list(one) for one in backup.entries]})
        with publishing(self.path / "backups" / f"{backup.name}.json.gz") as temporary:
            temporary.write_bytes(gzip.compress(text.encode(), mtime=0))

    def keep_last(self, number: int) -> list[str]:
        """Delete all but the last backups, and the files that only those had.

        Returns
        -------
        list of str
            The backups that are gone.

        Raises
        ------
        BackupError
            The list of one that is to stay is damaged; nothing was deleted.
        """
        names = self.names()
        gone, stay = names[:-number], names[-number:]
        if not gone:
            return []
        named = {one.sha256 for name in stay for one in self.read(name).entries}
        for name in gone:
            (self.path / "backups" / f"{name}.json.gz").unlink()
        sync_folder(self.path / "backups")
        for path in (self.path / "files").glob("*/*"):
            if path.name not in named:
                path.unlink()
        return gone

    def read(self, name: str | None = None) -> Backup:
        """Return the list of a backup, of the last one by default.

        Raises
        ------
        BackupError
            There is none of that name, it is damaged, or a newer release made it.
        """
        names = self.names()
        if not names:
            raise BackupError(self.path, "holds no whole backup")
        if name is not None and name not in names:
            raise BackupError(self.path, f"holds no backup {name}; it has {', '.join(names[-5:])}")
        path = self.path / "backups" / f"{name or names[-1]}.json.gz"
        try:
            said = json.loads(gzip.decompress(path.read_bytes()))
            _check_format(path, int(said["format"]))
            entries = tuple(Entry(*one) for one in said.pop("entries"))
            for one in entries:
                _check_entry(path, one)
            return Backup(entries=entries, **said)
        except BackupError:
            raise
        except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error) as error:
            raise BackupError(
                path, f"is damaged ({error}); restore an earlier one, see --list"
            ) from error


def _check_format(path: Path, number: int) -> None:
    if number > FORMAT:
        raise BackupError(
            path,
            f"was made by a newer release (backup format {number}, this one reads {FORMAT}); "
            "upgrade atlas8k, nothing was changed",
        )


def _check_entry(path: Path, one: Entry) -> None:
    """Raise where a list would have a file written elsewhere than a campaign has its own."""
    parts = PurePosixPath(one.path).parts
    inside = {
        "studies": len(parts) > 1 and parts[0] == LABELS_FOLDER,
        "state": len(parts) == 1 or (len(parts) == 2 and parts[0] == DRAWINGS),
        "models": len(parts) > 0,
    }.get(one.root, False)
    if not inside or ".." in parts or "/" in parts:
        raise BackupError(path, f"names a file that no campaign has there: {one.root} {one.path}")
