"""Connected components of a mask of any shape."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

BESIDE = 26
"""Connectivity by which voxels that touch by a face, an edge or a corner belong together."""


def label_components(mask: npt.NDArray[np.bool_], connectivity: int = BESIDE) -> npt.NDArray[Any]:
    """Assign a number to each connected component of a mask.

    Parameters
    ----------
    mask
        ``(X, Y, Z)`` bool, in C or Fortran order (another is copied), any size.
    connectivity
        6, 18 or 26 neighbours.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` unsigned integer: 0 outside, components from 1 on without gaps.

    Notes
    -----
    connected-components-3d 4.1.1 sizes its table of 26-connected pieces for a volume and
    raises ``RuntimeError: maximum length exception`` on many that are one voxel thick, such
    as the voxels 1, 0, 1 in a row. An empty layer beside these makes a volume of them.
    """
    if not (mask.flags.c_contiguous or mask.flags.f_contiguous):
        mask = np.ascontiguousarray(mask)
    thin = [size == 1 for size in mask.shape]
    if not any(thin):
        return np.asarray(cc3d.connected_components(mask, connectivity=connectivity))
    thick = np.pad(mask, [(0, int(add)) for add in thin])
    pieces = cc3d.connected_components(thick, connectivity=connectivity)
    return np.asarray(pieces[tuple(slice(size) for size in mask.shape)])


def largest_component(
    mask: npt.NDArray[np.bool_], connectivity: int = BESIDE
) -> npt.NDArray[np.bool_]:
    """Return the largest connected component of ``(X, Y, Z)``; an empty mask stays empty.

    Of several of one size it is the first in the order of :func:`label_components`.
    """
    pieces = label_components(mask, connectivity)
    sizes = np.bincount(pieces.ravel(order="K"))
    if len(sizes) < 2:
        return np.zeros(mask.shape, dtype=bool)
    sizes[0] = 0
    return np.asarray(pieces == int(np.argmax(sizes)))
