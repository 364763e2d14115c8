"""Turn shapes into voxels: one slice of densities and labels at a time, compiled.

Edges are soft: a shape covers a voxel by ``0.5 - distance / edge``, cut to 0..1, which is
what a scanner of that resolution sees. The label is taken at the voxel's centre.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from abdomen_phantom.scene import (
    ELLIPSOID,
    GATHER,
    NOISE_PEAK,
    PLANE,
    SUBTRACT,
    TRUNK,
    TUBE,
    UNION,
)

AIR_HU = -1000.0
GAS_HU = -960.0

Array = npt.NDArray[Any]

FAR = 1e9
TILE = 64
"""Nodes along each axis of the periodic noise tile; a power of two."""

compiled = njit(cache=True, error_model="numpy", fastmath=True, nogil=True)


@compiled
def noise_at(tile: Array, x: float, y: float, z: float) -> float:
    """Interpolate the periodic tile, trilinearly, at a position in nodes."""
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
    """Estimate the distance to an ellipsoid, mm."""
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
    """Estimate the distance to a trunk, mm, along the ray from its axis."""
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
    """Compute the distance, mm, to the ``n`` segments of a tube in row ``row`` of ``active``."""
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
    """Return the smaller of two distances, the edge between them rounded over ``k``."""
    if k <= 0.0:
        return min(a, b)
    h = max(k - abs(a - b), 0.0) / k
    return min(a, b) - h * h * k * 0.25


@compiled
def _extent(points: Array, segment: int, axis: int, stretch: float) -> Any:
    """Return both ends of a tube's segment along an axis, mm."""
    radius = max(points[segment, 3], points[segment + 1, 3])
    low = min(points[segment, axis], points[segment + 1, axis]) - radius
    high = max(points[segment, axis], points[segment + 1, axis]) + radius
    return low * stretch, high * stretch


@compiled
def displacement_at(
    field: Array, origin: Array, step: float, x: float, y: float, z: float, out: Array
) -> None:
    """Write the displacement at a place into ``out``, linear between the nodes of the field."""
    nx, ny, nz = field.shape[0], field.shape[1], field.shape[2]
    u = min(max((x - origin[0]) / step, 0.0), nx - 1.001)
    v = min(max((y - origin[1]) / step, 0.0), ny - 1.001)
    w = min(max((z - origin[2]) / step, 0.0), nz - 1.001)
    a, b, k = int(u), int(v), int(w)
    tx, ty, tz = u - a, v - b, w - k
    for c in range(3):
        p = field[a, b, k, c] * (1 - tz) + field[a, b, k + 1, c] * tz
        q = field[a, b + 1, k, c] * (1 - tz) + field[a, b + 1, k + 1, c] * tz
        r = field[a + 1, b, k, c] * (1 - tz) + field[a + 1, b, k + 1, c] * tz
        s = field[a + 1, b + 1, k, c] * (1 - tz) + field[a + 1, b + 1, k + 1, c] * tz
        out[c] = (p * (1 - ty) + q * ty) * (1 - tx) + (r * (1 - ty) + s * ty) * tx


@compiled
def _span(values: Array, low: float, high: float) -> Any:
    return np.searchsorted(values, low), np.searchsorted(values, high, side="right")


@compiled
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
        As :meth:`abdomen_phantom.scene.Scene.packed` gives them.
    hu, label
        ``(X, Y)`` float32 and uint8, overwritten.
    """
    at = np.empty((xs.size, ys.size, 3), np.float64)
    for i in range(xs.size):
        for j in range(ys.size):
            displacement_at(field, origin, step, xs[i], ys[j], z, at[i, j])
            at[i, j, 0] += xs[i]
            at[i, j, 1] += ys[j]
            at[i, j, 2] += z
    hu[:] = AIR_HU
    label[:] = 0
    most, longest = 1, 1
    for s in range(shape_ints.shape[0]):
        most = max(most, shape_ints[s, 1])
    for p in range(primitive_ints.shape[0]):
        longest = max(longest, primitive_ints[p, 3])
    active = np.empty((most, longest), np.int64)
    n_active = np.zeros(most, np.int64)
    # Which shape last came near a voxel: a long tube's box is mostly far from the tube.
    near = np.full(hu.shape, -1, np.int32)
    for s in range(shape_ints.shape[0]):
        first, count = shape_ints[s, 0], shape_ints[s, 1]
        new_label, inside = shape_ints[s, 2], shape_ints[s, 3]
        bump, bump_h = shape_floats[s, 9], 2.5 / shape_floats[s, 10]
        fine, fine_h = shape_floats[s, 11], 2.5 / shape_floats[s, 12]
        wall, level = shape_floats[s, 13], shape_floats[s, 17]
        ox, oy, oz = shape_floats[s, 18], shape_floats[s, 19], shape_floats[s, 20]
        up = shape_floats[s, 21]
        swell = (bump + fine) * NOISE_PEAK + edge
        margin = swell + reach
        if z < shape_floats[s, 2] - margin or z > shape_floats[s, 5] + margin:
            continue
        low_x, high_x, low_y, high_y = FAR, -FAR, FAR, -FAR
        tubes_only = True
        for c in range(count):
            p = first + c
            kind, op = primitive_ints[p, 0], primitive_ints[p, 1]
            if kind == TUBE:
                n_active[c] = 0
                begin = primitive_ints[p, 2]
                for segment in range(begin, begin + primitive_ints[p, 3] - 1):
                    low_z, high_z = _extent(points, segment, 2, primitive_floats[p, 2])
                    if z < low_z - margin or z > high_z + margin:
                        continue
                    active[c, n_active[c]] = segment
                    n_active[c] += 1
                    if op == UNION:
                        low_a, high_a = _extent(points, segment, 0, primitive_floats[p, 0])
                        low_b, high_b = _extent(points, segment, 1, primitive_floats[p, 1])
                        low_x, high_x = min(low_x, low_a), max(high_x, high_a)
                        low_y, high_y = min(low_y, low_b), max(high_y, high_b)
                        i0, i1 = _span(xs, low_a - margin, high_a + margin)
                        j0, j1 = _span(ys, low_b - margin, high_b + margin)
                        near[i0:i1, j0:j1] = s
            elif op == UNION:
                tubes_only = False
                low_x, high_x = min(low_x, shape_floats[s, 0]), max(high_x, shape_floats[s, 3])
                low_y, high_y = min(low_y, shape_floats[s, 1]), max(high_y, shape_floats[s, 4])
        i0, i1 = _span(
            xs, max(low_x, shape_floats[s, 0]) - margin, min(high_x, shape_floats[s, 3]) + margin
        )
        j0, j1 = _span(
            ys, max(low_y, shape_floats[s, 1]) - margin, min(high_y, shape_floats[s, 4]) + margin
        )
        for i in range(i0, i1):
            for j in range(j0, j1):
                if (inside >= 0 and label[i, j] != inside) or (tubes_only and near[i, j] != s):
                    continue
                x, y, w = at[i, j, 0], at[i, j, 1], at[i, j, 2]
                d = FAR
                gathered = FAR
                for c in range(count):
                    p = first + c
                    kind, op = primitive_ints[p, 0], primitive_ints[p, 1]
                    k = primitive_floats[p, -1]
                    if op != UNION and d > swell:
                        break
                    if kind == ELLIPSOID:
                        g = ellipsoid_at(primitive_floats, p, x, y, w)
                    elif kind == TUBE:
                        g = tube_at(primitive_floats, p, points, active, c, n_active[c], x, y, w)
                    elif kind == TRUNK:
                        g = trunk_at(primitive_floats, p, x, y, w)
                    elif kind == PLANE:
                        g = (
                            primitive_floats[p, 0] * x
                            + primitive_floats[p, 1] * y
                            + primitive_floats[p, 2] * w
                            - primitive_floats[p, 3]
                        )
                    else:
                        g = gathered
                    if op == GATHER:
                        gathered = smooth_min(gathered, g, k)
                    elif op == UNION:
                        d = smooth_min(d, g, k)
                    elif op == SUBTRACT:
                        d = -smooth_min(-d, g, k)
                    else:
                        d = -smooth_min(-d, -g, k)
                if d > swell:
                    continue
                if d > -swell - wall:
                    if bump > 0.0:
                        d -= bump * noise_at(
                            tile, x * bump_h + ox, y * bump_h + oy, w * bump_h + oz
                        )
                    if fine > 0.0:
                        d -= fine * noise_at(
                            tile, x * fine_h + oy, y * fine_h + oz, w * fine_h + ox
                        )
                cover = min(1.0, 0.5 - d / edge)
                if cover <= 0.0:
                    continue
                core = 0.0 if wall <= 0.0 else min(1.0, max(0.0, 0.5 - (d + wall) / edge))
                value = shape_floats[s, 6]
                if shape_floats[s, 7] > 0.0 and core < 1.0:
                    h = 2.5 / shape_floats[s, 8]
                    value += shape_floats[s, 7] * noise_at(tile, x * h + oz, y * h + ox, w * h + oy)
                if core > 0.0:
                    content_hu = shape_floats[s, 14]
                    if shape_floats[s, 15] > 0.0:
                        h = 2.5 / shape_floats[s, 16]
                        content_hu += shape_floats[s, 15] * noise_at(
                            tile, x * h + oy, y * h + ox, w * h + oz
                        )
                    air = min(1.0, max(0.0, 0.5 - up * (level - ys[j]) / edge))
                    content_hu += air * (GAS_HU - content_hu)
                    value += core * (content_hu - value)
                hu[i, j] += cover * (value - hu[i, j])
                if d < 0.0 and new_label >= 0:
                    label[i, j] = new_label
