"""Surface elements: the area that each of the 256 neighbourhoods of a voxel corner carries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from skimage.measure import marching_cubes

BITS = np.array([[[128, 64], [32, 16]], [[8, 4], [2, 1]]], dtype=np.uint8)
"""Bit of each of a corner's eight voxels, ``(2, 2, 2)``: any numbering would do."""


@cache
def _projected_triangles() -> tuple[npt.NDArray[np.float64], ...]:
    """Triangles of the 256 cells as ``(n, 3)`` area vectors, voxel units.

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
    """Area of the surface element of each of the 256 corner neighbourhoods.

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
