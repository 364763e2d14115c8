"""Decide between two labels organ by organ: the label that comes of it is the reviewer's own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.core.voxels import organ_mask
from atlas8k.labels.combine import combine
from atlas8k.services.errors import ConflictError, RequestError
from atlas8k.services.labels.comparison import Label, compare, labels, named
from atlas8k.services.labels.drafts import PUBLIC, from_json
from atlas8k.store import Holder

if TYPE_CHECKING:
    from atlas8k.services.labels.service import LabelService, Receipt

Side = Literal["first", "second"]
SIDES: dict[str, Side] = {"first": "first", "second": "second"}


@dataclass(frozen=True)
class Shown:
    """What a reviewer has seen: checksums of the two labels, number of the last submission."""

    first: str
    second: str
    last: int


@dataclass(frozen=True)
class Decided:
    """What became of it.

    ``lost_ml`` is by organ what it lost to organs that claim the same voxels.
    """

    receipt: Receipt
    lost_ml: dict[str, float]


def decide_by_organ(
    service: LabelService,
    volume: str,
    pair: tuple[str, str],
    counts: Mapping[str, Side],
    holder: Holder,
    shown: Shown | None = None,
) -> Decided:
    """Submit, as a reviewer, organs as the one or the other of two labels has them.

    The organs of `counts` have been looked at. All others stay as they are in the draft label, and
    nothing is said of them. The new submission answers the open questions.

    Parameters
    ----------
    pair
        Keys of the two labels, see :func:`~atlas8k.services.labels.comparison.labels`.
    counts
        By organ which of the two counts.
    shown
        What was looked at; without it, what is there now.

    Raises
    ------
    NotFoundError
        There is no such label.
    RequestError
        An organ that differs is not decided, or there is nothing to decide.
    ConflictError
        Somebody else holds the case, the reviewer has it in hand or has drawn on it, or what was
        looked at is not what is there any more.
    VolumeError
        What comes of it is refused; the current label stays.
    """
    if not counts or pair[0] == pair[1]:
        raise RequestError(f"{volume}: choose organs of two different labels")
    _check_hands(service, volume, holder)
    lease = service.reviews.take_over(volume, holder)
    try:
        there = labels(service, volume)
        first, second = (named(there, key) for key in pair)
        if shown is not None and shown != _now(service, volume, first, second):
            raise ConflictError(
                f"{volume}: one of the two labels was replaced, or somebody has submitted another, "
                "since you looked; load the page again"
            )
        undecided = [
            one.organ
            for one in compare(first.path, second.path)
            if one.differs_ml and one.organ not in counts
        ]
        if undecided:
            raise RequestError(f"{volume}: not decided: {', '.join(undecided)}; say which counts")
        decided = _submit(service, volume, (first, second), counts, holder, lease)
    except BaseException:
        service.ledger.release(volume, holder)
        raise
    if PUBLIC in pair:  # what is a dataset's stays the dataset's, with its licence
        now, of_dataset = service.ledger.sources(volume), service.ledger.dataset_organs(volume)
        for organ, side in counts.items():
            said = organ in of_dataset and of_dataset[organ].source == "public"
            taken = pair[side == "second"] == PUBLIC
            if taken and said and organ in now and now[organ].source != "public":
                service.reviews.decide_organ(volume, organ, "public", holder.key)
    return decided


def _check_hands(service: LabelService, volume: str, holder: Holder) -> None:
    """Raise where the reviewer has begun to correct the case: that would be lost, or crossed."""
    ledger = service.ledger
    held = any(one.volume == volume and one.holder == holder.key for one in ledger.leases())
    if held or ledger.drawing(volume, [holder.key]) is not None:
        raise ConflictError(
            f"{volume}: you have begun to correct it yourself: submit that, or give the case back "
            "and forget what you drew, then decide"
        )


def _now(service: LabelService, volume: str, first: Label, second: Label) -> Shown:
    last = max((one.id for one in service.ledger.submissions(volume)), default=0)
    return Shown(first.sha256, second.sha256, last)


def _submit(
    service: LabelService,
    volume: str,
    pair: tuple[Label, Label],
    counts: Mapping[str, Side],
    holder: Holder,
    lease: int,
) -> Decided:
    read = [read_label(one.path) for one in pair]
    grid = read[0].grid
    chosen = {ORGAN_IDS[organ]: read[side == "second"].array for organ, side in counts.items()}
    begun = service.start_label(volume, holder, lease)
    start = np.zeros_like(read[0].array) if begun is None else read_label(begun.path).array
    array, lost = combine(start, chosen)
    there = {organ: bool(organ_mask(array, ORGAN_IDS[organ]).any()) for organ in counts}
    origins = _origins(service, volume, pair, counts)
    said = {
        # Whoever submitted it has said so; of others it is asked.
        "volume_is_right": [
            organ
            for organ, number in origins.items()
            if number is not None
            and organ in (known := service.ledger.changes(number))
            and known[organ].state in ("confirmed", "revised")
        ],
        "looked_at": sorted(organ for organ in counts if there[organ]),
        "absent": sorted(organ for organ in counts if not there[organ]),
        "combined": {organ: pair[side == "second"].key for organ, side in sorted(counts.items())},
    }
    helped = {
        organ: [] if number is None else service.ledger.helped(number).get(organ, [])
        for organ, number in origins.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        sent = write_nifti(Path(folder) / "label.nii.gz", array, grid, sync=False)
        receipt = service.submit(volume, sent, holder, said, lease=lease, helped=helped)
    lost_ml = {ORGAN_NAMES[organ - 1]: n * grid.voxel_ml for organ, n in lost.items()}
    return Decided(receipt, lost_ml)


def _origins(
    service: LabelService, volume: str, pair: tuple[Label, Label], counts: Mapping[str, Side]
) -> dict[str, int | None]:
    """Return by organ the submission that it comes from, as its label says; None: from none."""
    found: dict[str, int | None] = {}
    for organ, side in counts.items():
        version = service.versions.find(volume, pair[side == "second"].sha256)
        source = from_json(version.info if version is not None else {}).get(organ)
        found[organ] = None if source is None else source.submission
    return found
