"""Opening of a mask by a box, in millimetres or in the published voxels.

An opening keeps what the box fits into: the union of all its positions inside the mask.
Outside of the array counts as not set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Widths = tuple[int, int, int]
Box = tuple[slice, slice, slice]

PUBLISHED_WIDTHS: Widths = (5, 5, 5)
"""Two erosions, then two dilations, with a full 3x3x3 element: a box of five voxels, so
that a slab of four voxels vanishes and one of five stays (reference code)."""

PUBLISHED_MM = 7.5
"""The same box at the reference code's spacing of 1.5 mm."""


def widths_for(opening_mm: float, spacing_mm: Sequence[float]) -> Widths:
    """Edges in voxels of the smallest box that measures ``opening_mm`` or more an axis.

    At 1.5 mm, 7.5 mm are the published five voxels; at 5 mm slices they are two, where
    the voxel form would ask for 25 mm.

    Parameters
    ----------
    opening_mm
        What is thinner than this along some axis is removed; 0 removes nothing.
    spacing_mm
        Voxel size along the array axes.
    """
    x, y, z = (max(1, math.ceil(opening_mm / step - 1e-6)) for step in spacing_mm)
    return x, y, z


def bounding_box(mask: npt.NDArray[np.generic]) -> Box | None:
    """Smallest box that holds every voxel of ``mask: (X, Y, Z)`` that is not 0."""
    box = []
    for axis in range(3):
        # Reduced to one axis step by step, on what the axes before have left.
        line = mask.any(axis=tuple(a for a in range(3) if a != axis))
        inside = np.flatnonzero(line)
        if inside.size == 0:
            return None
        span = slice(int(inside[0]), int(inside[-1]) + 1)
        box.append(span)
        mask = mask[tuple(span if a == axis else slice(None) for a in range(3))]
    return box[0], box[1], box[2]


def opened(mask: Mask, widths: Widths) -> Mask:
    """Union of all boxes of ``widths`` voxels that fit into ``mask``.

    Parameters
    ----------
    mask
        ``(X, Y, Z)`` bool.
    widths
        Edges of the box in voxels, 1 or more each; even ones are allowed.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` bool, a subset of ``mask``.
    """
    out = np.zeros_like(mask)
    outer = bounding_box(mask)
    if outer is None:
        return out
    # First corners of the boxes that fit; each axis loses width - 1 positions.
    corners = mask[outer]
    for axis, width in enumerate(widths):
        corners = _windows(corners, axis, width, np.logical_and)
    inner = bounding_box(corners)
    if inner is None:
        return out
    kept = corners[inner]
    for axis, width in enumerate(widths):
        margin = [(width - 1, width - 1) if a == axis else (0, 0) for a in range(3)]
        kept = _windows(np.pad(kept, margin), axis, width, np.logical_or)
    target = tuple(
        slice(o.start + i.start, o.start + i.stop + width - 1)
        for o, i, width in zip(outer, inner, widths, strict=True)
    )
    out[target] = kept
    return out


def _windows(mask: Mask, axis: int, width: int, combine: np.ufunc) -> Mask:
    """``combine`` over every run of ``width`` voxels along ``axis``, in log2 steps."""
    length = mask.shape[axis]
    if length < width:
        shape = tuple(0 if a == axis else n for a, n in enumerate(mask.shape))
        return np.zeros(shape, dtype=bool)
    done = 1
    while done < width:
        step = min(done, width - done)
        length -= step
        head = tuple(slice(0, length) if a == axis else slice(None) for a in range(3))
        tail = tuple(slice(step, None) if a == axis else slice(None) for a in range(3))
        mask = combine(mask[head], mask[tail])
        done += step
    return mask
