"""The cases that somebody has open or has submitted: what is there, and what may be done with them.

OHIF can show a case but not submit one; this is where it is confirmed, corrected or given
back. Nothing here knows how a request looks.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlas8k.attention.explain import PLANES
from atlas8k.attention.quality_model import in_words
from atlas8k.core.grid import Grid
from atlas8k.core.remarks import Remark
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, Organ
from atlas8k.core.volume import read_grid, read_label, write_nifti
from atlas8k.core.voxels import counts
from atlas8k.labels.editing import fill_between, keep_largest, take_organ
from atlas8k.labels.ingest import ingest
from atlas8k.labels.plausibility import find_odd_volumes
from atlas8k.labels.submission_diff import Statement
from atlas8k.services.context import Context
from atlas8k.services.drawings import Drawings
from atlas8k.services.errors import ConflictError, NotFoundError, RequestError
from atlas8k.services.labels.reviews import Revision
from atlas8k.services.labels.service import Receipt
from atlas8k.services.studies.names import check_id
from atlas8k.services.studies.versions import Version
from atlas8k.store import Holder, Lease, Offer, OrganChange, Submission

PREDICTED = "predicted"
SHOWN_REGIONS = 10
SHOWN_SUBMISSIONS = 20
CHECKED_KEPT_S = 2 * 3600.0
Tool = Literal["largest", "between", "take"]
_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class OrganLine:
    """An organ of a draft label.

    ``ml`` is its volume there, 0 where it has no voxel; ``asked`` what is odd about that;
    ``quality`` the predicted Dice of a pseudo label, in words.
    """

    name: str
    ml: float
    source: str
    asked: str | None
    quality: str = ""


@dataclass(frozen=True)
class Case:
    """A case in somebody's hands.

    Attributes
    ----------
    lease
        Number of the lease; actions name it.
    seconds_left
        Until the lease runs out.
    rank, ranked
        Place in the priority list and how long that is; ``None`` without a score.
    attention_ml
        Attention size.
    regions
        The largest first, as :class:`~atlas8k.attention.explain.RegionNote`.
    organs
        Of the draft label; empty where there is none.
    study
        StudyInstanceUID, where the studies are a DICOM archive.
    note
        What a reviewer said when returning it.
    remarks
        What was found in the CT's file.
    familiar
        Whether the CT is like the training CTs, as kept with its score; else empty.
    findings
        What anatomical rules have against the draft label: ``organ``, ``rule``, ``text``.
    quality_basis
        What the predicted Dice of its organs rests on; empty where none is known.
    """

    image: str
    lease: int
    holder: str
    seconds_left: float
    rank: int | None
    ranked: int
    attention_ml: float | None
    plane: str
    slices: int
    regions: tuple[Mapping[str, Any], ...]
    organs: tuple[OrganLine, ...]
    study: str | None
    note: str
    remarks: tuple[Remark, ...] = ()
    familiar: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Mapping[str, str], ...] = ()
    quality_basis: str = ""


@dataclass(frozen=True)
class Checked:
    """What would be recorded of an uploaded label.

    Attributes
    ----------
    lease
        Of the case.
    token
        What the file is fetched by.
    odd
        What is odd about the volume of an organ, changed or not.
    partial
        What was said of the rest, where it covers a part of the CT.
    """

    lease: int
    token: str
    organs: dict[str, OrganChange]
    odd: dict[str, str]
    partial: bool | None


class Cases:
    """What one person has, under one or more keys, and may do with it.

    Parameters
    ----------
    holders
        Who asks: the first is what new leases and entries go by, the others are the same
        person under other keys (a browser before a name was typed).
    client
        Client id or typed name, for the records.
    """

    def __init__(
        self, context: Context, holders: Sequence[Holder], client: str | None = None
    ) -> None:
        self.context, self._labels, self._ledger = context, context.label_service, context.ledger
        self._client = {"client_id": client} if client else {}
        self._holders = {one.key: one for one in holders}
        self._me = holders[0]
        self.drawings = Drawings(context, list(self._holders))

    # --- what is there ------------------------------------------------------------------

    def open(self) -> list[Case]:
        """Return the cases that this person holds, the one that runs out first on top."""
        mine = [one for one in self._ledger.leases() if one.holder in self._holders]
        mine.sort(key=lambda one: (one.expires_at, one.volume))
        model_version = self.context.ranked_by()
        return [self._case(one, model_version) for one in mine]

    def look(self, image: str) -> Case:
        """Return one case, in this person's hands or not: then its lease is 0.

        Raises
        ------
        NotFoundError
            There is no such case.
        """
        return self._case(self._held_or_not(image), self.context.ranked_by())

    def past(self) -> list[tuple[Revision, bool]]:
        """Return this person's last submissions, newest first, and which cases are theirs again."""
        mine = {one.volume for one in self._ledger.leases() if one.holder in self._holders}
        mine |= {one.volume for one in self._ledger.offers() if one.holder in self._holders}
        return [
            (line, one.volume in mine)
            for one in self._ledger.submitted_by(list(self._holders), SHOWN_SUBMISSIONS)
            for line in self._labels.reviews.history(one.volume)
            if line.submission.id == one.id
        ]

    def returned(self) -> list[Offer]:
        """Return what a reviewer has returned to this person, with a note, and nobody holds."""
        held = {one.volume for one in self._ledger.leases()}
        return [
            one
            for one in self._ledger.offers()
            if one.holder in self._holders and one.note and one.volume not in held
        ]

    def start_label(self, image: str, lease: int | None = None) -> Version:
        """Return the label that a case of this person's began with.

        Raises
        ------
        ConflictError
            It is not in this person's hands.
        NotFoundError
            It has none yet.
        """
        held = self._held(image, lease)
        version = self._start(held)
        if version is None:
            raise NotFoundError("draft label", f"{image} has none yet: it was not scored")
        return version

    def begins_with(self, image: str) -> Version | None:
        """Return the label that a case begins with, in this person's hands or not."""
        return self._start(self._held_or_not(image))

    def is_own(self, one: Submission) -> bool:
        """Return whether a submission is this person's."""
        return self._author(one) in self._holders

    # --- what may be done ---------------------------------------------------------------

    def confirm(self, image: str, said: Mapping[str, Any], *, lease: int | None = None) -> Receipt:
        """Submit the draft label as it is, without the organs that are not there.

        Parameters
        ----------
        said
            What is said of its organs, see :class:`~atlas8k.labels.submission_diff.Statement`.

        Raises
        ------
        RequestError
            Nothing is said: there is nothing to confirm.
        ConflictError
            The case is not in this person's hands.
        NotFoundError
            It has no draft label.
        """
        held = self._held(image, lease)
        version = self.start_label(image, held.id)
        statement = Statement.of(said)
        if not (statement.absent or statement.looked_at or statement.all_looked_at):
            raise RequestError(
                f'{image}: say what you looked at: looked_at, a list of organs or "all", and '
                "absent, organs that are not there; nothing was recorded"
            )
        with _without(version, sorted(statement.absent)) as path:
            return self._submit(held, path, said)

    def upload(
        self, image: str, sent: Path, said: Mapping[str, Any], *, lease: int | None = None
    ) -> Receipt:
        """Submit a corrected label; `said` is as in :meth:`confirm`.

        Raises
        ------
        ConflictError
            The case is not in this person's hands.
        VolumeError
            The label is refused; the current one stays.
        """
        return self._submit(self._held(image, lease), sent, said)

    def check(
        self, image: str, sent: Path, said: Mapping[str, Any], *, lease: int | None = None
    ) -> Checked:
        """Keep a corrected label and say what would be recorded of it; nothing is submitted.

        Raises
        ------
        ConflictError, VolumeError
            As :meth:`upload`.
        """
        held = self._held(image, lease)
        ready = self._labels.check(image, sent, _holder(held), said, lease=held.id)
        voxels = {organ: change.voxels_after or 0 for organ, change in ready.organs.items()}
        odd = find_odd_volumes(ready.array, ready.grid, voxels)
        token = self._store(sent, image, held)
        return Checked(held.id, token, ready.organs, odd, said.get("partial"))

    def checked(self, image: str, token: str, *, lease: int | None = None) -> Path:
        """Return a file that :meth:`check` has kept.

        Raises
        ------
        ConflictError
            The case is not in this person's hands.
        NotFoundError
            There is no such file any more.
        """
        pattern = f"{token}-{_whose(image, self._held(image, lease))}-*"
        found = list(self._checked.glob(pattern)) if _TOKEN.fullmatch(token) else []
        if not found:
            raise NotFoundError("label that was checked", f"of {image}; upload and check it again")
        return found[0]

    def change(
        self,
        image: str,
        sent: Path,
        do: Tool,
        organ: Organ,
        *,
        plane: str = "axial",
        other: Path | None = None,
    ) -> tuple[npt.NDArray[np.uint8], Grid, int]:
        """Return a label as a tool of :mod:`atlas8k.labels.editing` changes it.

        Parameters
        ----------
        plane
            Of the slices to fill between: ``axial``, ``coronal`` or ``sagittal``.
        other
            The label that `take` takes the organ from.

        Returns
        -------
        array, grid, slices
            ``(X, Y, Z)`` uint8 on the CT's grid as clients get it; how many slices were filled.

        Raises
        ------
        VolumeError
            A label does not fit the CT.
        """
        self._known(image)
        grid = read_grid(self.context.studies.image_path(image))
        label, filled = ingest(sent, grid, may_be_empty=True).array, 0
        if do == "take" and other is not None:
            taken = ingest(other, grid, may_be_empty=True).array
            label = take_organ(label, taken, organ.id)
        elif do == "largest":
            label = keep_largest(label, organ.id)
        elif do == "between":
            begun = self.begins_with(image)
            before = None if begun is None else read_label(begun.path).array
            letters = [PLANES.get(letter, "axial") for letter in grid.orientation]
            label, filled = fill_between(
                label, before, organ.id, letters.index(plane), grid.spacing
            )
        return label, grid.served, filled

    def release(self, image: str, *, lease: int | None = None) -> bool:
        """Give a case back without submitting; one that was opened again is closed by it.

        Returns
        -------
        bool
            It is closed: the current label stays, and nobody gets the case.

        Raises
        ------
        ConflictError
            It is not in this person's hands.
        """
        self._known(image)
        held = self._mine(image, lease)
        closed = [key for key in self._holders if self._ledger.close_again(image, key)]
        if held is not None:
            self._ledger.release(image, _holder(held))
        elif not closed:
            raise _not_held(image)
        return bool(closed)

    def take(self, image: str) -> Lease:
        """Take a case by name, such as one just given back.

        Raises
        ------
        ConflictError
            Somebody else has it, or it is submitted: that is opened again by who did it.
        NotFoundError
            There is no such case.
        """
        self._known(image)
        state, offers = self._ledger.status(image), self._ledger.offers()
        offer = next((one for one in offers if one.volume == image), None)
        if offer is not None and offer.holder not in self._holders:
            raise ConflictError(f"{image}: is kept for a second look; it comes with Next Sample")
        if offer is None and state not in ("open", "leased"):
            raise ConflictError(f"{image}: is {state}; open it again if you have submitted it")
        found = self._ledger.lease(image, self._me, model_version=self.context.ranked_by())
        if found is None:
            raise ConflictError(f"{image}: somebody else has it now; try again later")
        return found

    def renew(self, image: str, lease: int) -> Lease:
        """Keep a case for another full time: its holder is at work on it.

        Raises
        ------
        ConflictError
            It is not in this person's hands any more; says what can be done.
        NotFoundError
            There is no such case.
        """
        held = self._held(image, lease)
        found = self._ledger.renew(held.id)
        if found is None:
            raise _not_held(image)
        return found

    def at_hand(self, image: str) -> Lease:
        """Return the lease of a case of this person's, taken or opened again now if need be.

        Raises
        ------
        ConflictError, NotFoundError
            As :meth:`take` and :meth:`reopen`.
        """
        self._known(image)
        if (held := self._mine(image, None)) is not None:
            return held
        current = self._ledger.current_submission(image)
        own = current is not None and self._author(current) in self._holders
        return self.reopen(image) if own else self.take(image)

    def reopen(self, image: str) -> Lease:
        """Open a case again that this person submitted, and take it.

        Raises
        ------
        ConflictError
            It is somebody else's, is open already, or somebody has it.
        """
        self._own_in_force(image)
        if self._ledger.status(image) == "conflict":
            raise ConflictError(f"{image}: two submissions crossed; a reviewer decides")
        if any(one.volume == image for one in self._ledger.leases()):
            raise ConflictError(f"{image}: somebody has it now; try again later")
        self._labels.reviews.reopen(image, to=self._me.key, reviewer=self._me.key)
        return self.take(image)

    def restore(self, image: str, submission: int) -> Submission:
        """Make an own submission current again.

        Raises
        ------
        ConflictError
            It, or the current one now, is somebody else's.
        """
        self._known(image)
        if self._author(self._labels.reviews.own(image, submission)) not in self._holders:
            raise ConflictError(f"{image}: submission {submission} is somebody else's")
        self._own_in_force(image)
        return self._labels.reviews.restore(image, submission, self._me)

    def exclude(self, image: str, reason: str) -> None:
        """Leave a CT out until somebody includes it; its holder no longer has it.

        Raises
        ------
        RequestError
            No reason is given.
        NotFoundError
            There is no such volume.
        ConflictError
            Somebody else works on it.
        """
        self._listed(image)
        if not reason.strip():
            raise RequestError(f"{image}: say why it is not usable")
        leases = [one for one in self._ledger.leases() if one.volume == image]
        if any(one.holder not in self._holders for one in leases):
            raise ConflictError(f"{image}: somebody else works on it now; try again later")
        self._ledger.exclude(image, reason, _holder(leases[0]) if leases else self._me)

    def include(self, image: str, reason: str) -> bool:
        """Let a CT count again; False where it does.

        Raises
        ------
        NotFoundError
            There is no such volume.
        """
        self._listed(image)
        return self._ledger.include(image, reason, self._me)

    # --- how ----------------------------------------------------------------------------

    def _listed(self, image: str) -> None:
        self.context.sync()
        self.context.know(image)

    def _case(self, held: Lease, model_version: str | None) -> Case:
        volume, ledger = held.volume, self._ledger
        noted = self.context.calibrations.explanation(volume, model_version) or {}
        if self._from_scratch(volume):
            noted = {}
        notes = [one.note for one in ledger.offers() if one.volume == volume]
        return Case(
            image=volume,
            lease=held.id,
            holder=held.holder,
            seconds_left=max(0.0, held.expires_at - time.time()),
            rank=ledger.rank(volume, model_version) if model_version else None,
            ranked=ledger.progress(model_version).scored if model_version else 0,
            attention_ml=noted.get("attention_ml"),
            plane=str(noted.get("plane", "")),
            slices=int(noted.get("slices", 0)),
            regions=tuple(noted.get("regions", ())[:SHOWN_REGIONS]),
            organs=self._organs(held, noted.get("quality") or {}),
            quality_basis=str(noted.get("quality_basis", "")),
            study=self._study(volume),
            note=notes[0] if notes else "",
            remarks=self._labels.folder.now().remarks(volume),
            familiar=noted.get("familiar") or {},
            findings=self._findings(volume),
        )

    def _from_scratch(self, volume: str) -> bool:
        """Return whether a volume is read a second time, without anything to begin with."""
        return self._labels.from_scratch and volume in self._ledger.read_twice()

    def _findings(self, volume: str) -> tuple[Mapping[str, str], ...]:
        """Return what is found in a draft label; a second reader began from the pseudo label."""
        ledger = self.context.ledger
        twice = volume in ledger.read_twice()
        if self._from_scratch(volume):
            return ()
        found = ledger.findings(volume).get("pseudo") if twice else ledger.current_findings(volume)
        return tuple(one._asdict() for one in found or ())

    def _organs(
        self, held: Lease, quality: Mapping[str, Mapping[str, Any]]
    ) -> tuple[OrganLine, ...]:
        version = self._start(held)
        if version is None:
            return ()
        ml, asked = measured(version.path, version.sha256)
        said = version.info.get("organs") or {}
        lines = []
        for name in ORGAN_NAMES:
            source = _source(said.get(name, {}))
            # Of what the networks said; what somebody drew is not for them to judge.
            words = in_words(quality.get(name)) if source == PREDICTED else ""
            lines.append(OrganLine(name, ml[name], source, asked.get(name), words))
        return tuple(lines)

    def _start(self, held: Lease) -> Version | None:
        return self._labels.start_label(held.volume, _holder(held), held.id)

    def _study(self, volume: str) -> str | None:
        archive = self.context.archive
        return None if archive is None else archive.study(volume)

    def _submit(self, held: Lease, path: Path, params: Mapping[str, Any]) -> Receipt:
        words = {**params, **self._client}
        return self._labels.submit(held.volume, path, _holder(held), words, lease=held.id)

    @property
    def _checked(self) -> Path:
        return self.context.state / "held"

    def _store(self, sent: Path, image: str, held: Lease) -> str:
        """Store a copy of a checked upload for two hours; return the token it is fetched by."""
        self._checked.mkdir(parents=True, exist_ok=True)
        for old in self._checked.iterdir():
            if old.stat().st_mtime < time.time() - CHECKED_KEPT_S:
                old.unlink(missing_ok=True)
        token = uuid.uuid4().hex
        suffix = "".join(sent.suffixes[-2:])
        unfinished = self._checked / f".{token}"
        shutil.copyfile(sent, unfinished)
        unfinished.rename(self._checked / f"{token}-{_whose(image, held)}-{suffix}")
        return token

    def _own_in_force(self, image: str) -> None:
        self._known(image)
        current = self._ledger.current_submission(image)
        if current is None:
            raise ConflictError(f"{image}: was not submitted")
        if self._author(current) not in self._holders:
            raise ConflictError(f"{image}: the current label is somebody else's; ask a reviewer")

    def _author(self, one: Submission) -> str:
        return one.holder if one.restored is None else self._ledger.submission(one.restored).holder

    def _known(self, image: str) -> None:
        self._labels.folder.known_image(check_id(image))
        self.context.know(image)

    def _held(self, image: str, lease: int | None) -> Lease:
        self._known(image)
        held = self._mine(image, lease)
        if held is None:
            raise _not_held(image)
        return held

    def _held_or_not(self, image: str) -> Lease:
        """Return this person's lease of a case, or one of nobody."""
        self._known(image)
        return self._mine(image, None) or Lease(0, image, "", True, 0.0, 0.0)

    def _mine(self, image: str, lease: int | None) -> Lease | None:
        for one in self._ledger.leases():
            if one.volume == image and lease in (None, one.id) and one.holder in self._holders:
                return one
        return None


def _holder(held: Lease) -> Holder:
    return Holder(held.holder, held.anonymous)


def _whose(image: str, held: Lease) -> str:
    return hashlib.sha256(f"{image}\n{held.holder}".encode()).hexdigest()[:32]


@contextlib.contextmanager
def _without(version: Version, absent: Sequence[str]) -> Iterator[Path]:
    """Hold a label without some organs on disk for the block."""
    if not absent:
        yield version.path
        return
    label = read_label(version.path)
    gone = np.isin(label.array, [ORGAN_IDS[name] for name in absent])
    with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
        path = Path(folder) / "label.nii.gz"
        yield write_nifti(path, np.where(gone, 0, label.array).astype(np.uint8), label.grid)


def _not_held(image: str) -> ConflictError:
    return ConflictError(
        f"{image}: is not in your hands (submitted, given back, run out, or somebody else's)"
    )


@functools.lru_cache(maxsize=64)
def measured(path: Path, sha256: str) -> tuple[dict[str, float], dict[str, str]]:
    """Return organ volumes of a label file of that checksum, ml, and what is odd about some."""
    label = read_label(path)
    found = counts(label.array)
    voxels = {name: int(found[i]) for name, i in ORGAN_IDS.items()}
    ml = {name: n * label.grid.voxel_ml for name, n in voxels.items()}
    return ml, find_odd_volumes(label.array, label.grid, voxels)


def _source(said: Mapping[str, Any]) -> str:
    source, state = str(said.get("source", "pseudo")), str(said.get("state", "unknown"))
    if source == "pseudo":
        return PREDICTED
    where = f"public ({said['dataset']})" if said.get("dataset") else source
    if state == "not_assessed":
        return f"{where}, not assessed"
    return f"{where}, absent" if state == "absent" else where
