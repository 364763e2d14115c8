"""A backup restored: into an empty place, or beside CTs that are there already.

Files are written whole, each held against its hash, the ledger last: a process that is killed
leaves a folder that no server begins anew (:mod:`atlas8k.services.studies.opening`), and the same
restore goes on from there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from atlas8k.core.files import only_one, publishing, sha256_of
from atlas8k.services.backups.make import DECISIONS, LEDGER
from atlas8k.services.backups.place import PATIENTS, Place
from atlas8k.services.backups.target import (
    Backup,
    BackupError,
    BackupTarget,
    Entry,
    Progress,
    copy_hashed,
)
from atlas8k.services.labels.service import LabelService
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.names import LABELS_FOLDER
from atlas8k.services.studies.opening import open_ledger
from atlas8k.store.schema import VERSION, is_blank
from atlas8k.store.usability import decisions_file

logger = logging.getLogger(__name__)

SERVER_LOCK = "server.lock"
"""Beside the ledger: held by the server that has these studies open."""
_INCOMING = ".incoming"


@dataclass
class Restored:
    """What a restore did.

    Attributes
    ----------
    backup
        The list of what was restored.
    files
        Files that were written.
    damaged
        Files that the backup has not as they were, with the reason; all others are there.
    aside
        Where what was there before lies now.
    notes
        What is not as it was, and follows from where it was restored.
    """

    backup: Backup
    files: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    aside: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def restore_backup(
    source: Path,
    place: Place,
    *,
    name: str | None = None,
    replace: bool = False,
    progress: Progress = iter,
) -> Restored:
    """Restore a backup; CTs are not in it, and stay as they are.

    Parameters
    ----------
    name
        Which backup, see :meth:`BackupTarget.names`; the last one by default.
    replace
        Move aside a ledger, labels and named networks that are there. Without, a place that
        holds any that are not this backup's is refused.
    progress
        Wraps the files as they are written, for a progress bar.

    Raises
    ------
    BackupError
        There is no such backup, a newer release made it, its ledger is damaged, or the place
        holds something. Nothing was changed.
    """
    shelf = BackupTarget(source)
    backup = shelf.read(name)
    if backup.schema > VERSION:
        raise BackupError(
            source,
            f"was made by a newer release ({backup.release}, ledger schema {backup.schema}; this "
            f"one knows up to {VERSION}); upgrade atlas8k, nothing was changed",
        )
    _check_ledger(shelf, backup)
    place.root.mkdir(parents=True, exist_ok=True)
    with only_one(place.state / SERVER_LOCK) as alone:
        if not alone:
            raise BackupError(place.root, "a server has these studies open; stop it first")
        work = _Restoring(shelf, backup, place)
        there = work.find_other()
        if there and not replace:
            more = f" and {len(there) - 5} more" if len(there) > 5 else ""
            raise BackupError(
                place.root,
                "holds something that is not of this backup: "
                f"{', '.join(str(path) for path in there[:5])}{more}; give --replace to move it "
                "aside, or restore elsewhere",
            )
        work.move_aside(there)
        work.run(progress)
    return work.done


def _check_ledger(shelf: BackupTarget, backup: Backup) -> Entry:
    for one in backup.entries:
        if (one.root, one.path) == ("state", LEDGER):
            path = shelf.find(one.sha256)
            if path is None:
                raise BackupError(
                    shelf.file(one.sha256),
                    f"the ledger of backup {backup.name} is gone or damaged; restore an earlier "
                    "one, see --list",
                )
            with contextlib.closing(
                sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
            ) as connection:
                found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise BackupError(path, f"the ledger of backup {backup.name} is damaged ({found})")
            return one
    raise BackupError(shelf.path, f"backup {backup.name} has no ledger")


class _Restoring:
    """One restore, of a place that nobody else uses."""

    def __init__(self, shelf: BackupTarget, backup: Backup, place: Place) -> None:
        self._shelf, self._place = shelf, place
        self.done = Restored(backup)
        self._targets = {one: self._target(one) for one in backup.entries}

    def _target(self, one: Entry) -> Path:
        ours = {
            ("state", LEDGER): self._place.ledger,
            ("state", DECISIONS): decisions_file(self._place.ledger),
        }
        return ours.get((one.root, one.path)) or self._place.folder(one.root) / one.path

    # --- what is there --------------------------------------------------------------------

    def find_other(self) -> list[Path]:
        """Return what is in the place and not of this backup."""
        place = self._place
        found = [] if is_blank(place.ledger) else [place.ledger]
        of_backup = {path: one.sha256 for one, path in self._targets.items()}
        hashes = set(of_backup.values())
        labels = place.root / LABELS_FOLDER
        for path in labels.rglob("*"):
            if not path.is_file() or _INCOMING in path.parts:
                continue
            # Of what is in place the backup has the kept file.
            sha256 = sha256_of(path)
            if sha256 != of_backup.get(path, sha256) or sha256 not in hashes:
                found.append(path)
        for one, path in self._targets.items():
            other = one.root != "studies" and path != place.ledger and path.is_file()
            if other and sha256_of(path) != one.sha256:
                found.append(path)
        return found

    def move_aside(self, there: list[Path]) -> None:
        """Move away what is there and not of this backup; nothing is deleted."""
        place, stamp = self._place, datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        labels, name = place.root / LABELS_FOLDER, f".before-restore-{stamp}"
        # A log of changes that lies beside another ledger would be written into it.
        moved = {
            path: place.state / name / path.name
            for suffix in ("", "-wal", "-shm")
            if (path := place.ledger.with_name(place.ledger.name + suffix)).exists()
        }
        for path in there:
            if path.is_relative_to(labels):
                moved[labels] = place.root / ".atlas8k" / name / LABELS_FOLDER
            elif path.is_relative_to(place.models):
                moved[path] = place.models / name / path.relative_to(place.models)
            else:
                moved[path] = place.state / name / path.name
        for path, target in moved.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            self.done.aside.append(target)

    # --- writing ------------------------------------------------------------------------

    def run(self, progress: Progress) -> None:
        """Write every file, the ledger last, and put current labels in place."""
        ledger = [one for one in self._targets if (one.root, one.path) == ("state", LEDGER)]
        for one in progress([one for one in self._targets if one not in ledger]):
            try:
                self.done.files += self._write(one, self._targets[one])
            except BackupError as error:
                self.done.damaged[one.path] = error.reason
        os.sync()  # once for all of them: without its ledger, the folder is not begun anew
        for one in ledger:
            self.done.files += self._write(one, self._targets[one], sync=True)
        self._put_in_place()
        self._note_what_differs()

    def _write(self, one: Entry, target: Path, *, sync: bool = False) -> bool:
        """Write a file; False where it is there as it was."""
        base = self._place.folder(one.root).resolve()
        if not target.parent.resolve().is_relative_to(base) and one.root != "state":
            raise BackupError(target, "would be written outside of the folder, through a link")
        if target.is_file() and target.stat().st_size == one.size:
            if sha256_of(target) == one.sha256:
                return False
            raise BackupError(target, "is there already, and is another file")
        source = self._shelf.file(one.sha256)
        # Where the next start clears away what a killed process has left.
        beside = self._place.root / LABELS_FOLDER / _INCOMING if one.root == "studies" else None
        with publishing(target, sync=sync, beside=beside) as temporary:
            try:
                found = copy_hashed(source, temporary)
            except FileNotFoundError:
                raise BackupError(source, "is not in the backup any more") from None
            if found != one.sha256:
                raise BackupError(source, "is damaged in the backup: its hash is another")
            if one.mtime_ns:
                os.utime(temporary, ns=(one.mtime_ns, one.mtime_ns))
        return True

    def _put_in_place(self) -> None:
        place = self._place
        ledger = open_ledger(place.root, place.ledger)
        with contextlib.closing(
            LabelService(StudiesFolder(place.root, ledger=ledger, watch=False))
        ) as service:
            service.folder.labels.wait_for_disk = False
            service.reconciler.recover()
        os.sync()

    def _note_what_differs(self) -> None:
        backup, place = self.done.backup, self._place
        notes = self.done.notes
        for path, reason in backup.damaged.items():
            notes.append(f"{path}: could not be backed up, {reason}")
        here = {path.name: sha256_of(path) for path in place.embedded_files()}
        if backup.embedded and here != backup.embedded:
            notes.append(
                "the networks that come with this program are others than those of the backup's: "
                "where they were served, volumes are scored again"
            )
        patients = backup.conf.get("patients")
        if patients is not None and (place.state / PATIENTS).is_file():
            notes.append(f"the table of patients is {place.state / PATIENTS}")
