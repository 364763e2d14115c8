"""Resample arrays from one grid to another.

SimpleITK and nibabel are imported where they are used: commands that resample nothing start
a quarter second sooner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Grid, Volume


def to_canonical(volume: Volume) -> Volume:
    """Return the same voxels with axes nearest RAS+; only a view is made where possible."""
    array = on_canonical_axes(volume.array, volume.grid)
    return Volume(array, volume.grid.canonical(), volume.path)


def on_canonical_axes(array: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """Return an array on `grid` as it is on ``grid.canonical()``, a view."""
    from nibabel.orientations import apply_orientation, io_orientation

    return np.asarray(apply_orientation(array, io_orientation(grid.affine)))


def on_own_axes(array: npt.NDArray[Any], grid: Grid) -> npt.NDArray[Any]:
    """Return an array on ``grid.canonical()`` as it is on `grid`, contiguous."""
    from nibabel.orientations import (
        apply_orientation,
        axcodes2ornt,
        io_orientation,
        ornt_transform,
    )

    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(grid.affine))
    return np.ascontiguousarray(apply_orientation(array, back))


def resample(
    array: npt.NDArray[Any], source: Grid, target: Grid, *, linear: bool, fill: float = 0.0
) -> npt.NDArray[Any]:
    """Sample ``array`` at the voxel centres of another grid.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` on ``source``; any orientation, spacing and handedness.
    linear
        Linear interpolation for intensities and probabilities, nearest neighbour for
        labels.
    fill
        Value outside the source's extent. Within half a voxel of the edge, the edge
        voxel's value is used.

    Returns
    -------
    ndarray
        ``target.shape``, dtype of ``array``.
    """
    if tuple(array.shape) != source.shape:
        raise GridMismatchError("array", f"shape {array.shape} does not fit grid {source.shape}")
    import SimpleITK as sitk

    # Both grids are described to ITK in the source's index space, so that neither needs
    # a direction matrix (ITK wants orthonormal ones and sheared affines have none).
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    index_map = np.linalg.solve(source.affine, target.affine)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(index_map[:3, :3].ravel().tolist())
    transform.SetTranslation(index_map[:3, 3].tolist())
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in target.shape])
    filter_.SetInterpolator(sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
    filter_.SetDefaultPixelValue(float(fill))
    filter_.SetTransform(transform)
    out = sitk.GetArrayFromImage(filter_.Execute(image))
    return np.asarray(out.T, dtype=array.dtype)
