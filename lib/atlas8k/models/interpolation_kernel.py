"""The loop that interpolates one organ's probabilities onto a finer grid.

Importing this module imports numba. The kernel is compiled on its first call, which takes a
second once and milliseconds from the cache: import it where it is needed, not before.
"""

# numba compiles from the types of the arguments and refuses annotated overloads.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba.extending import overload

from atlas8k.attention.compiled import compiled


def stored(value, out):
    """Return a probability, float32 in [0, 1], in the element type of `out`."""


@overload(stored)
def _stored(value, out):
    if str(out.dtype) == "uint16":

        def half(value, out):
            # float16 by its bits, to nearest even. Of a subnormal, below 2^-14, the bits count
            # steps of 2^-24, which are also the steps of floats from one half on.
            bits = np.float32(value).view(np.uint32)
            small = np.uint32(np.float32(value + np.float32(0.5)).view(np.uint32) - 0x3F000000)
            odd = np.uint32(np.uint32(bits >> np.uint32(13)) & np.uint32(1))
            rounded = np.uint32(bits - np.uint32(112 << 23) + np.uint32(0xFFF) + odd)
            normal = np.uint32(rounded >> np.uint32(13))
            number = np.uint16(normal if bits >= np.uint32(113 << 23) else small)
            return np.uint16(0x7E00) if np.isnan(value) else number

        return half
    return lambda value, out: value


@compiled
def spread(probs, x, y, z, x_weights, y_weights, z_weights, least, out):
    """Interpolate linearly along z, y and x, skipping rows that are nearly 0.

    Parameters
    ----------
    probs
        ``(x, y, z)`` float32 in [0, 1], C order.
    x, y, z
        Int32 ``(2, n)``: lower and upper neighbour in ``probs`` of every voxel along an axis
        of ``out``; the upper one is the next or the same.
    x_weights, y_weights, z_weights
        Float32 ``(2, n)``: their weights, both 0 where the result is 0.
    least
        A row along z is not written where none of the four rows it lies between holds more
        than this, or NaN, anywhere.
    out
        ``(X, Y, Z)``, all 0, C order: float32, or uint16 for the bits of float16.
    """
    rows, depth = out.shape[1], out.shape[2]
    planes = np.empty((2, rows, depth), dtype=np.float32)
    has_signal = np.zeros((2, rows), dtype=np.bool_)
    cached_plane = np.full(2, -1, dtype=np.int64)
    wide = np.empty((probs.shape[1], depth), dtype=np.float32)
    row_has_signal = np.empty(probs.shape[1], dtype=np.bool_)
    below, above, below_weight, above_weight = z[0], z[1], z_weights[0], z_weights[1]
    begin, end = 0, depth
    while begin < end and below_weight[begin] == 0 and above_weight[begin] == 0:
        begin += 1
    while end > begin and below_weight[end - 1] == 0 and above_weight[end - 1] == 0:
        end -= 1
    for i in range(out.shape[0]):
        for side in range(2):
            at = x[side, i]
            slot = at & 1
            if cached_plane[slot] == at:
                continue
            cached_plane[slot] = at
            for j in range(probs.shape[1]):
                row, line = probs[at, j], wide[j]
                above_least = 0
                for k in range(row.shape[0]):
                    above_least += not row[k] <= least  # also where it is NaN
                row_has_signal[j] = above_least > 0
                for k in range(begin, end):
                    line[k] = row[below[k]] * below_weight[k] + row[above[k]] * above_weight[k]
            for j in range(rows):
                first, second = wide[y[0, j]], wide[y[1, j]]
                a, b = y_weights[0, j], y_weights[1, j]
                has_signal[slot, j] = row_has_signal[y[0, j]] or row_has_signal[y[1, j]]
                line = planes[slot, j]
                for k in range(begin, end):
                    line[k] = first[k] * a + second[k] * b
        low, high = x[0, i] & 1, x[1, i] & 1
        a, b = x_weights[0, i], x_weights[1, i]
        if a == 0 and b == 0:
            continue
        for j in range(rows):
            if has_signal[low, j] or has_signal[high, j]:
                first, second, line = planes[low, j], planes[high, j], out[i, j]
                for k in range(begin, end):
                    line[k] = stored(np.float32(first[k] * a + second[k] * b), out)
