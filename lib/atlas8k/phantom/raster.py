"""Shapes to voxels: one slice of densities and labels at a time, compiled.

Edges are soft: a shape covers a voxel by ``0.5 - distance / edge``, cut to 0..1, which is
what a scanner of that resolution sees. The label is taken at the voxel's centre.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from atlas8k.phantom.scene import (
    ELLIPSOID,
    GATHER,
    NOISE_PEAK,
    PLANE,
    SUBTRACT,
    TRUNK,
    TUBE,
    UNION,
)

FAR = 1e9
TILE = 64
"""Nodes along each axis of the periodic noise tile; a power of two."""
AIR_HU = -1000.0

Array = npt.NDArray[Any]


@njit(cache=True, error_model="numpy")
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
    return (a * (1 - ty) + b * ty) * (1 - tx) + (c * (1 - ty) + d * ty) * tx


@njit(cache=True, error_model="numpy")
def _ellipsoid(n: Array, x: float, y: float, z: float) -> float:
    x, y, z = x - n[0], y - n[1], z - n[2]
    u = (n[6] * x + n[7] * y + n[8] * z) / n[3]
    v = (n[9] * x + n[10] * y + n[11] * z) / n[4]
    w = (n[12] * x + n[13] * y + n[14] * z) / n[5]
    k0 = sqrt(u * u + v * v + w * w)
    k1 = sqrt((u / n[3]) ** 2 + (v / n[4]) ** 2 + (w / n[5]) ** 2)
    if k1 < 1e-9:
        return -min(n[3], n[4], n[5])
    return k0 * (k0 - 1.0) / k1


@njit(cache=True, error_model="numpy")
def _trunk(n: Array, x: float, y: float, z: float) -> float:
    high = max(0.0, z + 20.0) / 120.0
    shrink = 1.0 - n[4] * high * high
    b = n[1] if y > 0 else n[2]
    u, v = abs(x) / (n[0] * shrink), abs(y) / (b * (1.0 - 0.5 * (1.0 - shrink)))
    k = (u ** n[3] + v ** n[3]) ** (1.0 / n[3])
    if k < 1e-6:
        return -min(n[0], b)
    return sqrt(x * x + y * y) * (1.0 - 1.0 / k)


@njit(cache=True, error_model="numpy")
def _tube(n: Array, points: Array, active: Array, x: float, y: float, z: float) -> float:
    x, y, z = x / n[0], y / n[1], z / n[2]
    best = FAR
    for s in active:
        ax, ay, az, ar = points[s, 0], points[s, 1], points[s, 2], points[s, 3]
        dx, dy, dz = points[s + 1, 0] - ax, points[s + 1, 1] - ay, points[s + 1, 2] - az
        px, py, pz = x - ax, y - ay, z - az
        t = (px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz + 1e-9)
        t = min(1.0, max(0.0, t))
        px, py, pz = px - t * dx, py - t * dy, pz - t * dz
        d = sqrt(px * px + py * py + pz * pz) - ar - t * (points[s + 1, 3] - ar)
        best = min(best, d)
    return best * n[3]


@njit(cache=True, error_model="numpy")
def _smooth_min(a: float, b: float, k: float) -> float:
    if k <= 0.0:
        return min(a, b)
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - h * h * k * 0.25


@njit(cache=True, error_model="numpy")
def _active(n: Array, points: Array, first: int, count: int, z: float, margin: float) -> Array:
    """Segments of a tube that can reach a slice."""
    out = np.empty(count, np.int64)
    m = 0
    for s in range(first, first + count - 1):
        reach = max(points[s, 3], points[s + 1, 3]) * n[2] + margin
        low = min(points[s, 2], points[s + 1, 2]) * n[2]
        high = max(points[s, 2], points[s + 1, 2]) * n[2]
        if low - reach <= z <= high + reach:
            out[m] = s
            m += 1
    return out[:m]


@njit(cache=True, error_model="numpy")
def _warp_slice(field: Array, origin: Array, step: float, xs: Array, ys: Array, z: float) -> Array:
    """Positions ``(X, Y, 3)``, mm, after the common displacement."""
    out = np.empty((xs.size, ys.size, 3), np.float64)
    nx, ny, nz = field.shape[0], field.shape[1], field.shape[2]
    w = min(max((z - origin[2]) / step, 0.0), nz - 1.001)
    k = int(w)
    tz = w - k
    for i in range(xs.size):
        u = min(max((xs[i] - origin[0]) / step, 0.0), nx - 1.001)
        a = int(u)
        tx = u - a
        for j in range(ys.size):
            v = min(max((ys[j] - origin[1]) / step, 0.0), ny - 1.001)
            b = int(v)
            ty = v - b
            for c in range(3):
                p = field[a, b, k, c] * (1 - tz) + field[a, b, k + 1, c] * tz
                q = field[a, b + 1, k, c] * (1 - tz) + field[a, b + 1, k + 1, c] * tz
                r = field[a + 1, b, k, c] * (1 - tz) + field[a + 1, b, k + 1, c] * tz
                s = field[a + 1, b + 1, k, c] * (1 - tz) + field[a + 1, b + 1, k + 1, c] * tz
                out[i, j, c] = (p * (1 - ty) + q * ty) * (1 - tx) + (r * (1 - ty) + s * ty) * tx
            out[i, j, 0] += xs[i]
            out[i, j, 1] += ys[j]
            out[i, j, 2] += z
    return out


@njit(cache=True, error_model="numpy")
def _span(values: Array, low: float, high: float) -> tuple[int, int]:
    return np.searchsorted(values, low), np.searchsorted(values, high, side="right")


@njit(cache=True, error_model="numpy")
def paint_slice(
    xs: Array,
    ys: Array,
    z: float,
    edge: float,
    field: Array,
    origin: Array,
    step: float,
    reach: float,
    tile: Array,
    shape_ints: Array,
    shape_floats: Array,
    primitive_ints: Array,
    primitive_floats: Array,
    points: Array,
    hu: Array,
    label: Array,
) -> None:
    """Paint every shape into one slice.

    Parameters
    ----------
    xs, ys, z
        Voxel centres, mm, ascending; the slice's height.
    edge
        Width over which an edge is spread, mm.
    field, origin, step, reach
        Displacement ``(nx, ny, nz, 3)``, mm, at nodes from ``origin`` every ``step`` mm,
        and the largest displacement along any axis.
    tile
        Periodic noise ``(64, 64, 64)``, unit variance.
    shape_ints, shape_floats, primitive_ints, primitive_floats, points
        As :meth:`atlas8k.phantom.scene.Scene.packed` gives them.
    hu, label
        ``(X, Y)`` float32 and uint8, overwritten.
    """
    at = _warp_slice(field, origin, step, xs, ys, z)
    hu[:] = AIR_HU
    label[:] = 0
    nothing = np.empty(0, np.int64)
    for s in range(shape_ints.shape[0]):
        first, count = shape_ints[s, 0], shape_ints[s, 1]
        new_label, inside = shape_ints[s, 2], shape_ints[s, 3]
        f = shape_floats[s]
        swell = (f[9] + f[11]) * NOISE_PEAK + edge
        margin = swell + reach
        if z < f[2] - margin or z > f[5] + margin:
            continue
        active = [nothing for _ in range(count)]
        low_x, high_x, low_y, high_y = FAR, -FAR, FAR, -FAR
        for c in range(count):
            kind, op = primitive_ints[first + c, 0], primitive_ints[first + c, 1]
            if kind == TUBE:
                n = primitive_floats[first + c]
                active[c] = _active(
                    n, points, primitive_ints[first + c, 2], primitive_ints[first + c, 3], z, margin
                )
                if op == UNION:
                    for g in active[c]:
                        for e in range(g, g + 2):
                            low_x = min(low_x, (points[e, 0] - points[e, 3]) * n[0])
                            high_x = max(high_x, (points[e, 0] + points[e, 3]) * n[0])
                            low_y = min(low_y, (points[e, 1] - points[e, 3]) * n[1])
                            high_y = max(high_y, (points[e, 1] + points[e, 3]) * n[1])
            elif op == UNION:
                low_x, high_x = min(low_x, f[0]), max(high_x, f[3])
                low_y, high_y = min(low_y, f[1]), max(high_y, f[4])
        i0, i1 = _span(xs, max(low_x, f[0]) - margin, min(high_x, f[3]) + margin)
        j0, j1 = _span(ys, max(low_y, f[1]) - margin, min(high_y, f[4]) + margin)
        for i in range(i0, i1):
            for j in range(j0, j1):
                if inside >= 0 and label[i, j] != inside:
                    continue
                x, y, w = at[i, j, 0], at[i, j, 1], at[i, j, 2]
                d = FAR
                gathered = FAR
                for c in range(count):
                    kind, op = primitive_ints[first + c, 0], primitive_ints[first + c, 1]
                    n = primitive_floats[first + c]
                    k = n[-1]
                    if op != UNION and d > swell:
                        break
                    if kind == ELLIPSOID:
                        g = _ellipsoid(n, x, y, w)
                    elif kind == TUBE:
                        g = _tube(n, points, active[c], x, y, w)
                    elif kind == TRUNK:
                        g = _trunk(n, x, y, w)
                    elif kind == PLANE:
                        g = n[0] * x + n[1] * y + n[2] * w - n[3]
                    else:
                        g = gathered
                    if op == GATHER:
                        gathered = _smooth_min(gathered, g, k)
                    elif op == UNION:
                        d = _smooth_min(d, g, k)
                    elif op == SUBTRACT:
                        d = -_smooth_min(-d, g, k)
                    else:
                        d = -_smooth_min(-d, -g, k)
                if abs(d) < swell:
                    if f[9] > 0.0:
                        h = 2.5 / f[10]
                        d -= f[9] * noise_at(tile, x * h + f[14], y * h + f[15], w * h + f[16])
                    if f[11] > 0.0:
                        h = 2.5 / f[12]
                        d -= f[11] * noise_at(tile, x * h + f[15], y * h + f[16], w * h + f[14])
                if f[13] > -1e8:
                    d = max(d, f[13] - ys[j])
                cover = min(1.0, max(0.0, 0.5 - d / edge))
                if cover <= 0.0:
                    continue
                value = f[6]
                if f[7] > 0.0:
                    h = 2.5 / f[8]
                    value += f[7] * noise_at(tile, x * h + f[16], y * h + f[14], w * h + f[15])
                hu[i, j] += cover * (value - hu[i, j])
                if d < 0.0 and new_label >= 0:
                    label[i, j] = new_label
