"""Put organs of other labels of the same CT into a label."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from atlas8k.core.structures import in_use, parts_of
from atlas8k.core.voxels import organ_mask, renamed

Labels = npt.NDArray[np.uint8]


def combine(start: Labels, chosen: Mapping[int, Labels]) -> tuple[Labels, dict[int, int]]:
    """Return a label in which some organs are as in other labels.

    The other organs keep every voxel: nobody has looked at them. Where two of the chosen organs
    overlap, the smaller one keeps the voxel, since it would lose more of itself.

    Parameters
    ----------
    start
        ``(X, Y, Z)`` uint8, organ ids.
    chosen
        By the id of an organ the label, on the same grid, that it is taken from.

    Returns
    -------
    label
        As `start`.
    lost
        Voxels that a chosen organ has in the label it is taken from, and another organ keeps;
        only of organs that lost some.
    """
    outer = {
        organ: [one.id for one in in_use().organs if organ in parts_of(one.id)[1:]]
        for organ in chosen
    }
    emptied = np.arange(256, dtype=np.uint8)
    for organ, around in outer.items():  # without it, a tumour's voxels are its organ's
        stay = [one for one in around if one not in chosen]
        emptied[organ] = min(stay, key=lambda one: len(parts_of(one)), default=0)
    made = renamed(start, emptied)
    masks = {organ: organ_mask(label, organ) for organ, label in chosen.items()}
    size = {organ: int(mask.sum()) for organ, mask in masks.items()}
    for organ in sorted(chosen, key=lambda one: (-size[one], -len(parts_of(one)), one)):
        free = np.zeros(256, np.uint8)
        free[[0, *chosen, *outer[organ]]] = 1
        made[masks[organ] & (renamed(made, free) > 0)] = organ
    lost = {organ: int((mask & ~organ_mask(made, organ)).sum()) for organ, mask in masks.items()}
    return made, {organ: voxels for organ, voxels in lost.items() if voxels}
