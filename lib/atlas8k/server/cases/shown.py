"""The cases that somebody has open or has submitted, as the page of cases shows them."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas8k.errors import CheckpointError
from atlas8k.labels.anatomy import odd_volumes
from atlas8k.labels.voxels import counts
from atlas8k.ledger import Holder, Lease, OrganChange, Submission
from atlas8k.organs import ORGAN_IDS, ORGAN_NAMES
from atlas8k.remarks import Remark
from atlas8k.server.context import Context
from atlas8k.server.errors import ConflictError, NotFoundError
from atlas8k.server.studies.names import check_id
from atlas8k.server.studies.rejected import Rejected
from atlas8k.server.studies.versions import Version
from atlas8k.volume import read_label

SHOWN_REGIONS = 5
SHOWN_SUBMISSIONS = 20


@dataclass(frozen=True)
class OrganLine:
    """An organ of a start label.

    ``ml`` is its volume there, 0 where it has no voxel; ``asked`` what is odd about that.
    """

    name: str
    ml: float
    source: str
    asked: str | None


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
        The largest first, as :func:`~atlas8k.attention.explain.explanation` lists them.
    organs
        Of the start label; empty where there is none.
    study
        StudyInstanceUID, where the studies are a DICOM archive.
    note
        What a reviewer said when returning it.
    remarks
        What was found in the CT's file.
    familiar
        Whether the CT is like the training CTs, as kept with its score; else empty.
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


@dataclass(frozen=True)
class Past:
    """A submission of one's own.

    ``open``: the case is this person's again; ``file``: the label of this submission is
    there.
    """

    submission: Submission
    organs: Mapping[str, OrganChange]
    in_force: bool
    open: bool
    file: bool
    study: str | None


class CaseList:
    """What one person has, under one or more keys.

    Parameters
    ----------
    holders
        Who asks: the first is what new leases and entries go by, the others are the same
        person under other keys (a browser before a name was typed).

    Raises
    ------
    NotFoundError
        These studies have no history of labels.
    """

    def __init__(self, context: Context, holders: Sequence[Holder]) -> None:
        self._context, self._desk = context, context.desk
        self._ledger = context.ledger
        self._holders = {one.key: one for one in holders}
        self._me = holders[0]

    def rejected(self) -> list[Rejected]:
        """Labels of the folder that failed the checks and were set aside."""
        return self._desk.existing.waiting()

    def labels_checked(self) -> tuple[int, int]:
        """See :meth:`~atlas8k.server.context.Context.labels_checked`."""
        return self._context.labels_checked()

    def open(self) -> list[Case]:
        """Cases that this person holds, the one that runs out first on top."""
        mine = [one for one in self._ledger.leases() if one.holder in self._holders]
        mine.sort(key=lambda one: (one.expires_at, one.volume))
        signature = self._ranked_by()
        return [self._case(one, signature) for one in mine]

    def past(self) -> list[Past]:
        """The last submissions of this person, newest first."""
        mine = {one.volume for one in self._ledger.leases() if one.holder in self._holders}
        mine |= {one.volume for one in self._ledger.offers() if one.holder in self._holders}
        return [
            self._past(one, mine)
            for one in self._ledger.submitted_by(list(self._holders), SHOWN_SUBMISSIONS)
        ]

    def remarks(self) -> dict[str, Any]:
        """What was found in the files of the studies; see :meth:`Context.remarks`."""
        return self._context.remarks()

    def unlike(self) -> dict[str, Any]:
        """Volumes that are unlike the training CTs; see :meth:`Context.unlike`."""
        return self._context.unlike()

    def start_label(self, image: str, lease: int | None = None) -> Version:
        """The label that a case of this person's began with.

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
            raise NotFoundError("start label", f"{image} has none yet: it was not scored")
        return version

    def _ranked_by(self) -> str | None:
        try:
            return self._ledger.ranking_signature(self._context.signature())
        except CheckpointError:
            return None

    def _case(self, held: Lease, signature: str | None) -> Case:
        volume, ledger = held.volume, self._ledger
        told = (ledger.explanation(volume, signature) if signature else None) or {}
        notes = [one.note for one in ledger.offers() if one.volume == volume]
        return Case(
            image=volume,
            lease=held.id,
            holder=held.holder,
            seconds_left=max(0.0, held.expires_at - time.time()),
            rank=ledger.rank(volume, signature) if signature else None,
            ranked=ledger.progress(signature).scored if signature else 0,
            attention_ml=told.get("attention_ml"),
            plane=str(told.get("plane", "")),
            slices=int(told.get("slices", 0)),
            regions=tuple(told.get("regions", ())[:SHOWN_REGIONS]),
            organs=self._organs(held),
            study=self._study(volume),
            note=notes[0] if notes else "",
            remarks=self._desk.folder.now().remarks(volume),
            familiar=told.get("familiar") or {},
        )

    def _organs(self, held: Lease) -> tuple[OrganLine, ...]:
        version = self._start(held)
        if version is None:
            return ()
        ml, asked = measured(version.path, version.sha256)
        said = version.info.get("organs") or {}
        return tuple(
            OrganLine(name, ml[name], _source(said.get(name, {})), asked.get(name))
            for name in ORGAN_NAMES
        )

    def _start(self, held: Lease) -> Version | None:
        return self._desk.start_label(held.volume, Holder(held.holder, held.anonymous), held.id)

    def _past(self, one: Submission, mine: set[str]) -> Past:
        current = self._ledger.in_force(one.volume)
        there = self._desk.reviews.history(one.volume)
        told = next((line for line in there if line.submission.id == one.id), None)
        return Past(
            submission=one,
            organs={} if told is None else told.organs,
            in_force=current is not None and current.id == one.id,
            open=one.volume in mine,
            file=told is not None and told.file is not None,
            study=self._study(one.volume),
        )

    def _study(self, volume: str) -> str | None:
        register = getattr(self._desk.folder, "register", None)
        row = register.one(volume) if register is not None else None
        return None if row is None else str(row.study)

    def _known(self, image: str) -> None:
        self._desk.folder.known_image(check_id(image))

    def _held(self, image: str, lease: int | None) -> Lease:
        self._known(image)
        held = self._mine(image, lease)
        if held is None:
            raise not_held(image)
        return held

    def _mine(self, image: str, lease: int | None) -> Lease | None:
        for one in self._ledger.leases():
            if one.volume == image and lease in (None, one.id) and one.holder in self._holders:
                return one
        return None


def not_held(image: str) -> ConflictError:
    """What is said of a case that is not one's own."""
    return ConflictError(
        f"{image}: is not in your hands (submitted, given back, run out, or somebody else's)"
    )


@functools.lru_cache(maxsize=64)
def measured(path: Path, sha256: str) -> tuple[dict[str, float], dict[str, str]]:
    """Organ volumes of a label file of that checksum, ml, and what is odd about some."""
    label = read_label(path)
    found = counts(label.array)
    voxels = {name: int(found[i]) for name, i in ORGAN_IDS.items()}
    ml = {name: n * label.grid.voxel_ml for name, n in voxels.items()}
    return ml, odd_volumes(label.array, label.grid, voxels)


def _source(said: Mapping[str, Any]) -> str:
    source, state = str(said.get("source", "pseudo")), str(said.get("state", "unknown"))
    if source == "pseudo":
        return "predicted"
    where = f"public ({said['dataset']})" if said.get("dataset") else source
    if state == "not_assessed":
        return f"{where}, not assessed"
    return f"{where}, absent" if state == "absent" else where
