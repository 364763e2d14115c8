"""Shapes to voxels: one slice of densities and labels at a time, compiled.

Edges are soft: a shape covers a voxel by ``0.5 - distance / edge``, cut to 0..1, which is
what a scanner of that resolution sees. The label is taken at the voxel's centre.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.phantom.implicit import (
    FAR,
    compiled,
    ellipsoid_at,
    noise_at,
    smooth_min,
    trunk_at,
    tube_at,
)
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

AIR_HU = -1000.0
GAS_HU = -960.0

Array = npt.NDArray[Any]


@compiled
def _activate(
    stretch: float, points: Array, first: int, count: int, z: float, margin: float, out: Array
) -> int:
    """Segments of a tube that can reach a slice, into ``out``; how many."""
    m = 0
    for s in range(first, first + count - 1):
        reach = max(points[s, 3], points[s + 1, 3]) * stretch + margin
        low = min(points[s, 2], points[s + 1, 2]) * stretch
        high = max(points[s, 2], points[s + 1, 2]) * stretch
        if low - reach <= z <= high + reach:
            out[m] = s
            m += 1
    return m


@compiled
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
        As :meth:`atlas8k.phantom.scene.Scene.packed` gives them.
    hu, label
        ``(X, Y)`` float32 and uint8, overwritten.
    """
    at = _warp_slice(field, origin, step, xs, ys, z)
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
                n_active[c] = _activate(
                    primitive_floats[p, 2],
                    points,
                    primitive_ints[p, 2],
                    primitive_ints[p, 3],
                    z,
                    margin,
                    active[c],
                )
                if op == UNION:
                    for m in range(n_active[c]):
                        a, b = active[c, m], active[c, m] + 1
                        rx = max(points[a, 3], points[b, 3]) * primitive_floats[p, 0]
                        ry = max(points[a, 3], points[b, 3]) * primitive_floats[p, 1]
                        ax, bx = (
                            points[a, 0] * primitive_floats[p, 0],
                            points[b, 0] * primitive_floats[p, 0],
                        )
                        ay, by = (
                            points[a, 1] * primitive_floats[p, 1],
                            points[b, 1] * primitive_floats[p, 1],
                        )
                        low_a, high_a = min(ax, bx) - rx, max(ax, bx) + rx
                        low_b, high_b = min(ay, by) - ry, max(ay, by) + ry
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
                    held = shape_floats[s, 14]
                    if shape_floats[s, 15] > 0.0:
                        h = 2.5 / shape_floats[s, 16]
                        held += shape_floats[s, 15] * noise_at(
                            tile, x * h + oy, y * h + ox, w * h + oz
                        )
                    air = min(1.0, max(0.0, 0.5 - up * (level - ys[j]) / edge))
                    held += air * (GAS_HU - held)
                    value += core * (held - value)
                hu[i, j] += cover * (value - hu[i, j])
                if d < 0.0 and new_label >= 0:
                    label[i, j] = new_label
