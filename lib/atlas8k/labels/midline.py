"""The plane between a patient's left and right, from the CT around the kidneys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from atlas8k.grid import Grid

_BONE_HU, _BODY_HU = 250.0, -300.0
_ENOUGH_ML = 5.0
# What lies that far in front of the kidneys is bowel, which may hold contrast agent.
_BEHIND_MM = 20.0
_AROUND_MM = 30.0
_EVERY_MM = 2.0


@dataclass(frozen=True)
class Midline:
    """The plane between left and right.

    Attributes
    ----------
    x_mm
        World x, RAS+.
    margin_mm
        A piece whose centre lies nearer than this is on neither side for certain.
    found_by
        ``bones``, ``body``, ``two kidneys`` or ``image centre``.
    """

    x_mm: float
    margin_mm: float
    found_by: str


def find_midline(
    ct: npt.NDArray[Any],
    mask: npt.NDArray[np.bool_],
    grid: Grid,
) -> Midline | None:
    """The body's midline at the kidneys' height; the kidneys' own voxels do not count.

    The median of what is as dense as bone lies in the spine: ribs, arms and hips balance.
    Without bones, the middle of the body is taken.

    Parameters
    ----------
    ct
        ``(X, Y, Z)`` HU on `grid`.
    mask
        ``(X, Y, Z)`` bool, both kidneys.

    Returns
    -------
    Midline or None
        None where the mask is empty or nothing is found.
    """
    if not mask.any():
        return None
    box = _slab(mask, grid)
    # A median needs no more than a voxel every two millimetres.
    steps = [max(1, int(_EVERY_MM / size)) for size in grid.spacing]
    every = tuple(slice(s.start, s.stop, step) for s, step in zip(box, steps, strict=True))
    part, kidneys = ct[every], mask[every]
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [float(span.start) for span in box]
    affine[:3, :3] *= steps
    inner = Grid((part.shape[0], part.shape[1], part.shape[2]), affine)
    x, y = _axis_mm(inner, 0), _axis_mm(inner, 1)
    height = float(np.median(y[kidneys])) if kidneys.any() else float(np.median(y))
    bones = (part > _BONE_HU) & ~kidneys & (y < height + _BEHIND_MM)
    enough = int(np.ceil(_ENOUGH_ML / inner.voxel_ml))
    if np.count_nonzero(bones) >= enough:
        return Midline(float(np.median(x[bones])), 10.0, "bones")
    body = part > _BODY_HU
    if enough <= np.count_nonzero(body) < 0.98 * body.size:
        return Midline(float(np.median(x[body])), 20.0, "body")
    return None


def image_centre(grid: Grid) -> Midline:
    """The image's middle, where nothing better is known."""
    middle = grid.affine @ np.array([*((np.array(grid.shape) - 1) / 2), 1.0])
    return Midline(float(middle[0]), 30.0, "image centre")


def _axis_mm(grid: Grid, axis: int) -> npt.NDArray[np.float64]:
    """World coordinate `axis` of every voxel, ``(X, Y, Z)``."""
    a = grid.affine[axis]
    i, j, k = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    return np.asarray(a[0] * i + a[1] * j + a[2] * k + a[3])


def bounds_of(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask which is not empty."""
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        there = np.flatnonzero(mask.any(axis=others))
        spans.append(slice(int(there[0]), int(there[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _slab(mask: npt.NDArray[np.bool_], grid: Grid) -> tuple[slice, slice, slice]:
    """The kidneys' extent from foot to head, and some more; the whole image sideways."""
    axis = int(np.argmax(nib.orientations.io_orientation(grid.affine)[:, 0] == 2))
    around = int(np.ceil(_AROUND_MM / grid.spacing[axis]))
    along = bounds_of(mask)[axis]
    box = [slice(0, n) for n in mask.shape]
    box[axis] = slice(max(0, along.start - around), min(mask.shape[axis], along.stop + around))
    return box[0], box[1], box[2]
