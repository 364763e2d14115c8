"""From a CT to the intensities a network expects, on the network's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.models.checkpoint import Preprocessing
from atlas8k.models.regrid import linear_plan, parallel_axes
from atlas8k.volume import Grid, Volume, to_canonical

Floats = npt.NDArray[np.float32]


def prepare(ct: Volume, preprocessing: Preprocessing) -> tuple[Floats, Grid]:
    """Intensities in 0..1 on the grid a network works on.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing, any integer or float type.
    preprocessing
        Of the network; its window size and overlap do not matter here, so networks that
        differ only in those share one result (:func:`intensity_key`).

    Returns
    -------
    array : (X, Y, Z) float32 in [0, 1]
        0 at and below the window's low end, 1 at and above its high end. Axes nearest
        RAS. Linear interpolation, as the published networks were trained with.
    grid : Grid
        ``ct.grid.working(preprocessing.spacing_mm)``.

    Notes
    -----
    The same bits whatever axes the patient is stored along. Beside the result only a few
    planes are held, never a second copy of the CT.
    """
    # Clipped before interpolating: padding of -3024 HU or metal at 20,000 would otherwise
    # bleed into the voxels beside it.
    low, high = preprocessing.hu_window
    canonical = to_canonical(ct)
    target = ct.grid.working(preprocessing.spacing_mm)
    axes = parallel_axes(canonical.grid, target)
    if axes is None or [axis for axis, _ in axes] != [0, 1, 2]:
        raise AssertionError("a working grid is parallel to its CT, axis by axis")
    x, y, z = (linear_plan(at, n) for (_, at), n in zip(axes, canonical.array.shape, strict=True))
    out = np.empty(target.shape[::-1], dtype=np.float32)  # (Z, Y, X): planes are contiguous
    planes: dict[int, Floats] = {}
    for k, (lower, upper, weight) in enumerate(zip(*z, strict=True)):
        for index in (lower, upper):
            if index not in planes:
                planes[index] = _plane(canonical.array, index, low, high)
        plane = _mix(planes[lower], planes[upper], weight) if weight else planes[lower]
        plane = _mix(plane[y[0]], plane[y[1]], y[2][:, None])
        out[k] = _mix(plane[:, x[0]], plane[:, x[1]], x[2])
        planes = {index: planes[index] for index in (lower, upper)}  # the next may need them
    out -= np.float32(low)
    out *= np.float32(1.0 / (high - low))
    np.clip(out, 0.0, 1.0, out=out)  # rounding
    return np.ascontiguousarray(out.T), target


def intensity_key(
    preprocessing: Preprocessing,
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """What decides the result of :func:`prepare`: equal keys, equal arrays."""
    return preprocessing.spacing_mm, preprocessing.hu_window


def _plane(array: npt.NDArray[Any], z: int, low: float, high: float) -> Floats:
    """One axial plane ``(Y, X)``, clipped."""
    plane = array[:, :, z].T
    return np.clip(plane.astype(np.float32), np.float32(low), np.float32(high))


def _mix(lower: Floats, upper: Floats, weight: Any) -> Floats:
    """Linear interpolation in float32; `upper` may not be written to."""
    mixed = upper - lower
    mixed *= weight
    mixed += lower
    return mixed
