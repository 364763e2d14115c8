"""From a CT to the intensities a network expects, on the network's own grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atlas8k.models.checkpoint import Preprocessing
from atlas8k.volume import Grid, Volume, resample, to_canonical


def prepare(ct: Volume, preprocessing: Preprocessing) -> tuple[npt.NDArray[np.float32], Grid]:
    """Intensities in 0..1 on the grid a network works on.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing.
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
    """
    low, high = preprocessing.hu_window
    # Clipped before interpolating: padding of -3024 HU or metal at 20,000 would
    # otherwise bleed into the voxels beside it.
    array = np.clip(ct.array, low, high).astype(np.float32, copy=False)
    array -= np.float32(low)
    array *= np.float32(1.0 / (high - low))
    target = ct.grid.working(preprocessing.spacing_mm)
    canonical = to_canonical(Volume(array, ct.grid))
    if canonical.grid.same_as(target, tolerance_voxels=1e-3):
        out = np.ascontiguousarray(canonical.array)
    else:
        # From the canonical axes, so that one patient stored along other axes gives the
        # same bits.
        out = resample(canonical.array, canonical.grid, target, linear=True)
    return np.clip(out, 0.0, 1.0, out=out), target


def intensity_key(
    preprocessing: Preprocessing,
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """What decides the result of :func:`prepare`: equal keys, equal arrays."""
    return preprocessing.spacing_mm, preprocessing.hu_window
