"""The labels of a studies folder: files and ledger together, one volume at a time.

Every way a label comes in (a submission, a pseudo label, a public one) and every decision
about one ends here, so that ``labels/final`` and ``labels/original`` are what the ledger
says. Nothing here imports MONAI Label: commands use it as the server does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.findings import Finding
from atlas8k.core.structures import ORGAN_IDS, in_use
from atlas8k.core.volume import Grid, read_label
from atlas8k.core.voxels import counts, only
from atlas8k.labels.provenance import Provenance
from atlas8k.labels.public import UNKNOWN_TAG
from atlas8k.services.labels.drafts import (
    PSEUDO,
    PUBLIC,
    DraftLabels,
    as_json,
    label_names,
    model_version,
)
from atlas8k.services.labels.existing_labels import ExistingLabels
from atlas8k.services.labels.reconcile import Reconciler
from atlas8k.services.labels.recorded import recorded_text
from atlas8k.services.labels.reviews import Reviews
from atlas8k.services.labels.submissions import Prepared, Submissions
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL, StudiesFolder
from atlas8k.services.studies.opening import open_ledger
from atlas8k.services.studies.versions import Version, Versions
from atlas8k.store import (
    BLIND,
    Assistance,
    Holder,
    NewLabel,
    OrganChange,
    OrganSource,
    Seen,
    Submission,
    is_url,
    label_files,
    locate,
    provenance,
    volumes,
)
from atlas8k.store.transaction import Transaction

MANAGED = (FINAL, ORIGINAL, PSEUDO, PUBLIC, UNKNOWN_TAG, label_files.BESIDE)
"""Tags of labels that only the label service writes."""


@dataclass(frozen=True)
class Receipt:
    """What became of a submission.

    Attributes
    ----------
    changes
        What was recorded of each organ.
    disputes
        Public organs it changes, for a reviewer to decide.
    review
        Kinds of question it has raised.
    is_current
        Whether it is the label of the volume now.
    again
        It had come before; nothing was booked anew.
    notes
        How the file was taken, where it could be taken in more than one way: that it was
        snapped, on which of the CT's forms it lies, what its values were cut at; and what
        anatomy has against it.
    findings
        What anatomical rules have against the label; they warn, and change nothing.
    """

    submission: Submission
    changes: dict[str, OrganChange] = field(default_factory=dict)
    disputes: tuple[str, ...] = ()
    review: tuple[str, ...] = ()
    is_current: bool = True
    again: bool = False
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def recorded(self) -> str:
        """What was recorded of each organ, one line."""
        return recorded_text(self.changes)

    @property
    def organs(self) -> dict[str, str]:
        """State by organ, see :class:`~atlas8k.store.records.OrganChange`."""
        return {organ: change.state for organ, change in self.changes.items()}


class LabelService:
    """Take labels in, and keep those of one studies folder.

    Parameters
    ----------
    folder
        The studies folder.
    review_percent, double_read_percent
        Share of the submissions that a reviewer looks at, of the volumes that two people
        read; chosen by a hash, so that it is the same wherever it is asked.
    from_scratch
        A second reader begins with no label.

    Attributes
    ----------
    versions
        Every version of every label.
    reconciler
        Locks volumes, and brings files to what the ledger says.
    existing
        Labels that were in the folder before.
    reviews
        History, reviews, restoring.
    """

    def __init__(
        self,
        folder: StudiesFolder,
        *,
        review_percent: float = 0.0,
        double_read_percent: float = 0.0,
        from_scratch: bool = False,
    ) -> None:
        self.folder, self.ledger = folder, folder.ledger
        self.review_percent, self.double_read_percent = review_percent, double_read_percent
        self.from_scratch = from_scratch
        self.versions = Versions(folder)
        self._drafts = DraftLabels(folder)
        self.reconciler = Reconciler(folder, self._drafts)
        self._submissions = Submissions(folder, self.versions, self._drafts, self.reconciler)
        self._submissions.from_scratch = from_scratch
        self.existing = ExistingLabels(folder, self._submissions, self.reconciler)
        self.reviews = Reviews(self.ledger, self.versions, self.reconciler)

    @classmethod
    def open(cls, studies: str | Path, ledger: Path | None = None) -> Self:
        """Open a studies folder, or what is known of an archive, for a command: unwatched.

        Parameters
        ----------
        studies
            Folder of CTs, or the URL of a DICOMweb server that a server has been started on.
            That is asked for nothing but the CTs that are needed.
        ledger
            Its ledger; where the server has it by default.

        Raises
        ------
        StudiesFolderError, LedgerFileError
            Folder or ledger cannot be used.
        """
        path = ledger or locate(str(studies))
        if is_url(str(studies)):
            from atlas8k.services.archive.client import Archive
            from atlas8k.services.archive.folder import WORKING, ArchiveFolder

            archive = Archive(str(studies).strip())
            root = path.parent / WORKING
            series = ArchiveFolder(root, archive, ledger=open_ledger(root, path), watch=False)
            series.look()
            return cls(series)
        folder = StudiesFolder(studies, ledger=open_ledger(Path(studies), path), watch=False)
        folder.refresh()
        return cls(folder)

    def close(self) -> None:
        """Close files; any further use opens them again."""
        self.folder.close()
        self.ledger.close()

    # --- labels that come in ------------------------------------------------------------

    def submit(
        self,
        volume: str,
        sent: Path,
        holder: Holder,
        params: Mapping[str, Any] | None = None,
        *,
        lease: int | None = None,
        helped: Mapping[str, Sequence[Assistance]] | None = None,
        blind: bool = False,
    ) -> Receipt:
        """Take in what an annotator saved.

        The same file sent again, as after a reply that got lost, is booked once.

        Parameters
        ----------
        sent
            The file as it came.
        params
            What the client sent with it: ``label_info``, ``client_id``, and what it says of
            the organs, see :class:`~atlas8k.labels.submission_diff.Statement`.
        lease
            The lease it belongs to, where the client says so.
        helped
            What had helped with organs that are taken from other labels.
        blind
            It is a gold case, and the holder was shown nothing of the current submission.

        Raises
        ------
        VolumeError
            It is refused; the current label stays.
        """
        ready = self._submissions.prepare(
            volume, sent, holder, params or {}, lease, helped, blind=blind
        )
        notes = tuple(ready.detail.get("notes", ()))
        with self.reconciler.lock(volume):
            known = self.ledger.same_again(volume, holder, ready.content)
            if known is not None:
                again = self._receipt(known)
                return replace(again, again=True, notes=notes, findings=ready.findings)
            booked = self._submissions.record(
                ready,
                sample=self._sampled(ready),
                second_reading=chosen(f"double {volume}", self.double_read_percent),
            )
            return replace(self._receipt(booked), notes=notes, findings=ready.findings)

    def take_in(
        self, volume: str, sent: Path, holder: Holder, params: Mapping[str, Any]
    ) -> Receipt:
        """Take in a revision that is no review of the volume, such as a repair.

        It counts in no round; a volume that was open stays open, and is given out with it.

        Raises
        ------
        VolumeError
            It is refused; the current label stays.
        """
        was_open = self.ledger.status(volume) == "open"
        receipt = self.adopt(volume, sent, holder, params)
        if was_open and receipt.is_current:
            self.ledger.reopen(volume)
        return receipt

    def adopt(
        self,
        volume: str,
        sent: Path,
        holder: Holder,
        params: Mapping[str, Any],
        helped: Mapping[str, Sequence[Assistance]] | None = None,
    ) -> Receipt:
        """Take in a label that was made elsewhere: the volume is submitted, and in no round.

        Parameters
        ----------
        helped
            What helped with which organ there.

        Raises
        ------
        VolumeError
            It is refused; the current label stays.
        """
        ready = self._submissions.prepare(volume, sent, holder, params, helped=helped)
        with self.reconciler.lock(volume):
            receipt = self._receipt(self._submissions.record(ready, adopted=True))
        return replace(receipt, findings=ready.findings)

    def check(
        self,
        volume: str,
        sent: Path,
        holder: Holder,
        params: Mapping[str, Any],
        *,
        lease: int | None = None,
    ) -> Prepared:
        """Return what :meth:`submit` would book; nothing is.

        Raises
        ------
        VolumeError
            It would be refused.
        """
        return self._submissions.prepare(volume, sent, holder, params, lease)

    def start_label(self, volume: str, holder: Holder, lease: int | None) -> Version | None:
        """Return what a holder of that lease was given to correct."""
        return self._submissions.start(
            volume, self.ledger.submission_context(volume, holder, lease)
        )

    def first_start(self, volume: str) -> Version | None:
        """Return what a second reader is given: the draft label of the first, or nothing."""
        return self._submissions.first_start(volume)

    def seen_label(self, volume: str, seen: Seen, tag: str = ORIGINAL) -> Version | None:
        """Return the label, draft or final, that a gold case has for who sees it so.

        Without a reading of theirs, the draft label is the one that the first reader was given.
        """
        if seen.own is None:
            return self._submissions.given_first(volume) if tag == ORIGINAL else None
        own = self.ledger.submission(seen.own)
        if tag == FINAL:
            found = self.versions.find(volume, own.sha256 or "")
        else:
            with self.ledger.read() as tx:
                draft = label_files.draft_of(tx, volume, own.restored or own.id)
            found = self.versions.of(draft) if draft else self.versions.current(volume, PSEUDO)
        return found and replace(found, info={**found.info, "submission": own.id})

    def _sampled(self, ready: Prepared) -> bool:
        return chosen(f"review {ready.volume} {ready.content}", self.review_percent)

    def _receipt(self, booked: Submission) -> Receipt:
        # What a second reader is told must not say what the first has drawn.
        blind = booked.purpose in BLIND
        current = self.ledger.current_submission(booked.volume)
        asked = [one for one in self.ledger.reviews(booked.volume) if one.submission == booked.id]
        changes = self.ledger.changes(booked.id)
        disputes = [one.organ for one in asked if one.kind == "dispute" and one.organ]
        kinds = set() if blind else {one.kind for one in asked}
        if booked.purpose == "gold":  # as is said of any first reading
            public = self.ledger.dataset_organs(booked.volume).items()
            disputes = [
                organ
                for organ, one in public
                if one.source == "public"
                and organ in changes
                and changes[organ].state in provenance.CHANGED
            ]
            kinds = {"dispute"} if disputes else set()
        return Receipt(
            booked,
            changes,
            tuple(disputes),
            tuple(sorted(kinds)),
            blind or (current is not None and current.id == booked.id),
        )

    def keep_pseudo(
        self, volume: str, array: npt.NDArray[np.uint8], grid: Grid, info: Mapping[str, Any]
    ) -> None:
        """Keep what the networks predict; organs nothing better is known of change with it.

        Parameters
        ----------
        array
            ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the CT's own grid `grid`.
        info
            ``model_version`` and what else is to be kept beside it, JSON-able.
        """
        self.folder.known_image(volume)
        voxels = counts(array)
        known = {
            "params": label_names(),
            **info,
            "voxels": {organ: int(voxels[i]) for organ, i in ORGAN_IDS.items()},
        }
        origin = Provenance("pseudo", model_version=model_version(known))
        with self.reconciler.lock(volume):
            label = self._drafts.write(volume, PSEUDO, array, grid, origin, known)
            # Not durable: what a crash of the machine takes back is scored again. Whoever asks for
            # the next sample would wait for the disk.
            self.reconciler.change(
                volume, lambda tx: enter(tx, volume, label), anew=True, durable=False
            )

    def keep_public(
        self,
        volume: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        organs: Mapping[str, OrganSource],
    ) -> None:
        """Keep a public label; its organs become public ones.

        Organs of an earlier public label of this volume stay unless named again.

        Parameters
        ----------
        array
            ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the CT's own grid `grid`.
        organs
            What the dataset says of each organ: source ``public`` with state ``present``
            or ``absent``, and ``unknown`` (source ``pseudo``) where it says nothing.

        Raises
        ------
        NotFoundError
            No such image.
        GridMismatchError
            `array` or `grid` is not the CT's.
        LedgerError
            `organs` says what no dataset can say.
        """
        own = self._drafts.grid(volume)
        if not own.same_as(grid) or array.shape != own.shape:
            raise GridMismatchError(
                f"public label of {volume}", f"shape {array.shape} or position is not the CT's"
            )
        with self.reconciler.lock(volume):
            self.ledger.add_volumes([volume])
            before = still_said(self.ledger.dataset_organs(volume), organs)
            made = self._with_earlier(volume, array, organs, before)
            stated = {**organs, **before}
            origin = Provenance("public", organs=stated)
            info = {"organs": as_json(stated), "params": label_names()}
            label = self._drafts.write(volume, PUBLIC, made, own, origin, info)

            def record(tx: Transaction) -> None:
                enter(tx, volume, label)
                provenance.set_sources(tx, volume, organs)

            self.reconciler.change(volume, record, anew=True)

    def _with_earlier(
        self,
        volume: str,
        array: npt.NDArray[np.uint8],
        organs: Mapping[str, OrganSource],
        before: Mapping[str, OrganSource],
    ) -> npt.NDArray[np.uint8]:
        """Return the public label with organs that an earlier one of another dataset has."""
        now = present(organs)
        made = only(array, (ORGAN_IDS[o] for o in now))
        earlier = self.versions.current(volume, PUBLIC)
        stay = [ORGAN_IDS[o] for o in present(before)]
        if earlier is not None and stay:
            old = only(read_label(earlier.path).array, stay)
            free = made == 0
            for outer, parts in in_use().parts.items():  # a tumour lies on top of its organ
                free |= (made == outer) & np.isin(old, [part for part in parts if part != outer])
            np.copyto(made, old, where=free & (old != 0))
        return made


def enter(tx: Transaction, volume: str, label: NewLabel) -> None:
    """Enter a label file that is not a submission and make it current for its tag."""
    volumes.ensure(tx, volume)
    label_files.make_current(tx, volume, label.tag, label_files.add(tx, volume, label), label.info)


def present(organs: Mapping[str, OrganSource]) -> list[str]:
    """Organs that a public label has voxels of."""
    return [o for o, s in organs.items() if s.source == "public" and s.state == "present"]


def still_said(
    before: Mapping[str, OrganSource], organs: Mapping[str, OrganSource]
) -> dict[str, OrganSource]:
    """Return what earlier public labels say that a new one neither says anew nor takes back.

    An organ that is unknown to one dataset may be known to another.
    """
    return {
        organ: source
        for organ, source in before.items()
        if (new := organs.get(organ)) is None
        or (new.state == "unknown" and source.state != "unknown" and new.dataset != source.dataset)
    }


def chosen(key: str, percent: float) -> bool:
    """Whether `key` is among so many per cent, the same at every call."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return number < percent / 100 * 2**64
