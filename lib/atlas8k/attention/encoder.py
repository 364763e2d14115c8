"""The loop that turns probabilities into codes; see :mod:`atlas8k.attention.quantise`."""

# mypy: ignore-errors

from __future__ import annotations

import numpy as np

from atlas8k.attention.compiled import compiled
from atlas8k.attention.kernels import CHUNK, fields, probability


@compiled
def encode(block, begin, end, top, floor, p_table, h_table, cells, edges, codes, lost, at):
    """Nearest codes of the voxels ``begin`` to ``end`` of a block of probabilities.

    Where no network says more than ``floor`` for an organ, the codes are 0 and what Eq. 1
    and Eq. 2 were there is added to ``lost: (organs, 2)`` float64. ``cells`` gives, by the
    upper 16 bits of the float32 distance from the nearer end, the least code of any value
    with these bits; ``edges`` the values from which the next code is nearer. Returns as
    :func:`sweep` does.
    """
    models, organs = block.shape[0], block.shape[1]
    std = np.empty(CHUNK, dtype=np.float32)
    ent = np.empty(CHUNK, dtype=np.float32)
    high = np.empty(CHUNK, dtype=np.float32)
    for start in range(begin, end, CHUNK):
        n = min(CHUNK, end - start)
        for c in range(organs):
            largest = block.dtype.type(0)
            high[:] = 0
            for m in range(models):
                row = block[m, c, start : start + n]
                for i in range(n):
                    largest = max(largest, row[i])
                    high[i] = max(high[i], probability(row[i], p_table))
            if largest > top:
                return 1
            loudest = np.float32(0)
            for i in range(n):
                loudest = max(loudest, high[i])
            if loudest == 0:
                for m in range(models):
                    codes[m, c, at + start - begin : at + start - begin + n] = 0
                continue
            fields(block, c, start, n, p_table, h_table, std, ent)
            lost_std, lost_ent = np.float32(0), np.float32(0)
            for i in range(n):
                quiet = np.float32(high[i] <= floor)
                lost_std += quiet * std[i]
                lost_ent += quiet * ent[i]
            lost[c, 0] += lost_std
            lost[c, 1] += lost_ent
            for m in range(models):
                row = block[m, c, start : start + n]
                out = codes[m, c, at + start - begin : at + start - begin + n]
                if loudest <= floor:
                    out[:] = 0
                    continue
                for i in range(n):
                    p = np.float32(probability(row[i], p_table))
                    above = p > np.float32(0.5)
                    end_distance = np.float32(np.float32(1) - p if above else p)
                    bits = np.uint32(end_distance.view(np.uint32) & np.uint32(0x7FFFFFFF))
                    code = cells[np.uint32(bits >> np.uint32(16))]  # also of a negative zero
                    code += np.uint8(end_distance > edges[code])
                    code = np.uint8(255 - code) if above else code
                    out[i] = code if high[i] > floor else np.uint8(0)
    return 0
