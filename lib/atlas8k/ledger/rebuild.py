"""A new ledger from the label files that are there, when the old one is lost.

Label files carry what people drew and say in their headers who drew it, when, in how many
minutes, under which model signature, what that means for each organ and where each
organ's voxels come from (:mod:`atlas8k.labels.provenance`). Files without that are
compared with the start label, and with what the server noted beside them. Which CTs people
called unusable is in a file beside the ledger (:mod:`atlas8k.ledger.usability`). Scores (the
next scoring run makes them again), leases, rounds and which questions a reviewer has answered
are only in a backup.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from atlas8k.errors import LedgerError
from atlas8k.labels.provenance import Provenance
from atlas8k.ledger.errors import LedgerReadOnlyError
from atlas8k.ledger.ledger import Ledger
from atlas8k.ledger.rebuild_files import (
    FINAL,
    ORIGINAL,
    LabelOnDisk,
    Reader,
    changes_by_voxels,
    holder_of,
    of_dataset,
    signature_of,
)
from atlas8k.ledger.records import Holder, LabelFile, OrganChange, VolumeEntry
from atlas8k.ledger.usability import decisions_file

__all__ = ["NOT_REBUILT", "LabelOnDisk", "Rebuilt", "rebuild"]

logger = logging.getLogger(__name__)

NOT_REBUILT = (
    "scores, leases, minutes of files that do not say them, rounds and questions that reviewers "
    "have answered"
)

_NEVER = 60.0 * 24 * 365 * 1000  # minutes
_CLOSING = {"note": "rebuilt from label files"}
_REVIEWER = "rebuilt from the assembled label"


@dataclass
class Rebuilt:
    """What was found, and the files of which only the existence could be noted.

    ``unchecked`` are labels in ``labels/final`` that came by no server: the next start of
    one checks them and imports them, or sets them aside. ``decisions`` are those of people
    whether a volume is usable.
    """

    volumes: int = 0
    decisions: int = 0
    submissions: int = 0
    labels: int = 0
    unchecked: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def rebuild(
    target: Path,
    volumes: Iterable[str | VolumeEntry],
    labels: Iterable[LabelOnDisk],
    progress: Callable[[Iterable[LabelOnDisk]], Iterable[LabelOnDisk]] = iter,
) -> Rebuilt:
    """Write a new ledger to `target` from volumes and label files.

    Parameters
    ----------
    target
        Must not exist yet: a ledger that can be read is worth more than a rebuilt one.
    progress
        Wraps the files as they are read, for a progress bar.

    Raises
    ------
    LedgerFileError
        `target` exists or cannot be written.
    """
    if target.exists():
        raise LedgerReadOnlyError(target, "exists; move it away first, a rebuilt one knows less")
    unfinished = target.with_name(f".{target.name}.rebuild")
    _remove(unfinished)
    work = _Rebuilding(unfinished)
    try:
        work.report.volumes = work.ledger.sync_volumes(volumes)[0]
        # All volumes by time: numbers of submissions then come in their old order.
        for label in progress(sorted(labels, key=lambda one: (one.written_at, one.path))):
            work.take(label)
        work.finish()
        try:
            work.report.decisions = work.ledger.restore_decisions(target)
        except LedgerError as error:
            work.report.unreadable[str(decisions_file(target))] = str(error)
        work.ledger.backup(target)
    finally:
        work.ledger.close()
        _remove(unfinished)
    return work.report


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@dataclass
class _Volume:
    """What has been read of a volume so far."""

    start: LabelOnDisk | None = None
    by_sha256: dict[str, int] = field(default_factory=dict)
    by_number: dict[int, int] = field(default_factory=dict)
    files: dict[int, LabelOnDisk] = field(default_factory=dict)
    assembled: Provenance | None = None
    in_force: int | None = None

    def number(self, old: object) -> int | None:
        """The number here of a submission of the ledger that is lost, 0 for none."""
        return self.by_number.get(old, 0) if isinstance(old, int) else None


class _Rebuilding:
    """A ledger that files are read into, oldest first."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        # No lease runs out: whether a submission was late is not in the files.
        self.ledger = Ledger(path, clock=lambda: self.now, lease_minutes=_NEVER)
        self.report = Rebuilt()
        self._read = Reader()
        self._volumes: dict[str, _Volume] = {}

    def take(self, label: LabelOnDisk) -> None:
        """Note a file, and what it says."""
        volume = self._volumes.setdefault(label.volume, _Volume())
        said = self._read.provenance(label)
        self.now = label.written_at
        self.ledger.add_volumes([label.volume])
        if label.tag == FINAL and label.in_force and said is None and not label.info:
            self.report.unchecked.append(str(label.path))
            return
        signature = signature_of(label, said)
        if signature and self.ledger.register_signature(
            signature, {"rebuilt": True}, new_round=False
        ):
            logger.info("model signature %s is named by %s", signature, label.path.name)
        with label.path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        submission = None
        if label.tag == FINAL:
            submission = volume.by_sha256.get(sha256)
            if submission is None:
                submission = self._submit(label, said, volume, sha256)
            if label.in_force:
                volume.in_force = submission
        self.now = label.written_at
        kept = LabelFile(
            label.tag, str(label.path), sha256, signature, submission, label.written_at
        )
        self.ledger.keep_label(label.volume, kept)
        self.report.labels += 1
        if said is not None and said.kind == "public":
            self.ledger.set_sources(label.volume, of_dataset(said))
        if said is not None and said.kind == "assembled":
            volume.assembled = said
        if label.tag in (ORIGINAL, FINAL):
            volume.start = label

    def _submit(
        self, label: LabelOnDisk, said: Provenance | None, volume: _Volume, sha256: str
    ) -> int:
        """Book a submitted label as its header says, else as its voxels do."""
        name, detail = label.volume, {"rebuilt": True}
        holder, number, begun_from, organs = holder_of(label.info), None, None, None
        current = self.ledger.in_force(name)
        if said is not None and said.kind == "submission":
            holder = Holder(said.holder, said.anonymous) if said.holder else holder
            organs = said.changes
            number = said.submission if self._free(said.submission) else None
            begun_from = said.detail.get("begun_from")
            self.now = label.written_at if said.at is None else said.at
        elif (after := self._read.voxels(label)) is not None:
            organs = changes_by_voxels(self._read.voxels(volume.start), after, label.info)
        begun_from = volume.number(begun_from)
        stated = said.detail if said else {}
        # The last submission it can have known; where a file does not say, the one before.
        known = volume.number(stated.get("base"))
        known = begun_from if known is None else known
        purpose, agreement = stated.get("purpose"), dict[str, OrganChange]()
        if purpose == "double_read" and current is not None:
            # Beside the one in force, not after it: neither reader knew the other's label.
            self._lease(name, holder, said, "double_read")
            agreement = self._read.agreement(volume.files.get(current.id), label)
        elif known is None or known >= (current.id if current else 0):
            # It may have known more than the one in force: a second reading beside that.
            if current is not None:
                self.ledger.reopen(name)
            self._lease(name, holder, said, "review" if purpose == "review" else "revise")
        content = stated.get("content")
        booked = self.ledger.submit(
            name,
            holder,
            file=str(label.path),
            sha256=sha256,
            signature=signature_of(label, said),
            organs=organs,
            detail=detail,
            number=number,
            content=content if isinstance(content, str) else None,
            begun_from=begun_from,
            start_sha256=said.start_sha256 if said else None,
            second_reading=bool(stated.get("second_reading")),
            agreement=agreement,
        ).id
        volume.by_sha256[sha256] = booked
        volume.files[booked] = label
        if said is not None and said.submission is not None:
            volume.by_number[said.submission] = booked
        self.report.submissions += 1
        return booked

    def _lease(self, name: str, holder: Holder, said: Provenance | None, purpose: str) -> None:
        """From the lease the ledger counts the minutes."""
        if said is None or said.minutes is None:
            return
        at, self.now = self.now, self.now - 60 * said.minutes
        self.ledger.lease(name, holder, signature=said.signature, purpose=purpose)
        self.now = at

    def _free(self, number: int | None) -> bool:
        if number is None or number < 1:
            return False
        try:
            self.ledger.submission(number)
        except LedgerError:
            return True
        return False

    def finish(self) -> None:
        """Put in force what is, and decide organs as the assembled label has them.

        Which rounds the submissions came in is not in the files. They are all in one, which
        ends here: the first round that goes on has its whole budget, and a list of what is left.
        """
        self.report.unreadable = self._read.unreadable
        for name, volume in self._volumes.items():
            current = self.ledger.in_force(name)
            if current is not None and volume.in_force not in (None, current.id):
                assert volume.in_force is not None
                self.ledger.resolve(name, volume.in_force)
            made = volume.assembled
            current = self.ledger.in_force(name)
            if made is None or current is None:
                continue
            if volume.by_number.get(made.submission or 0) != current.id:
                continue  # of an earlier submission
            for organ, source in self.ledger.sources(name).items():
                stated = made.organs.get(organ)
                if source.source == "public" and stated is not None and not stated.disputed:
                    choice = stated.source
                    if choice == "revised" or (choice == "public" and source.disputed):
                        self.ledger.choose(name, organ, choice, _REVIEWER)
        self.ledger.close_round(_CLOSING)
