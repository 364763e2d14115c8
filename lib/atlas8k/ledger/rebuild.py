"""A new ledger from the label files that are there, when the old one is lost.

Label files carry what people drew and say in their headers who drew it, when, in how many
minutes, under which model signature, what that means for each organ and where each
organ's voxels come from (:mod:`atlas8k.labels.provenance`). Files without that are
compared with the start label, and with what the server noted beside them. Label files do
not carry scores (the next scoring run makes them again), leases, exclusions, rounds and
which questions a reviewer has answered: those are only in a backup.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas8k.errors import LedgerError, VolumeError
from atlas8k.labels.provenance import Provenance, read_provenance
from atlas8k.ledger.errors import LedgerReadOnlyError
from atlas8k.ledger.ledger import Ledger
from atlas8k.ledger.records import Holder, LabelFile, OrganSource, VolumeEntry
from atlas8k.ledger.unnamed import told_by_voxels
from atlas8k.volume import NIFTI_SUFFIXES, Volume, read_label

logger = logging.getLogger(__name__)

FINAL, ORIGINAL = "final", "original"
NOT_REBUILT = (
    "scores, leases, minutes of files that do not say them, exclusions, rounds and questions "
    "that reviewers have answered"
)

_NEVER = 60.0 * 24 * 365 * 1000  # minutes
_REVIEWER = "rebuilt from the assembled label"


@dataclass(frozen=True)
class LabelOnDisk:
    """A label file, in force or replaced.

    Parameters
    ----------
    volume, tag, path
        Whose label it is, its tag, and the file.
    written_at
        UTC seconds since 1970.
    info
        What was noted beside it: ``client_id``, ``model_signature``, ``absent`` are used
        where the file itself does not say.
    in_force
        It is the volume's label of its tag now.
    """

    volume: str
    tag: str
    path: Path
    written_at: float
    info: Mapping[str, Any] = field(default_factory=dict)
    in_force: bool = False


@dataclass
class Rebuilt:
    """What was found, and the files of which only the existence could be noted."""

    volumes: int = 0
    submissions: int = 0
    labels: int = 0
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
        self._volumes: dict[str, _Volume] = {}

    def take(self, label: LabelOnDisk) -> None:
        """Note a file, and what it says."""
        volume = self._volumes.setdefault(label.volume, _Volume())
        said = self._provenance(label)
        self.now = label.written_at
        self.ledger.add_volumes([label.volume])
        signature = _signature(label, said)
        if signature and self.ledger.register_signature(
            signature, {"rebuilt": True}, new_round=False
        ):
            logger.info("model signature %s is named by %s", signature, label.path.name)
        sha256 = _sha256(label.path)
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
            self.ledger.set_sources(label.volume, _of_dataset(said))
        if said is not None and said.kind == "assembled":
            volume.assembled = said
        if label.tag in (ORIGINAL, FINAL):
            volume.start = label

    def _submit(
        self, label: LabelOnDisk, said: Provenance | None, volume: _Volume, sha256: str
    ) -> int:
        """Book a submitted label as its header says, else as its voxels do."""
        name, detail = label.volume, {"rebuilt": True}
        holder, number, begun_from, organs = _holder(label.info), None, None, None
        current = self.ledger.in_force(name)
        if said is not None and said.kind == "submission":
            holder = Holder(said.holder, said.anonymous) if said.holder else holder
            organs = said.changes
            number = said.submission if self._free(said.submission) else None
            begun_from = said.detail.get("begun_from")
            self.now = label.written_at if said.at is None else said.at
        elif (after := self._read(label)) is not None:
            before = None if volume.start is None else self._read(volume.start)
            organs = told_by_voxels(before, after, label.info)
        begun_from = volume.number(begun_from)
        # The last submission it can have known; where a file does not say, the one before.
        known = volume.number(said.detail.get("base")) if said else None
        known = begun_from if known is None else known
        if known is None or known == (current.id if current else 0):
            if current is not None:
                self.ledger.reopen(name)
            self._lease(name, holder, said)
        content = said.detail.get("content") if said else None
        booked = self.ledger.submit(
            name,
            holder,
            file=str(label.path),
            sha256=sha256,
            signature=_signature(label, said),
            organs=organs,
            detail=detail,
            number=number,
            content=content if isinstance(content, str) else None,
            begun_from=begun_from,
            start_sha256=said.start_sha256 if said else None,
        ).id
        volume.by_sha256[sha256] = booked
        if said is not None and said.submission is not None:
            volume.by_number[said.submission] = booked
        self.report.submissions += 1
        return booked

    def _lease(self, name: str, holder: Holder, said: Provenance | None) -> None:
        """From the lease the ledger counts the minutes."""
        if said is None or said.minutes is None:
            return
        at, self.now = self.now, self.now - 60 * said.minutes
        self.ledger.lease(name, holder, signature=said.signature)
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
        """Put in force what is, and decide organs as the assembled label has them."""
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

    def _provenance(self, label: LabelOnDisk) -> Provenance | None:
        if not label.path.name.endswith(NIFTI_SUFFIXES):
            return None
        try:
            return read_provenance(label.path)
        except VolumeError as error:
            self.report.unreadable[str(label.path)] = error.reason
            return None

    def _read(self, label: LabelOnDisk) -> Volume | None:
        try:
            return read_label(label.path)
        except VolumeError as error:
            self.report.unreadable[str(label.path)] = error.reason
            return None


def _of_dataset(said: Provenance) -> dict[str, OrganSource]:
    """What a public label can say; nothing else is taken from it."""
    return {
        organ: OrganSource("public", source.state, source.dataset)
        for organ, source in said.organs.items()
        if source.state == "unknown"
        or (source.source == "public" and source.state in ("present", "absent"))
    }


def _signature(label: LabelOnDisk, said: Provenance | None) -> str | None:
    signature = (said and said.signature) or label.info.get("model_signature")
    return signature if isinstance(signature, str) else None


def _holder(info: Mapping[str, Any]) -> Holder:
    client = info.get("client_id")
    return Holder.identify(client_id=client if isinstance(client, str) else None)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
