"""A backup made: the store as it is at one moment, and every file that it names.

The ledger is copied first, by SQLite's own online backup, while others go on writing. Kept label
files never change and are on disk before the ledger names them: whatever that copy names can be
copied after it. What came later is in the next backup.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from atlas8k import __version__
from atlas8k.core.files import sha256_of
from atlas8k.services.backups.place import PATIENTS, Place
from atlas8k.services.backups.target import Backup, BackupError, BackupTarget, Entry, Progress
from atlas8k.services.drawings import FOLDER as DRAWINGS
from atlas8k.services.drawings import NOTE
from atlas8k.services.studies.labels import HISTORY, TIME_FORMAT
from atlas8k.services.studies.names import LABEL_SUFFIXES, LABELS_FOLDER, REJECTED, split_suffix
from atlas8k.services.studies.scan import scan_tags
from atlas8k.services.studies.set_aside import SET_ASIDE
from atlas8k.store import FileIdentity, Ledger
from atlas8k.store.schema import VERSION
from atlas8k.store.usability import decisions_file

logger = logging.getLogger(__name__)

LEDGER = "ledger"
"""Path of the ledger in a backup, root ``state``, whatever its file is called."""
LAST = "backup:last"
"""Setting of the ledger: when and where it was backed up last, see :func:`last_backup`."""


@dataclass
class Made:
    """What a backup did.

    Attributes
    ----------
    backup
        Its list.
    copied, copied_bytes
        Files that were not there yet.
    altered
        Files of earlier backups that were found altered in the target, and moved aside.
    gone
        Earlier backups that were deleted, as told.
    """

    backup: Backup
    copied: int = 0
    copied_bytes: int = 0
    altered: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class _Wanted(NamedTuple):
    """A file to back up: where its bytes may be read, and the hash that it is to have."""

    root: str
    path: str
    sources: tuple[Path, ...]
    sha256: str | None


def make_backup(
    target: Path,
    place: Place,
    *,
    verify: bool = False,
    keep: int | None = None,
    progress: Progress = iter,
) -> Made:
    """Back up a campaign into a folder; the server may go on meanwhile.

    Parameters
    ----------
    target
        Made where there is none. It may hold earlier backups: what they have is not copied again.
    verify
        Read everything that is there already, too; what was altered is copied anew.
    keep
        Delete all but so many of the last backups afterwards, at least 1.
    progress
        Wraps the files as they are copied, for a progress bar.

    Raises
    ------
    BackupError
        `target` cannot be used, has no room, or lies in the studies folder. The backups that
        are there stay as they are.
    LedgerFileError
        The ledger cannot be used.
    """
    target = target.absolute()
    if target.resolve().is_relative_to(place.root.resolve()):
        raise BackupError(target, "lies in the studies folder; a backup belongs on another disk")
    shelf = BackupTarget(target, make=True)
    try:
        with shelf.alone():
            altered = shelf.set_damaged_aside(progress) if verify else []
            ledger = Ledger(place.ledger)
            try:
                ledger.note("export", kind="backup")  # before: the copy says it, too
                copy = ledger.backup(shelf.incoming / LEDGER)
                made = _Making(shelf, place, copy).run(progress)
                made.altered = altered
                if keep is not None:
                    made.gone = shelf.keep_last(keep)
                with ledger.write(durable=True) as tx:
                    tx.set(LAST, f"{time.time():.0f} {target}")
            finally:
                ledger.close()
    except OSError as error:
        raise BackupError(
            target, f"cannot be written ({error}); the backup was not made"
        ) from error
    return made


def last_backup(ledger: Ledger) -> tuple[float, str] | None:
    """Return when a ledger was backed up last, UTC seconds, and where; None: never."""
    with ledger.read() as tx:
        said = tx.setting(LAST)
    if said is None:
        return None
    at, _, target = said.partition(" ")
    return float(at), target


class _Making:
    """One backup: a copy of the ledger, and the files that it names.

    Parameters
    ----------
    copy
        The ledger as it is at one moment.
    """

    def __init__(self, shelf: BackupTarget, place: Place, copy: Path) -> None:
        self._shelf, self._place, self._copy = shelf, place, copy
        self._damaged: dict[str, str] = {}
        self._named: dict[str, tuple[str, set[Path]]] = {}
        self._stamps: dict[tuple[str, str], set[tuple[int, int]]] = defaultdict(set)
        self._drawn: dict[str, str] = {}
        self._known: dict[tuple[str, str, int, int], str] = {}
        with contextlib.suppress(BackupError):  # there is none yet, or it is damaged
            self._known = {
                (one.root, one.path, one.size, one.mtime_ns): one.sha256
                for one in shelf.read().entries
            }

    def run(self, progress: Progress) -> Made:
        """Copy what is not there yet, and write the list."""
        self._read_ledger()
        wanted = [
            _Wanted("state", LEDGER, (self._copy,), None),
            *self._drawings(),  # first: the next save replaces one
            *self._kept(),
            *self._other_labels(),
            *self._state(),
            *self._models(),
        ]
        missing = [one for one in wanted if self._held(one) is None]
        self._shelf.check_room(sum(_size(one) for one in missing))
        made = Made(self._list(()))
        entries = []
        for one in progress(wanted):
            entry = self._held(one)
            if entry is None:
                entry = self._add(one)
                if entry is not None:
                    made.copied += 1
                    made.copied_bytes += entry.size
            if entry is not None:
                entries.append(entry)
        made.backup = self._list(tuple(entries))
        self._shelf.write(made.backup)
        return made

    def _list(self, entries: tuple[Entry, ...]) -> Backup:
        conf = self._place.settings().get("conf")
        return Backup(
            name=datetime.now(UTC).strftime(TIME_FORMAT),
            release=__version__,
            schema=VERSION,
            studies=_USER.sub("//", self._place.studies),
            entries=entries,
            damaged=self._damaged,
            embedded={path.name: sha256_of(path) for path in self._place.embedded_files()},
            conf={str(k): str(v) for k, v in conf.items()} if isinstance(conf, dict) else {},
        )

    # --- what there is ------------------------------------------------------------------

    def _read_ledger(self) -> None:
        """Read from the copy which label files there are, and where else each lies."""
        root = self._place.root
        with contextlib.closing(sqlite3.connect(self._copy)) as connection:
            for image, tag, file, ext, sha256, size, mtime_ns in connection.execute(
                "SELECT v.image, l.tag, v.file, v.ext, v.sha256, v.size, v.mtime_ns"
                " FROM label_version v LEFT JOIN label l ON l.version = v.id"
            ):
                if Path(file).is_absolute():  # of a rebuild without a studies folder
                    self._damaged[file] = "lies outside of the studies folder"
                    continue
                places = self._named.setdefault(file, (sha256, set()))[1]
                if tag is not None:
                    places.add(root / LABELS_FOLDER / tag / (image + ext))
                self._stamps[image, ext].add((size, mtime_ns))
            self._drawn = dict(connection.execute("SELECT file, sha256 FROM drawing"))

    def _drawings(self) -> Iterator[_Wanted]:
        """Yield what was drawn and not submitted, with what is noted beside each."""
        folder = self._place.state / DRAWINGS
        for file, sha256 in sorted(self._drawn.items()):
            yield _Wanted("state", f"{DRAWINGS}/{file}", (folder / file,), sha256)
            if (note := folder / (file + NOTE)).is_file():
                yield _Wanted("state", f"{DRAWINGS}/{note.name}", (note,), None)

    def _kept(self) -> Iterator[_Wanted]:
        """Yield the label files that the ledger names; a copy in place stands in for each."""
        for file, (sha256, places) in sorted(self._named.items()):
            sources = (self._place.root / file, *sorted(places))
            yield _Wanted("studies", file, sources, sha256)

    def _other_labels(self) -> Iterator[_Wanted]:
        """Yield what lies in the labels folder and is in the ledger under no name."""
        labels = self._place.root / LABELS_FOLDER
        found = [path for folder in _FOLDERS for path in sorted((labels / folder).rglob("*"))]
        for tag in scan_tags(labels):
            for path in sorted((labels / tag).iterdir()):
                parts, stamp = split_suffix(path.name, LABEL_SUFFIXES), FileIdentity.of(path)
                # A copy of a kept file is made again from that.
                own = parts is not None and self._stamps.get(parts, set())
                if stamp is None or not own or stamp.stamp not in own:
                    found.append(path)
        for path in found:
            name = str(path.relative_to(self._place.root))
            if path.is_file() and name not in self._named:
                yield _Wanted("studies", name, (path,), None)

    def _state(self) -> Iterator[_Wanted]:
        for path in self._place.state_files():
            name = path.name
            if path == decisions_file(self._place.ledger):
                name = DECISIONS
            yield _Wanted("state", name, (path,), None)
        conf = self._place.settings().get("conf")
        patients = conf.get("patients") if isinstance(conf, dict) else None
        if isinstance(patients, str) and Path(patients).is_file():
            yield _Wanted("state", PATIENTS, (Path(patients),), None)

    def _models(self) -> Iterator[_Wanted]:
        for path in self._place.model_files():
            yield _Wanted("models", str(path.relative_to(self._place.models)), (path,), None)

    # --- copying ------------------------------------------------------------------------

    def _held(self, one: _Wanted) -> Entry | None:
        """Return the entry of a file that the target has already; None: it is to be copied."""
        found = FileIdentity.of(one.sources[0])
        if found is None:
            return None
        sha256 = one.sha256 or self._known.get((one.root, one.path, *found.stamp))
        if sha256 is None or not self._shelf.holds(sha256, found.size):
            return None
        return Entry(one.root, one.path, sha256, *found.stamp)

    def _add(self, one: _Wanted) -> Entry | None:
        """Copy a file from the first place that has it whole; None, and the reason, from none."""
        why = "is gone"
        for source in one.sources:
            before = FileIdentity.of(source)
            if before is None:
                continue
            try:
                sha256 = self._shelf.add(source, one.sha256)
            except BackupError as error:
                why = error.reason
                continue
            return Entry(one.root, one.path, sha256, *before.stamp)
        if one.sha256 is not None and self._shelf.file(one.sha256).is_file():
            # An earlier backup has it.
            size = self._shelf.file(one.sha256).stat().st_size
            return Entry(one.root, one.path, one.sha256, size, 0)
        if one.sha256 is not None:  # others come and go, as what waits to be looked at
            self._damaged[one.path] = why
        return None


_USER = re.compile(r"//[^/@]*@")
_FOLDERS = (HISTORY, REJECTED, SET_ASIDE)
DECISIONS = "decisions.json"
"""Path of the decisions about CTs in a backup, root ``state``."""


def _size(one: _Wanted) -> int:
    found = FileIdentity.of(one.sources[0])
    return 0 if found is None else found.size
