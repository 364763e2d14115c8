"""What was changed inside the places that an annotator was shown, and what outside of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.grid import Grid
from atlas8k.core.organ_states import OrganChange, PlacesChanged
from atlas8k.core.structures import ORGAN_IDS

_BLOCK = 1 << 22


def places_changed(
    draft: npt.NDArray[np.uint8],
    label: npt.NDArray[np.uint8],
    grid: Grid,
    organs: Mapping[str, OrganChange],
    shown: Iterable[Mapping[str, Any]],
) -> dict[str, PlacesChanged]:
    """Return by organ how the changes of a submission lie to the places shown.

    Organs that were not assessed are left out: nobody says that they are right. The maps are
    read once; what follows goes over the changed voxels alone.

    Parameters
    ----------
    draft, label
        ``(X, Y, Z)`` uint8, organ ids, on the CT's grid: what the annotator began from, and what
        came back.
    organs
        What the submission says of each organ.
    shown
        Of each place ``organ``, ``start`` and ``stop`` (exclusive) in the CT's array index, as
        :func:`atlas8k.attention.explain.explanation` lists them.
    """
    at = _changed(draft, label)
    before, after = (array[at[0], at[1], at[2]] for array in (draft, label))
    inside = np.zeros(before.shape, dtype=bool)
    places = dict.fromkeys(organs, 0)
    touched = dict.fromkeys(organs, 0)
    for place in shown:
        in_box = np.ones(before.shape, dtype=bool)
        for index, first, end in zip(at, place["start"], place["stop"], strict=True):
            in_box &= (index >= first) & (index < end)
        inside |= in_box
        if place["organ"] in places:
            places[place["organ"]] += 1
            touched[place["organ"]] += bool(in_box.any())
    found = {}
    for organ, change in organs.items():
        if change.state == "not_assessed":
            continue
        own = (before == ORGAN_IDS[organ]) | (after == ORGAN_IDS[organ])
        changed, within = (
            round(float(np.count_nonzero(mask)) * grid.voxel_ml, 3) for mask in (own, own & inside)
        )
        found[organ] = PlacesChanged(places[organ], touched[organ], changed, within)
    return found


def _changed(
    draft: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int32], ...]:
    """Return the indices of voxels that differ, one array an axis; a slab of memory at a time."""
    thick = max(1, _BLOCK // max(1, draft[0].size))
    parts = []
    for begin in range(0, draft.shape[0], thick):
        slab = slice(begin, begin + thick)
        found = np.stack(np.nonzero(draft[slab] != label[slab])).astype(np.int32)
        found[0] += begin
        parts.append(found)
    return tuple(np.concatenate(parts, axis=1))
