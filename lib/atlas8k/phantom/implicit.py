"""The implicit functions of :mod:`atlas8k.phantom.scene` at a point, compiled.

Each gives about the signed distance to the surface, mm, negative inside. ``f`` holds a
row of numbers for every primitive, ``p`` is the row.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

FAR = 1e9
TILE = 64
"""Nodes along each axis of the periodic noise tile; a power of two."""

Array = npt.NDArray[Any]

compiled = njit(cache=True, error_model="numpy", fastmath=True, nogil=True)


@compiled
def noise_at(tile: Array, x: float, y: float, z: float) -> float:
    """Trilinear value of the periodic tile at a position in nodes."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    tx, ty, tz = x - fx, y - fy, z - fz
    i, j, k = int(fx) & (TILE - 1), int(fy) & (TILE - 1), int(fz) & (TILE - 1)
    i1, j1, k1 = (i + 1) & (TILE - 1), (j + 1) & (TILE - 1), (k + 1) & (TILE - 1)
    a = tile[i, j, k] * (1 - tz) + tile[i, j, k1] * tz
    b = tile[i, j1, k] * (1 - tz) + tile[i, j1, k1] * tz
    c = tile[i1, j, k] * (1 - tz) + tile[i1, j, k1] * tz
    d = tile[i1, j1, k] * (1 - tz) + tile[i1, j1, k1] * tz
    return float((a * (1 - ty) + b * ty) * (1 - tx) + (c * (1 - ty) + d * ty) * tx)


@compiled
def ellipsoid_at(f: Array, p: int, x: float, y: float, z: float) -> float:
    """About the distance to an ellipsoid, mm."""
    x, y, z = x - f[p, 0], y - f[p, 1], z - f[p, 2]
    u = (f[p, 6] * x + f[p, 7] * y + f[p, 8] * z) / f[p, 3]
    v = (f[p, 9] * x + f[p, 10] * y + f[p, 11] * z) / f[p, 4]
    w = (f[p, 12] * x + f[p, 13] * y + f[p, 14] * z) / f[p, 5]
    k0 = sqrt(u * u + v * v + w * w)
    u, v, w = u / f[p, 3], v / f[p, 4], w / f[p, 5]
    k1 = sqrt(u * u + v * v + w * w)
    if k1 < 1e-9:
        return float(-min(f[p, 3], f[p, 4], f[p, 5]))
    return k0 * (k0 - 1.0) / k1


@compiled
def trunk_at(f: Array, p: int, x: float, y: float, z: float) -> float:
    """About the distance to a trunk, mm, along the ray from its axis."""
    if f[p, 5] > 0.0:
        z = min(z, f[p, 5])
    high = max(0.0, z + 20.0) / 120.0
    narrow = f[p, 4] * high * high
    b = f[p, 1] if y > 0 else f[p, 2]
    u, v = abs(x) / (f[p, 0] * (1.0 - narrow)), abs(y) / (b * (1.0 - 0.5 * narrow))
    # Powers are slow; far from the surface the ellipse of the same axes is near enough.
    k = sqrt(u * u + v * v)
    if 0.9 < k < 1.2:
        power = f[p, 3]
        k = (u**power + v**power) ** (1.0 / power)
    if k < 1e-6:
        return float(-min(f[p, 0], b))
    return sqrt(x * x + y * y) * (1.0 - 1.0 / k)


@compiled
def tube_at(
    f: Array, p: int, points: Array, active: Array, row: int, n: int, x: float, y: float, z: float
) -> float:
    """Distance to the ``n`` active segments of a tube, row ``row`` of ``active``, mm."""
    x, y, z = x / f[p, 0], y / f[p, 1], z / f[p, 2]
    best = FAR
    for m in range(n):
        s = active[row, m]
        ax, ay, az, ar = points[s, 0], points[s, 1], points[s, 2], points[s, 3]
        dx, dy, dz = points[s + 1, 0] - ax, points[s + 1, 1] - ay, points[s + 1, 2] - az
        px, py, pz = x - ax, y - ay, z - az
        t = (px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz + 1e-9)
        t = min(1.0, max(0.0, t))
        px, py, pz = px - t * dx, py - t * dy, pz - t * dz
        d = sqrt(px * px + py * py + pz * pz) - ar - t * (points[s + 1, 3] - ar)
        best = min(best, d)
    return float(best * f[p, 3])


@compiled
def smooth_min(a: float, b: float, k: float) -> float:
    """Minimum with its edge rounded over ``k``."""
    if k <= 0.0:
        return min(a, b)
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - h * h * k * 0.25
