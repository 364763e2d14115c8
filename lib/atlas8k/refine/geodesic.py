"""Distance along paths that pay for every change of intensity on their way.

By raster scans (Toivanen: New geodesic distance transforms for gray-scale images. Pattern
Recognition Letters 1996), a few there and back. Importing this module imports numba.
"""

# numba compiles from the types of the arguments; what is compiled has no annotations to check.
# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from atlas8k.attention.compiled import compiled

FAR = 1e6
SWEEPS = 1
"""Scans there and back; a way that winds more than that is found longer than it is."""


@compiled
def _scan(values, distance, steps, lengths, per_unit):
    nx, ny, nz = values.shape
    for x0 in range(nx):
        for y0 in range(ny):
            for z0 in range(nz):
                best = distance[x0, y0, z0]
                value = values[x0, y0, z0]
                for k in range(len(steps)):
                    x, y, z = x0 + steps[k, 0], y0 + steps[k, 1], z0 + steps[k, 2]
                    if 0 <= x < nx and 0 <= y < ny and 0 <= z < nz:
                        pay = abs(values[x, y, z] - value) * per_unit + lengths[k]
                        best = min(best, distance[x, y, z] + pay)
                distance[x0, y0, z0] = best


def geodesic_mm(
    values: npt.NDArray[np.float32],
    seeds: npt.NDArray[np.bool_],
    spacing: tuple[float, float, float],
    mm_per_unit: float,
) -> npt.NDArray[np.float32]:
    """Return each voxel's shortest way to a seed.

    Parameters
    ----------
    values
        ``(X, Y, Z)``, such as smoothed HU.
    seeds
        ``(X, Y, Z)``; without any the distance is :data:`FAR`.
    spacing
        mm.
    mm_per_unit
        What a difference of 1 costs beside the length of the way.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` float32, mm.
    """
    distance = np.where(seeds, np.float32(0), np.float32(FAR)).astype(np.float32)
    if not seeds.any():
        return distance
    around = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
    steps = np.array(around[:13])  # those that a scan has passed already
    lengths = np.linalg.norm(steps * np.asarray(spacing), axis=1).astype(np.float32)
    values = np.ascontiguousarray(values, dtype=np.float32)
    back, turned = np.ascontiguousarray(values[::-1, ::-1, ::-1]), (slice(None, None, -1),) * 3
    for _ in range(SWEEPS):
        _scan(values, distance, steps, lengths, np.float32(mm_per_unit))
        distance = np.ascontiguousarray(distance[turned])
        _scan(back, distance, steps, lengths, np.float32(mm_per_unit))
        distance = np.ascontiguousarray(distance[turned])
    return distance
