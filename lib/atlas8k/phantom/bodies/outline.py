"""What a map of structures leaves out: the trunk's outline, discs, and depths for painting.

A map names organs, bones and some muscles; fat, the abdominal wall and the skin are what is
between and around them. They are painted by two distances: to the hull of the structures,
slice by slice, and, within a structure, to its surface.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import convex_hull_image

from atlas8k.phantom.bodies.tissues import Tissue

Array = npt.NDArray[Any]

HULL_STEP = 2
"""The hull is looked for on every n-th voxel; it is smooth."""
HULL_SMOOTH_MM = 8.0
DISC_MM = 9.0
"""Half of the largest gap between two vertebrae that is a disc."""
DEPTHS_PER_MM = 2.0

_SOLID = (
    Tissue.AORTA,
    Tissue.GALL_BLADDER,
    Tissue.KIDNEY_LEFT,
    Tissue.KIDNEY_RIGHT,
    Tissue.STOMACH,
    Tissue.HEART,
    Tissue.BONE,
    Tissue.SPINE,
    Tissue.SMALL_BOWEL,
    Tissue.COLON,
    Tissue.DUODENUM,
    Tissue.ESOPHAGUS,
    Tissue.BLADDER,
)
"""Tissues whose surface is painted unlike their inside."""


def add_discs(tissue: Array, spacing: float) -> None:
    """Fill the gaps between vertebrae with discs, in place; ``(X, Y, Z)`` tissue ids."""
    spine = tissue == Tissue.SPINE
    box = _box(spine, 0)
    if box is None:
        return
    part = spine[box]
    line = np.ones((1, 1, 2 * round(DISC_MM / spacing) + 1), bool)
    padded = np.pad(part, ((0, 0), (0, 0), (line.shape[2],) * 2))
    closed = ndimage.binary_closing(padded, line)[:, :, line.shape[2] : -line.shape[2]]
    tissue[box][closed & (tissue[box] == Tissue.NONE)] = Tissue.DISC


def hull_distance(tissue: Array, spacing: float) -> Array:
    """Return the distance to the hull of the structures, slice by slice.

    Parameters
    ----------
    tissue
        ``(X, Y, Z)`` tissue ids, RAS.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` int8, mm, negative within the hull, cut at -127 and 127.
    """
    step = HULL_STEP
    mask = tissue[::step, ::step, ::step] != Tissue.NONE
    hull = np.zeros(mask.shape, bool)
    for k in range(mask.shape[2]):
        if mask[:, :, k].sum() > 8:
            hull[:, :, k] = convex_hull_image(mask[:, :, k], offset_coordinates=False)
    sigma = HULL_SMOOTH_MM / (spacing * step)
    smooth = ndimage.gaussian_filter(hull.astype(np.float32), (sigma / 3, sigma / 3, sigma))
    inside = smooth > 0.5
    size = spacing * step
    distance = np.full(mask.shape, 127.0, np.float32)
    if inside.any():
        distance = ndimage.distance_transform_edt(~inside, sampling=size).astype(np.float32)
        distance -= ndimage.distance_transform_edt(inside, sampling=size).astype(np.float32)
    at = [
        np.minimum(np.arange(n) / step, m - 1)
        for n, m in zip(tissue.shape, mask.shape, strict=True)
    ]
    return np.clip(np.rint(_interpolated(distance, at)), -127, 127).astype(np.int8)


def depths(tissue: Array, spacing: float) -> Array:
    """Return how deep a voxel lies in its structure, and how far unlabeled ones are from bone.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` uint8, half millimetres, cut at 255. 0 in tissues that are alike
        throughout.
    """
    out = np.zeros(tissue.shape, np.uint8)
    for kind in _SOLID:
        mask = tissue == kind
        box = _box(mask, 1)
        if box is None:
            continue
        depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing)
        depth = depth[1:-1, 1:-1, 1:-1]
        found = np.clip(np.rint(depth * DEPTHS_PER_MM), 0, 255).astype(np.uint8)
        np.copyto(out[box], found, where=mask[box])
    bone = np.isin(tissue, (Tissue.SPINE, Tissue.BONE, Tissue.CARTILAGE, Tissue.DISC))
    coarse = bone[::2, ::2, ::2]
    if coarse.any():
        far = ndimage.distance_transform_edt(~coarse, sampling=2 * spacing).astype(np.float32)
    else:
        far = np.full(coarse.shape, 127.0, np.float32)
    at = [
        np.minimum(np.arange(n) / 2, m - 1) for n, m in zip(tissue.shape, coarse.shape, strict=True)
    ]
    far = np.clip(np.rint(_interpolated(far, at) * DEPTHS_PER_MM), 0, 255).astype(np.uint8)
    np.copyto(out, far, where=tissue == Tissue.NONE)
    return out


def _interpolated(array: Array, at: list[Array]) -> Array:
    """Linear interpolation axis by axis at these indices."""
    for axis, where in enumerate(at):
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, array.shape[axis] - 1)
        shape = [1, 1, 1]
        shape[axis] = -1
        part = (where - low).astype(np.float32).reshape(shape)
        lower = np.take(array, low, axis)
        array = lower + (np.take(array, high, axis) - lower) * part
    return array


def _box(mask: Array, margin: int) -> tuple[slice, slice, slice] | None:
    """Bounds of a mask; ``None`` where it is empty."""
    bounds = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        if len(found) == 0:
            return None
        low, high = max(0, found[0] - margin), min(mask.shape[axis], found[-1] + 1 + margin)
        bounds.append(slice(int(low), int(high)))
    return bounds[0], bounds[1], bounds[2]
