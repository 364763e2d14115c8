"""Change a label map as an annotator asks: what a brush is too slow for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.components import largest_component

Label = npt.NDArray[np.uint8]
MOST_MM = 30.0
"""Slices further apart than this are not filled between: they are two corrections, not one."""


def keep_largest(label: Label, organ: int) -> Label:
    """Return a label, ``(X, Y, Z)`` uint8, with no more than the largest piece of an organ."""
    mask = label == organ
    return np.where(mask & ~largest_component(mask), np.uint8(0), label)


def take_organ(label: Label, other: Label, organ: int) -> Label:
    """Return a label with an organ as another label has it; both ``(X, Y, Z)`` uint8.

    Where `other` has the organ, it replaces what `label` has.
    """
    without = np.where(label == organ, np.uint8(0), label)
    return np.where(other == organ, np.uint8(organ), without)


def fill_between(
    label: Label,
    before: Label | None,
    organ: int,
    axis: int,
    spacing: tuple[float, float, float],
    guide: npt.NDArray[np.bool_] | None = None,
) -> tuple[Label, int]:
    """Interpolate an organ between the slices that were drawn.

    By the signed distance to its outline, linearly from one slice to the next (Herman, Zheng,
    Bucholtz: Shape-based interpolation. IEEE Comput Graph Appl 1992). With a guide it is the
    guide's own distance between the slices, and what is interpolated is by how much the drawn ones
    differ from it. Other organs keep their voxels.

    Parameters
    ----------
    label
        ``(X, Y, Z)`` uint8.
    before
        The label it was drawn in, of the same shape: slices in which the organ is another now
        are the drawn ones. None, or without the organ: every slice that has it is.
    axis
        Along which the slices lie.
    spacing
        mm.
    guide
        ``(X, Y, Z)``, where networks have the organ. It guides between two slices where it has
        something in both of them and in all between.

    Returns
    -------
    label, slices
        How many slices were filled.
    """
    mask = np.moveaxis(label == organ, axis, 0)
    drawn = mask.any(axis=(1, 2))
    if before is not None and (old := np.moveaxis(before == organ, axis, 0)).any():
        drawn &= (mask != old).any(axis=(1, 2))
    made, filled = np.moveaxis(label.copy(order="K"), axis, 0), 0
    flat = np.delete(np.asarray(spacing), axis)
    for first, last in pairwise(np.flatnonzero(drawn)):
        if last - first < 2 or (last - first) * spacing[axis] > MOST_MM:
            continue
        one, two = (_signed(mask[k], flat) for k in (first, last))
        guides = _guides(guide, axis, first, last, flat)
        if guides is not None:
            one, two = one - guides[0], two - guides[-1]
        for k in range(first + 1, last):
            part = (k - first) / (last - first)
            depth = (1 - part) * one + part * two
            inside = (depth if guides is None else depth + guides[k - first]) > 0
            plane = made[k]
            free = (plane == 0) | (plane == organ)
            plane[free] = np.where(inside[free], organ, 0)
            filled += 1
    return np.moveaxis(made, 0, axis), filled


def _guides(
    guide: npt.NDArray[np.bool_] | None,
    axis: int,
    first: int,
    last: int,
    spacing: npt.NDArray[np.float64],
) -> list[npt.NDArray[np.float64]] | None:
    """Return a guide's distances of the slices from first to last; None where it has a gap."""
    if guide is None:
        return None
    planes = np.moveaxis(guide, axis, 0)[first : last + 1]
    if not planes.any(axis=(1, 2)).all():
        return None
    return [_signed(plane, spacing) for plane in planes]


def _signed(
    mask: npt.NDArray[np.bool_], spacing: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the distance to the outline, mm, positive inside; the outline is between voxels."""
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    found: npt.NDArray[np.float64] = inside - outside
    return found
