"""Find the patient in a CT, so that air and table cost no windows and no memory."""

from __future__ import annotations

import cc3d
import numpy as np
import numpy.typing as npt

from atlas8k.core.components import label_components
from atlas8k.core.grid_alignment import Box
from atlas8k.core.volume import Volume

BODY_HU = -500.0
"""Between air with its noise and fat (about -100 HU) or a partly filled edge voxel."""
LOOK_MM = 4.0
"""The search samples every n-th voxel, no coarser than this."""
MARGIN_MM = 10.0
KEPT_FRACTION = 0.1
"""Pieces at least this large beside the largest are kept: legs, or a body cut by metal."""


def body_box(ct: Volume) -> Box:
    """Return the box around the patient in the CT's own voxel indices.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU.

    Returns
    -------
    tuple of slice
        Bounds of the largest 6-connected piece above -500 HU, and of every other at
        least a tenth of its size, with a margin of 10 mm. The whole volume where nothing
        is above -500 HU, and of course where everything is (intensities that are no HU).
    """
    step = [max(1, int(LOOK_MM / s)) for s in ct.grid.spacing]
    mask = ct.array[:: step[0], :: step[1], :: step[2]] > BODY_HU
    pieces = label_components(mask, connectivity=6)
    statistics = cc3d.statistics(pieces)
    counts = statistics["voxel_counts"][1:]
    if len(counts) == 0:
        return whole(ct.grid.shape)
    large = [
        box
        for box, count in zip(statistics["bounding_boxes"][1:], counts, strict=True)
        if count >= KEPT_FRACTION * counts.max()
    ]
    slices = []
    for axis, (n, s, k) in enumerate(zip(ct.grid.shape, ct.grid.spacing, step, strict=True)):
        margin = k + int(np.ceil(MARGIN_MM / s))  # k: the distance of two sampled voxels
        start = min(box[axis].start for box in large) * k - margin
        stop = (max(box[axis].stop for box in large) - 1) * k + 1 + margin
        slices.append(slice(max(0, int(start)), min(n, int(stop))))
    return slices[0], slices[1], slices[2]


def whole(shape: tuple[int, int, int]) -> Box:
    """Return the box that holds every voxel."""
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def box_of(mask: npt.NDArray[np.bool_]) -> Box | None:
    """Return the smallest box of the true voxels of ``(X, Y, Z)``, ``None`` without any."""
    plane = mask.any(axis=0)
    slices = []
    for line in (mask.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0)):
        where = np.flatnonzero(line)
        if len(where) == 0:
            return None
        slices.append(slice(int(where[0]), int(where[-1]) + 1))
    return slices[0], slices[1], slices[2]
