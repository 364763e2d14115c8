"""Measure the normalised surface Dice of every organ at once, by surface-distance's definition.

The surface of a mask lies on the corners between voxels: a corner whose eight voxels are
neither all inside nor all outside carries a surface element, whose area is that of the
marching-cubes triangles (Lorensen and Cline 1987) in that cell; outside the array there
is nothing. NSD is the area, of both surfaces, that has the other surface's corner within
the tolerance, over the whole area (Nikolov et al. 2021; Google DeepMind surface-distance).

With a tolerance of a few voxels only a few dozen neighbouring corners have to be looked
at, so no distance map is made: the cost goes with the surface, not with the volume.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from skimage.measure import marching_cubes

from atlas8k.core.errors import VolumeError
from atlas8k.core.structures import ORGANS, in_use
from atlas8k.core.voxels import mask_table
from atlas8k.metrics.overlap import Labels, check_maps

TOLERANCE_MM = 1.0
"""AbdomenAtlas-8K's tolerance; Touchstone's is 1.5 mm."""

_MAX_REACH = 48
"""Voxels a tolerance may span: beyond it the list of corners to look at grows without use."""


_AT_ONCE = 16
"""Organs of a pass: a bit each of a 16-bit word."""

BITS = np.array([[[128, 64], [32, 16]], [[8, 4], [2, 1]]], dtype=np.uint8)
"""Bit of each of a corner's eight voxels, ``(2, 2, 2)``: any numbering would do."""


@cache
def _projected_triangles() -> tuple[npt.NDArray[np.float64], ...]:
    """Return the triangles of the 256 cells as ``(n, 3)`` area vectors, voxel units.

    Marching cubes leaves open how a cell of which most corners are inside is cut where
    it is ambiguous; there the cell is cut as its complement is, so that a mask and its
    complement have one surface.
    """
    cells = []
    for code in range(256):
        inside = code if code.bit_count() <= 4 else 255 - code
        if inside == 0:
            cells.append(np.zeros((0, 3)))
            continue
        field = ((inside & BITS) > 0).astype(np.float64)
        points, faces, _, _ = marching_cubes(field, 0.5, method="lorensen")
        a, b, c = (points[faces[:, n]].astype(np.float64) for n in range(3))
        cells.append(np.cross(b - a, c - a) / 2)
    return tuple(cells)


def element_areas(spacing: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the area of the surface element of each of the 256 corner neighbourhoods.

    Parameters
    ----------
    spacing
        Voxel size along the array axes, mm.

    Returns
    -------
    ndarray
        ``(256,)`` float64, mm²; 0 for none inside and for all inside.
    """
    sx, sy, sz = spacing
    scale = np.array([sy * sz, sx * sz, sx * sy])
    return np.array([np.linalg.norm(cell * scale, axis=1).sum() for cell in _projected_triangles()])


def _offsets(spacing: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.int64]:
    """Return corner offsets no farther than the tolerance, nearest first, ``(n, 3)`` int64."""
    reach = np.floor(tolerance / spacing * (1 + 1e-9) + 1e-9).astype(int)
    axes = [np.arange(-n, n + 1) for n in reach]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    # The same operations in the same order as a distance map, for the same last bit.
    square = (steps * spacing) ** 2
    distance = np.sqrt(square[:, 0] + square[:, 1] + square[:, 2])
    keep = distance <= tolerance
    near: npt.NDArray[np.int64] = steps[keep][np.argsort(distance[keep], kind="stable")]
    return near


@njit(nogil=True, cache=True)
def _mark(label: Any, bits: Any, start: int, stop: int) -> None:  # pragma: no cover
    """Set bit organ-1 at every corner of planes start..stop on that organ's surface."""
    nx, ny, nz = label.shape
    zero = label.dtype.type(0)
    for x in range(start, stop):
        for y in range(ny + 1):
            # The column of four voxels below the corner, and whether they are all one.
            p, q, r, s = zero, zero, zero, zero
            for z in range(nz + 1):
                a, b, c, d = zero, zero, zero, zero
                if z < nz:
                    if x > 0 and y > 0:
                        a = label[x - 1, y - 1, z]
                    if x > 0 and y < ny:
                        b = label[x - 1, y, z]
                    if x < nx and y > 0:
                        c = label[x, y - 1, z]
                    if x < nx and y < ny:
                        d = label[x, y, z]
                if not (a == b == c == d == p == q == r == s):
                    word = 0
                    for v in (a, b, c, d, p, q, r, s):
                        if v > 0:
                            word |= 1 << (int(v) - 1)
                    bits[x, y, z] = word
                p, q, r, s = a, b, c, d


@njit(nogil=True, cache=True)
def _code(label: Any, weights: Any, organ: int, x: int, y: int, z: int) -> int:  # pragma: no cover
    nx, ny, nz = label.shape
    code = 0
    for i in range(2):
        for j in range(2):
            for k in range(2):
                u, v, w = x - 1 + i, y - 1 + j, z - 1 + k
                inside = 0 <= u < nx and 0 <= v < ny and 0 <= w < nz
                if inside and label[u, v, w] == organ:
                    code |= weights[i, j, k]
    return code


@njit(nogil=True, cache=True)
def _measure(  # pragma: no cover
    label: Any,
    corners: Any,
    other_corners: Any,
    other_organs: int,
    offsets: Any,
    areas: Any,
    weights: Any,
    start: int,
    stop: int,
    sums: Any,
) -> None:
    """Add each organ's surface area, and the part near the other surface, to ``sums``."""
    nx, ny, nz = corners.shape
    for x in range(start, stop):
        for y in range(ny):
            for z in range(nz):
                word = int(corners[x, y, z])
                organ = 0
                while word:
                    organ += 1
                    bit = word & 1
                    word >>= 1
                    if not bit:
                        continue
                    area = areas[_code(label, weights, organ, x, y, z)]
                    sums[organ - 1, 0] += area
                    if not (other_organs >> (organ - 1)) & 1:
                        continue
                    for n in range(offsets.shape[0]):
                        u, v, w = x + offsets[n, 0], y + offsets[n, 1], z + offsets[n, 2]
                        inside = 0 <= u < nx and 0 <= v < ny and 0 <= w < nz
                        if inside and (int(other_corners[u, v, w]) >> (organ - 1)) & 1:
                            sums[organ - 1, 1] += area
                            break


def _in_slabs(work: Callable[..., Any], planes: int, *inputs: Any) -> list[Any]:
    """Run ``work(start, stop, *inputs)`` over slabs of planes on threads; in slab order."""
    workers = min(len(os.sched_getaffinity(0)), 16)
    edges = np.linspace(0, planes, min(planes, 4 * workers) + 1).astype(int).tolist()
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda span: work(*span, *inputs), pairwise(edges)))


def _foreground(*labels: npt.NDArray[Any]) -> tuple[slice, ...] | None:
    """Return the smallest box that holds every labelled voxel of all maps; ``None`` without one."""
    box = []
    views = list(labels)
    for axis in range(3):
        rest = tuple(n for n in range(3) if n != axis)
        used = np.flatnonzero(np.logical_or.reduce([view.any(axis=rest) for view in views]))
        if used.size == 0:
            return None
        cut = slice(int(used[0]), int(used[-1]) + 1)
        box.append(cut)
        views = [view[(slice(None),) * axis + (cut,)] for view in views]
    return tuple(box)


def tolerances(otherwise: float = TOLERANCE_MM) -> npt.NDArray[np.float64]:
    """Return the tolerance of each structure in use, ``(organs,)`` float64, mm.

    Parameters
    ----------
    otherwise
        Where the structure set states none.
    """
    return np.array([organ.tolerance_mm or otherwise for organ in ORGANS], dtype=np.float64)


def described(otherwise: float = TOLERANCE_MM) -> str:
    """Return the tolerances in use in words: ``1 mm``, ``1 mm (liver_tumor 3 mm)``."""
    others = [f"{o.name} {o.tolerance_mm:g} mm" for o in ORGANS if o.tolerance_mm]
    return f"{otherwise:g} mm" + (f" ({', '.join(others)})" if others else "")


def surface_areas(
    pred: Labels,
    truth: Labels,
    spacing: Sequence[float],
    tolerance_mm: float | npt.NDArray[np.float64] = TOLERANCE_MM,
) -> npt.NDArray[np.float64]:
    """Return the surface area of every organ, and the part of it near the other map's surface.

    Parameters
    ----------
    pred, truth
        ``(X, Y, Z)`` integer label maps on one grid: 0, and ids of structures in use.
    spacing
        Voxel size along the array axes, mm.
    tolerance_mm
        Distance up to which a surface element counts as met, mm; one, or one an organ.

    Returns
    -------
    ndarray
        ``(organs, 2, 2)`` float64, mm²: organ, (truth, prediction), (area, area met).

    Raises
    ------
    GridMismatchError
        Where the shapes differ.
    VolumeError
        Where a value is no organ id, or spacing or tolerance are not positive numbers.
    """
    check_maps(pred, truth)
    steps = np.asarray(spacing, dtype=np.float64)
    if steps.shape != (3,) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise VolumeError("spacing", f"{spacing!r} is not three positive lengths in mm")
    of_organ = np.broadcast_to(np.asarray(tolerance_mm, dtype=np.float64), len(ORGANS))
    for tolerance in np.unique(of_organ):
        if not (np.isfinite(tolerance) and tolerance >= 0):
            raise VolumeError("tolerance", f"{tolerance!r} mm is not a length")
        if tolerance > _MAX_REACH * float(steps.min()):
            raise VolumeError(
                "tolerance", f"{tolerance:g} mm is more than {_MAX_REACH} voxels; NSD is for less"
            )
    out = np.zeros((len(ORGANS), 2, 2))
    for organ in in_use().parts:  # with what lies within it
        table = mask_table(organ)
        found = _areas_of(table[pred], table[truth], steps, float(of_organ[organ - 1]), 1)
        out[organ - 1] = found[0]
    alone = np.array([organ.id not in in_use().parts for organ in ORGANS])
    for tolerance in np.unique(of_organ):
        organs = np.flatnonzero((of_organ == tolerance) & alone)
        for first in range(0, len(organs), _AT_ONCE):
            some = organs[first : first + _AT_ONCE]
            maps = [truth, pred]
            if len(some) < len(ORGANS):
                table = np.zeros(len(ORGANS) + 1, np.uint8)
                table[some + 1] = np.arange(1, len(some) + 1)
                maps = [table[label] for label in maps]
            out[some] = _areas_of(maps[1], maps[0], steps, float(tolerance), len(some))
    return out


def _areas_of(
    pred: Labels, truth: Labels, steps: npt.NDArray[np.float64], tolerance_mm: float, organs: int
) -> npt.NDArray[np.float64]:
    """Return :func:`surface_areas` of values 1 to `organs`, 16 at most, at one tolerance."""
    out = np.zeros((organs, 2, 2))
    box = _foreground(truth, pred)
    if box is None:
        return out
    areas, weights, offsets = element_areas(steps.tolist()), BITS, _offsets(steps, tolerance_mm)
    maps = [truth[box], pred[box]]
    if truth.flags.f_contiguous and not truth.flags.c_contiguous:
        # nibabel's order: work on the transposed view, so that memory is read in sequence.
        maps, weights, offsets = [m.T for m in maps], weights.T, offsets[:, ::-1]
    maps = [np.ascontiguousarray(m, dtype=np.uint8) for m in maps]
    geometry = (np.ascontiguousarray(offsets), areas, np.ascontiguousarray(weights))
    shape = tuple(n + 1 for n in maps[0].shape)
    # A bit an organ.
    bits = [np.zeros(shape, np.uint16) for _ in maps]
    for label, word in zip(maps, bits, strict=True):
        _in_slabs(partial(_mark, label, word), shape[0])
    for side, label in enumerate(maps):
        corners, other_corners = bits[side], bits[1 - side]
        other_organs = int(np.bitwise_or.reduce(other_corners, axis=None))

        def slab(start: int, stop: int, *inputs: Any) -> npt.NDArray[np.float64]:
            sums = np.zeros((organs, 2))
            _measure(*inputs, *geometry, start, stop, sums)
            return sums

        out[:, side] = np.sum(
            _in_slabs(slab, shape[0], label, corners, other_corners, other_organs), axis=0
        )
    return out


def nsd(
    pred: Labels,
    truth: Labels,
    spacing: Sequence[float],
    tolerance_mm: float | npt.NDArray[np.float64] = TOLERANCE_MM,
) -> npt.NDArray[np.float64]:
    """Return the normalised surface Dice (surface Dice at a tolerance) per organ.

    Parameters
    ----------
    pred, truth
        ``(X, Y, Z)`` integer label maps on one grid: 0, and ids of structures in use.
    spacing
        Voxel size along the array axes, mm.
    tolerance_mm
        1 mm in AbdomenAtlas-8K, 1.5 mm in Touchstone; or one an organ, :func:`tolerances`.

    Returns
    -------
    ndarray
        ``(organs,)`` float64 in 0..1, organ id order; NaN where the truth lacks the
        organ, 0 where only the truth has it.

    Raises
    ------
    GridMismatchError, VolumeError
        As :func:`surface_areas`.
    """
    table = surface_areas(pred, truth, spacing, tolerance_mm)
    total, met = table[:, :, 0].sum(axis=1), table[:, :, 1].sum(axis=1)
    present = table[:, 0, 0] > 0
    return np.where(present, met / np.where(present, total, 1.0), np.nan)
