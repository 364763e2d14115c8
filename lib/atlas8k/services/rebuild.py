"""A new ledger from the label files that are there, when the old one is lost.

Label files carry what people drew and say in their headers who drew it, when, in how many
minutes, under which model version, what that means for each organ and where each
organ's voxels come from (:mod:`atlas8k.labels.provenance`). Files without that are
compared with the draft label, and with what the server noted beside them. Which CTs people
called unusable is in a file beside the ledger (:mod:`atlas8k.store.usability`), what was drawn and
not submitted in a folder there (:mod:`atlas8k.services.drawings`). Scores (the next scoring run
makes them again), leases, rounds, looks of a sweep and which questions a reviewer has answered
are only in a backup.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from atlas8k.core.errors import LedgerError
from atlas8k.core.files import sha256_of
from atlas8k.labels.provenance import Provenance
from atlas8k.services.drawings import FOLDER as DRAWINGS
from atlas8k.services.drawings import noted
from atlas8k.services.rebuild_files import (
    FINAL,
    ORIGINAL,
    LabelOnDisk,
    Reader,
    changes_by_voxels,
    labels_on_disk,
    model_version_of,
    of_dataset,
)
from atlas8k.services.studies.labels import LabelFiles
from atlas8k.services.studies.names import IMAGE_SUFFIXES, LABEL_SUFFIXES, split_suffix
from atlas8k.services.studies.opening import structures_beside, use_structures
from atlas8k.services.studies.scan import scan_images
from atlas8k.store import BLIND, FileIdentity, FolderIndex, NewLabel, label_files
from atlas8k.store.errors import LedgerReadOnlyError
from atlas8k.store.ledger import Ledger
from atlas8k.store.records import Holder, OrganChange, Submission, VolumeEntry
from atlas8k.store.usability import decisions_file

__all__ = ["NOT_REBUILT", "LabelOnDisk", "Rebuilt", "rebuild", "rebuild_ledger"]

logger = logging.getLogger(__name__)

NOT_REBUILT = (
    "scores, leases, minutes of files that do not say them, rounds, the audit trail, looks of a "
    "sweep, what tools helped with in drawings that are not submitted, and questions that "
    "reviewers have answered"
)

_NEVER = 60.0 * 24 * 365 * 1000  # minutes


@dataclass
class Rebuilt:
    """What was found, and the files of which only the existence could be noted.

    ``unchecked`` are labels in ``labels/final`` that came by no server: the next start of
    one checks them and imports them, or sets them aside. ``decisions`` are those of people
    whether a volume is usable; ``drawings`` what was drawn in the browser and not submitted.
    ``gold`` are the volumes of which a later submission was taken for a reading of a gold case:
    its file does not tell that from two submissions that crossed.
    """

    volumes: int = 0
    decisions: int = 0
    drawings: int = 0
    submissions: int = 0
    labels: int = 0
    unchecked: list[str] = field(default_factory=list)
    gold: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def rebuild(
    target: Path,
    volumes: Iterable[str | VolumeEntry],
    labels: Iterable[LabelOnDisk],
    progress: Callable[[Iterable[LabelOnDisk]], Iterable[LabelOnDisk]] = iter,
    studies: Path | None = None,
    gold: Collection[str] = (),
) -> Rebuilt:
    """Write a new ledger to `target` from volumes and label files.

    Parameters
    ----------
    target
        Must not exist yet: a ledger that can be read is worth more than a rebuilt one.
    progress
        Wraps the files as they are read, for a progress bar.
    studies
        The studies folder: current labels that are nowhere else are kept in its history.
    gold
        Names of the gold cases: what several people have read of these crosses nothing.

    Raises
    ------
    LedgerFileError
        `target` exists or cannot be written.
    """
    if target.exists():
        raise LedgerReadOnlyError(target, "exists; move it away first, a rebuilt one knows less")
    unfinished = target.with_name(f".{target.name}.rebuild")
    _remove(unfinished)
    work = _Rebuilding(unfinished, studies)
    work.gold = frozenset(gold)
    work.ledger.set_gold(gold)
    use_structures(work.ledger, None, None if studies is None else structures_beside(studies))
    try:
        work.report.volumes = work.ledger.sync_volumes(volumes)[0]
        # All volumes by time: numbers of submissions then come in their old order.
        in_order = sorted(labels, key=lambda one: (one.written_at, one.path))
        work.find_unanswered(in_order)
        for label in progress(in_order):
            work.take(label)
        work.finish()
        work.restore_drawings(target.parent / DRAWINGS)
        try:
            work.report.decisions = work.ledger.restore_decisions(target)
        except LedgerError as error:
            work.report.unreadable[str(decisions_file(target))] = str(error)
        work.note()
        work.ledger.backup(target)
    finally:
        work.ledger.close()
        _remove(unfinished)
    return work.report


def rebuild_ledger(
    studies: Path,
    target: Path,
    progress: Callable[[Iterable[LabelOnDisk]], Iterable[LabelOnDisk]] = iter,
    gold: Collection[str] = (),
) -> tuple[Rebuilt, list[Path]]:
    """Rebuild the ledger of a studies folder in its place; one that is there is moved aside.

    Returns
    -------
    Rebuilt
        What was found.
    list of Path
        Where the files of the ledger lie that was there.

    Raises
    ------
    LedgerFileError
        `target` cannot be written; what was there is there again.
    """
    moved = _move_aside(target)
    former = moved[0][1].resolve() if moved else None
    try:
        report = rebuild(
            target,
            sorted(scan_images(studies, IMAGE_SUFFIXES).files),
            list(labels_on_disk(studies, former)),
            progress,
            studies=studies,
            gold=gold,
        )
    except BaseException:
        for old, new in moved:
            new.replace(old)
        raise
    return report, [new for _, new in moved]


def _move_aside(target: Path) -> list[tuple[Path, Path]]:
    """Move a ledger with its log; return the old and new path of each file."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    moved = []
    for suffix in ("", "-wal", "-shm"):
        old = target.with_name(target.name + suffix)
        if old.exists():
            moved.append((old, target.with_name(f"{target.name}.{stamp}{suffix}")))
            old.replace(moved[-1][1])
    return moved


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@dataclass
class _Volume:
    """What has been read of a volume so far."""

    draft: LabelOnDisk | None = None
    by_sha256: dict[str, int] = field(default_factory=dict)
    by_number: dict[int, int] = field(default_factory=dict)
    by_request: dict[tuple[object, ...] | None, int] = field(default_factory=dict)
    files: dict[int, LabelOnDisk] = field(default_factory=dict)
    fused: Provenance | None = None
    gold: set[int] = field(default_factory=set)
    current: int | None = None

    def number(self, old: object) -> int | None:
        """Return the number here of a submission of the ledger that is lost, 0 for none."""
        return self.by_number.get(old, 0) if isinstance(old, int) else None


class _Rebuilding:
    """A ledger that files are read into, oldest first."""

    def __init__(self, path: Path, studies: Path | None) -> None:
        self.now = 0.0
        self.gold: Collection[str] = ()
        # No lease runs out: whether a submission was late is not in the files.
        self.ledger = Ledger(path, clock=lambda: self.now, lease_minutes=_NEVER, audited=False)
        self._files = None
        if studies is not None:
            self._files = LabelFiles(studies.resolve(), FolderIndex(self.ledger))
        self.report = Rebuilt()
        self._read = Reader()
        self._volumes: dict[str, _Volume] = {}
        self._booked: set[int | None] = set()
        self._unanswered: set[Path] = set()

    def find_unanswered(self, labels: Iterable[LabelOnDisk]) -> None:
        """Find files of submissions that were written, never recorded, and sent again.

        A process was killed in between. The number that such a file says was given to another
        submission afterwards; and its holder has sent the same once more, under whatever lease.
        """
        said = [
            (label, found)
            for label in labels
            if label.tag == FINAL and not label.is_current
            if (found := self._read.provenance(label)) is not None and found.kind == "submission"
        ]
        last_of = {found.submission: label.path for label, found in said}
        content = {
            label.path: (label.volume, found.holder, found.detail.get("content"))
            for label, found in said
            if found.detail.get("content")
        }
        last_sent = {key: path for path, key in content.items()}
        for label, found in said:
            if last_of[found.submission] == label.path or label.path not in content:
                continue
            if last_sent[content[label.path]] != label.path:
                self._unanswered.add(label.path)

    def take(self, label: LabelOnDisk) -> None:
        """Note a file, and what it says."""
        volume = self._volumes.setdefault(label.volume, _Volume())
        sha256, readable = self._hash_of(label)
        found = self._read.provenance(readable)
        self.now = label.written_at
        self.ledger.add_volumes([label.volume])
        if label.tag == FINAL and label.is_current and found is None and not label.info:
            self.report.unchecked.append(str(label.path))
            return
        origin = found or Provenance("pseudo")
        model_version = model_version_of(label, origin)
        if model_version and self.ledger.register_model_version(
            model_version, {"rebuilt": True}, new_round=False
        ):
            logger.info("model version %s is named by %s", model_version, label.path.name)
        submission = None
        if label.path in self._unanswered:
            logger.info("%s: was sent again before it was recorded", label.path)
        elif label.tag == FINAL:
            if self._is_altered(label, origin, volume, sha256):
                return
            submission = volume.by_sha256.get(sha256) or volume.by_request.get(_request(origin))
            if submission is None:
                submission = self._submit(label, origin, volume, sha256)
            if label.is_current:
                volume.current = submission
        self.now = label.written_at
        if origin.kind == "assembled" and origin.submission in volume.gold:
            label = replace(label, tag=label_files.BESIDE)
        elif origin.kind == "assembled":
            volume.fused = origin
        self.report.labels += self._enter(label, sha256, model_version, submission)
        if origin.kind == "public":
            self.ledger.set_sources(label.volume, of_dataset(origin))
        if label.tag in (ORIGINAL, FINAL):
            volume.draft = label

    def _hash_of(self, label: LabelOnDisk) -> tuple[str, LabelOnDisk]:
        """Return the hash that a label file was kept under, and a file that has it, if any."""
        found = sha256_of(label.path)
        named = None if label.is_current else NAMED.search(label.path.name)
        if named is None or named.group(1) == found:
            return found, label
        self._read.unreadable[str(label.path)] = (
            "is not what was kept: its name says another hash; to be put back from a copy or a "
            "backup by `atlas8k doctor --fix`"
        )
        parts = split_suffix(label.path.name, LABEL_SUFFIXES)
        if self._files is not None and parts is not None:
            served = self._files.path(label.volume, label.tag, parts[1])
            if served.is_file() and sha256_of(served) == named.group(1):
                return named.group(1), replace(label, path=served)
        return named.group(1), label

    def _is_altered(
        self, label: LabelOnDisk, origin: Provenance, volume: _Volume, sha256: str
    ) -> bool:
        """Return whether a file in place was a submission's, which is kept, and was changed."""
        if not label.is_current or origin.kind != "submission" or sha256 in volume.by_sha256:
            return False
        number = volume.by_number.get(origin.submission or 0)
        if number is None:
            return False
        volume.current = number
        self._read.unreadable[str(label.path)] = (
            f"was changed in place; the file of submission {number} is kept, and is current. "
            "`atlas8k doctor --fix` sets this one aside"
        )
        return True

    def _enter(
        self, label: LabelOnDisk, sha256: str, model_version: str | None, submission: int | None
    ) -> bool:
        """Enter a file as a version of its label, and as the current one where it is.

        Return whether it is another one than those entered before.
        """
        found = FileIdentity.of(label.path)
        assert found is not None
        info = {**label.info, **({"model_version": model_version} if model_version else {})}
        if submission is not None:
            info["submission"] = submission
        with self.ledger.write() as tx:
            kept = label_files.find(tx, label.volume, sha256)
            number = kept.id if kept is not None and kept.tag == label.tag else None
            is_new = number is None
            if number is None:
                parts = split_suffix(label.path.name, LABEL_SUFFIXES)
                ext = parts[1] if parts is not None else label.path.suffix
                file = self._keep(label, ext)
                new = NewLabel(label.tag, file, ext, sha256, found.stamp, info)
                number = label_files.add(tx, label.volume, new, submission=submission)
            if label.is_current:
                label_files.make_current(tx, label.volume, label.tag, number, info)
        return is_new

    def _keep(self, label: LabelOnDisk, ext: str) -> str:
        """Return where a file is kept for good, relative to the studies folder."""
        files = self._files
        if files is None:
            return str(label.path)
        if not label.is_current:
            return str(label.path.relative_to(files.root))
        return files.copy_of(label.volume, label.tag, label.path, ext, {}).file

    def _submit(self, label: LabelOnDisk, origin: Provenance, volume: _Volume, sha256: str) -> int:
        """Book a submitted label as its header says, else as its voxels do."""
        name, current, detail = (
            label.volume,
            self.ledger.current_submission(label.volume),
            origin.detail,
        )
        client = label.info.get("client_id")
        holder = Holder.identify(client_id=client if isinstance(client, str) else None)
        number, begun_from, organs = None, None, None
        if origin.kind == "submission":
            holder = Holder(origin.holder, origin.anonymous) if origin.holder else holder
            organs = origin.changes
            if (origin.submission or 0) > 0 and origin.submission not in self._booked:
                number = origin.submission
            begun_from = volume.number(detail.get("begun_from"))
            self.now = label.written_at if origin.at is None else origin.at
        elif (after := self._read.voxels(label)) is not None:
            organs = changes_by_voxels(self._read.voxels(volume.draft), after, label.info)
        # The last submission it can have known; where a file does not say, the one before.
        known = volume.number(detail.get("base"))
        known = begun_from if known is None else known
        purpose, agreement = detail.get("purpose"), dict[str, OrganChange]()
        if self._is_gold(name, holder, current, begun_from, purpose):
            purpose = "gold"
            volume.gold.add(origin.submission or 0)
            self.report.gold = sorted({*self.report.gold, name})
        if purpose in BLIND and current is not None:
            # Beside the current one, not after it: neither reader knew the other's label.
            self._lease(name, holder, origin, str(purpose))
            if purpose == "double_read":
                agreement = self._read.agreement(volume.files.get(current.id), label)
        elif known is None or known >= (current.id if current else 0):
            # Begun from the current one, or from a later one that was not current.
            if current is not None:
                self.ledger.reopen(name)
            self._lease(name, holder, origin, "review" if purpose == "review" else "revise")
        content = detail.get("content")
        found = {key: detail[key] for key in ("places", "quality", "tools") if detail.get(key)}
        booked = self.ledger.submit(
            name,
            holder,
            file=str(label.path),
            sha256=sha256,
            model_version=model_version_of(label, origin),
            organs=organs,
            detail={"rebuilt": True, **found},
            number=number,
            content=content if isinstance(content, str) else None,
            begun_from=begun_from,
            start_sha256=origin.start_sha256,
            second_reading=bool(detail.get("second_reading")),
            agreement=agreement,
            blind=purpose == "gold",
        ).id
        self._booked.add(booked)
        volume.by_sha256[sha256] = booked
        if _request(origin) is not None:
            volume.by_request[_request(origin)] = booked
        volume.files[booked] = label
        if origin.submission is not None:
            volume.by_number[origin.submission] = booked
        self.report.submissions += 1
        return booked

    def _is_gold(
        self,
        name: str,
        holder: Holder,
        current: Submission | None,
        begun_from: int | None,
        purpose: object,
    ) -> bool:
        """Return whether a reading was a gold case's, which its file does not say.

        It began from another label than the current one, and is somebody else's.
        """
        other = current is not None and current.holder != holder.key and begun_from != current.id
        return other and purpose == "revise" and name in self.gold

    def _lease(self, name: str, holder: Holder, origin: Provenance, purpose: str) -> None:
        """Lease a volume for the minutes that a label took; the ledger counts them from it."""
        if origin.minutes is not None:
            at, self.now = self.now, self.now - 60 * origin.minutes
            self.ledger.lease(name, holder, model_version=origin.model_version, purpose=purpose)
            self.now = at

    def note(self) -> None:
        """Say in the audit trail that what it has is from here on only."""
        with closing(Ledger(self.ledger.path)) as ledger:
            ledger.note("rebuilt", submissions=self.report.submissions, labels=self.report.labels)

    def finish(self) -> None:
        """Make current what is, and decide organs as the fused label has them.

        Which rounds the submissions came in is not in the files. They are all in one, which
        ends here: the first round that goes on has its whole budget, and a list of what is left.
        """
        self.report.unreadable = self._read.unreadable
        for name, volume in self._volumes.items():
            current = self.ledger.current_submission(name)
            if current is None:
                continue
            number = volume.current or current.id
            if number != current.id:
                self.ledger.resolve(name, number)
            self._make_final_current(name, number)
            fused = volume.fused
            if fused is None or volume.by_number.get(fused.submission or 0) != number:
                continue  # or it is of an earlier submission
            for organ, source in self.ledger.sources(name).items():
                stated = fused.organs.get(organ)
                if source.source == "public" and stated is not None and not stated.disputed:
                    choice = stated.source
                    if choice == "revised" or (choice == "public" and source.disputed):
                        self.ledger.choose(name, organ, choice, "rebuilt from the assembled label")
        self.ledger.close_round({"note": "rebuilt from label files"})

    def restore_drawings(self, folder: Path) -> None:
        """Enter what was drawn in the browser, unless its holder has submitted since."""
        for drawing, _ in noted(folder):
            submitted = [
                one.submitted_at
                for one in self.ledger.submissions(drawing.volume)
                if one.holder == drawing.holder
            ]
            if max(submitted, default=0.0) > drawing.saved_at:
                continue
            self.now = drawing.saved_at
            self.ledger.add_volumes([drawing.volume])
            self.report.drawings += self.ledger.restore_drawing(drawing)

    def _make_final_current(self, name: str, number: int) -> None:
        """Make the current submission's file the current label where none in place was it."""
        sha256 = self.ledger.submission(number).sha256
        with self.ledger.write() as tx:
            kept = None if sha256 is None else label_files.find(tx, name, sha256)
            if kept is not None and label_files.current(tx, name, FINAL) is None:
                label_files.make_current(tx, name, FINAL, kept.id, kept.info)


NAMED = re.compile(r"-([0-9a-f]{64})\.")
"""The hash in the name of a kept file."""


def _request(origin: Provenance) -> tuple[object, ...] | None:
    """Return what two files of one submission share, None where a file does not say it.

    A process that was killed after it wrote the file left one that nobody knew of; its
    annotator got no reply, and sent the label again. See also
    :meth:`_Rebuilding.find_unanswered`.
    """
    content = origin.detail.get("content")
    if origin.kind != "submission" or not content:
        return None
    given_out = None
    if origin.minutes is not None and origin.at is not None:
        given_out = round(origin.at - 60 * origin.minutes, 2)
    # Without a lease: what it can have known of those before.
    return (origin.holder, content, origin.detail.get("base"), given_out)
