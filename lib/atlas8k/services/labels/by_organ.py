"""Decide between two labels organ by organ: the label that comes of it is the reviewer's own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from atlas8k.core.errors import VolumeError
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label, write_nifti
from atlas8k.labels.combine import combine
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.labels.comparison import Label, compare, labels
from atlas8k.services.labels.drafts import from_json
from atlas8k.store import Assistance, Holder

if TYPE_CHECKING:
    from atlas8k.services.labels.service import LabelService, Receipt

Side = Literal["first", "second"]
SIDES: dict[str, Side] = {"first": "first", "second": "second"}


@dataclass(frozen=True)
class Decided:
    """What became of it.

    ``lost_ml`` is by organ what it lost where the other label's organ claims the same voxels.
    """

    receipt: Receipt
    lost_ml: dict[str, float]


def decide_by_organ(
    service: LabelService,
    volume: str,
    pair: tuple[str, str],
    counts: Mapping[str, Side],
    holder: Holder,
) -> Decided:
    """Submit, as a reviewer, each organ as the one or the other of two labels has it.

    The organs of `counts` have been looked at. Those that are the same in both and are not in it
    stay, and nothing is said of them. The new submission answers the open questions.

    Parameters
    ----------
    pair
        Keys of the two labels, see :func:`~atlas8k.services.labels.comparison.labels`.
    counts
        By organ which of the two counts.

    Raises
    ------
    NotFoundError
        There is no such label.
    RequestError
        An organ that differs is not decided.
    ConflictError
        Somebody else holds the case.
    VolumeError
        What comes of it is refused; the current label stays.
    """
    there = {one.key: one for one in labels(service, volume)}
    for key in pair:
        if key not in there:
            raise NotFoundError("label of this case", key)
    first, second = there[pair[0]], there[pair[1]]
    open_ = [
        one.organ
        for one in compare(first.path, second.path)
        if one.differs_ml and one.organ not in counts
    ]
    if open_:
        raise RequestError(f"{volume}: not decided: {', '.join(open_)}; say which label counts")
    one, two = read_label(first.path), read_label(second.path)
    chosen = {ORGAN_IDS[organ] for organ, side in counts.items() if side == "second"}
    array, lost = combine(one.array, two.array, chosen)
    lease = service.reviews.take_over(volume, holder)
    said = {
        "looked_at": sorted(counts),
        "combined": {organ: pair[side == "second"] for organ, side in sorted(counts.items())},
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            sent = write_nifti(Path(folder) / "label.nii.gz", array, one.grid, sync=False)
            receipt = service.submit(
                volume,
                sent,
                holder,
                said,
                lease=lease,
                helped=_helped(service, volume, first, second, counts),
            )
    except VolumeError:
        service.ledger.release(volume, holder)
        raise
    return Decided(receipt, {ORGAN_NAMES[o - 1]: n * one.grid.voxel_ml for o, n in lost.items()})


def _helped(
    service: LabelService, volume: str, first: Label, second: Label, counts: Mapping[str, Side]
) -> dict[str, list[Assistance]]:
    """Return what had helped with the organs, as the submissions say that they come from."""
    found: dict[str, list[Assistance]] = {}
    for side, label in zip(SIDES, (first, second), strict=True):
        version = service.versions.find(volume, label.sha256)
        for organ, source in from_json(version.info if version is not None else {}).items():
            number = source.submission
            if number is not None and counts.get(organ, "first") == side:
                found[organ] = service.ledger.helped(number).get(organ, [])
    return found
