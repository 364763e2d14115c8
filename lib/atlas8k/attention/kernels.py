"""The fused loops: Eq. 1 to 4 in one pass over the probabilities, in float32.

Importing this module imports numba. A kernel is compiled on its first call, which takes
seconds once and milliseconds from the cache: import it where they are needed, not before.

A block is ``(models, organs, voxels)``, C order, in one of three forms: float16 seen as
uint16, float32 seen as uint32, or the codes of :class:`atlas8k.attention.Quantised` as uint8.
All three are in the order of the probabilities that they stand for, and what is no
probability, negative or NaN too, lies above 1, so that comparisons are between integers,
which vector units reduce; they may not do so with floats that can be NaN. A block is worked
off in chunks of voxels that stay in the first-level cache, organ by organ, so that the
inner loops are plain runs over contiguous memory.

Probabilities of float16 and codes need no logarithm: ``entropy`` is a table by their bits.
"""

# numba compiles from the types of the arguments and refuses annotated overloads.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba.extending import overload

from atlas8k.attention.compiled import compiled
from atlas8k.attention.equations import (
    HEAT_STEPS,
    OVERLAP_ANY,
    OVERLAP_OWN,
    SALIENT_ENTROPY,
    SALIENT_STD,
)

CHUNK = 512
"""Voxels a pass; a chunk's rows of three networks and its scratch rows take 24 KiB."""

LN1, LN2, LN3, LN4 = -0.49999982, 0.33334227, -0.25002472, 0.19953552
LN5, LN6, LN7, LN8 = -0.16552732, 0.14980275, -0.14439487, 0.08728043
"""ln(1 + f) = f (1 + LN1 f + LN2 f^2 + ...)."""

# Placeholders that numba replaces by one implementation a block type.


def probability(word, table):
    """Return the probability that one array element stands for, float32."""


def above_half(word):
    """Return whether the element stands for p > 0.5."""


def entropy(word, table):
    """Return -p ln p of the element, float32."""


@overload(above_half)
def _above_half(word):
    name = str(word)
    if name == "uint8":
        return lambda word: word >= 128
    if name == "uint16":
        return lambda word: word > 0x3800
    return lambda word: word > 0x3F000000


@overload(probability)
def _probability(word, table):
    name = str(word)
    if name == "uint8":
        return lambda word, table: table[word]
    if name == "uint16":

        def half(word, table):
            # Exponent rebiased by 112; subnormals apart, which the vector unit is slow at.
            wide = np.uint32(np.uint32(word) << np.uint32(13))
            normal = np.uint32(wide + np.uint32(112 << 23)).view(np.float32)
            small = np.float32(np.int32(word)) * np.float32(2.0**-24)
            return normal if word >= 0x400 else small

        return half
    return lambda word, table: np.uint32(word).view(np.float32)


@overload(entropy)
def _entropy(word, table):
    if str(word) in ("uint8", "uint16"):
        return lambda word, table: table[word]

    def logarithm(word, table):
        # ln p = exponent * ln 2 + ln(1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1): a least
        # squares fit, 1e-7 of p at most; 0 stays 0 and 1 gives exactly 0.
        bits = np.int32(word)
        exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
        mantissa = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32)
        f = mantissa - np.float32(1)
        fit = np.float32(LN8)
        fit = fit * f + np.float32(LN7)
        fit = fit * f + np.float32(LN6)
        fit = fit * f + np.float32(LN5)
        fit = fit * f + np.float32(LN4)
        fit = fit * f + np.float32(LN3)
        fit = fit * f + np.float32(LN2)
        fit = fit * f + np.float32(LN1)
        fit = fit * f + np.float32(1)
        return -np.uint32(word).view(np.float32) * (
            np.float32(exponent) * np.float32(0.6931471805599453) + f * fit
        )

    return logarithm


@compiled
def fields(block, organ, begin, n, p_table, h_table, std, ent):
    """Write Eq. 1 and Eq. 2 of one organ over ``n`` voxels from ``begin`` into scratch rows.

    Deviations are taken from differences between networks, not from the mean, so that
    networks that agree give exactly 0.
    """
    models = block.shape[0]
    share = np.float32(1.0 / models)
    if models == 3:
        a = block[0, organ, begin : begin + n]
        b = block[1, organ, begin : begin + n]
        c = block[2, organ, begin : begin + n]
        for i in range(n):
            pa = probability(a[i], p_table)
            pb = probability(b[i], p_table)
            pc = probability(c[i], p_table)
            ab, bc, ca = pa - pb, pb - pc, pc - pa
            std[i] = np.sqrt(ab * ab + bc * bc + ca * ca) * share
        for i in range(n):
            total = entropy(a[i], h_table) + entropy(b[i], h_table) + entropy(c[i], h_table)
            ent[i] = total * share
        return
    first = block[0, organ, begin : begin + n]
    for i in range(n):
        std[i] = np.float32(0)
        ent[i] = entropy(first[i], h_table)
    shift = np.zeros(n, dtype=np.float32)
    for m in range(1, models):
        row = block[m, organ, begin : begin + n]
        for i in range(n):
            d = probability(row[i], p_table) - probability(first[i], p_table)
            shift[i] += d
            std[i] += d * d
            ent[i] += entropy(row[i], h_table)
    for i in range(n):
        mean = shift[i] * share
        std[i] = np.sqrt(max(std[i] * share - mean * mean, np.float32(0)))
        ent[i] *= share


@compiled
def entropy_of_mean(block, organ, begin, n, p_table, mean):
    """Return the sum of -m ln m of one organ over ``n`` voxels; m: mean of the networks.

    ``mean`` is a scratch row. The logarithm is that of float32 elements.
    """
    models = block.shape[0]
    share = np.float32(1.0 / models)
    mean[:n] = 0
    for network in range(models):
        row = block[network, organ, begin : begin + n]
        for i in range(n):
            mean[i] += probability(row[i], p_table)
    total = np.float32(0)
    for i in range(n):
        # Rounding may leave a mean of ones a step above 1.
        m = np.float32(min(mean[i] * share, np.float32(1)))
        total += entropy(np.uint32(m.view(np.uint32)), p_table)
    return total


@compiled
def sweep(
    block,
    begin,
    end,
    top,
    silent,
    p_table,
    h_table,
    cross,
    containers,
    limits,
    sums,
    flags,
    heat,
    at,
):
    """Compute sums, flags and heat of the voxels ``begin`` to ``end`` of a block.

    Parameters
    ----------
    block
        ``(models, organs, voxels)`` uint8, uint16 or uint32, C order.
    top
        Largest element that is a probability, same dtype.
    silent
        A chunk of an organ in which no network has more than this element is left out.
    p_table, h_table
        Float32, probability and -p ln p by element; not used for uint32.
    cross
        Whether Eq. 4 takes the overlap across networks.
    containers
        Int64 (organs), the organ that each lies within, or -1: who predicts both predicts one.
    limits
        Float32 (2), thresholds of std and entropy for the flags.
    sums
        Float64 ``(organs, 8)``, added to: std, entropy, both overlaps, largest Eq. 4 (a
        maximum), voxels left out, the most that Eq. 4 can sum to in these, and the entropy
        of the networks' mean.
    flags, heat
        Uint8 ``(organs, >= at + end - begin)`` or of no length, written from ``at`` on.

    Returns
    -------
    int
        0, or 1 where an element is no probability; the outputs are then void.
    """
    models, organs = block.shape[0], block.shape[1]
    std = np.empty(CHUNK, dtype=np.float32)
    ent = np.empty(CHUNK, dtype=np.float32)
    mean = np.empty(CHUNK, dtype=np.float32)
    own = np.empty((models, CHUNK), dtype=np.uint8)
    union = np.empty(CHUNK, dtype=np.uint8)
    either = np.empty(CHUNK, dtype=np.uint8)
    within = np.empty(CHUNK, dtype=np.uint8)
    across = np.empty(CHUNK, dtype=np.uint8)
    loudest = np.empty(organs, dtype=block.dtype)
    lowest = block.dtype.type(0)
    step = np.float32(HEAT_STEPS)
    for start in range(begin, end, CHUNK):
        n = min(CHUNK, end - start)
        # 1. How loud each organ is here, and how many organs each network predicts.
        crowded = False
        own[:, :] = 0
        union[:] = 0
        for c in range(organs):
            high = lowest
            either[:] = 0
            for m in range(models):
                row = block[m, c, start : start + n]
                count = own[m]
                if containers[c] >= 0:
                    outer = block[m, containers[c], start : start + n]
                    for i in range(n):
                        high = max(high, row[i])
                        hit = np.uint8(above_half(row[i])) & np.uint8(not above_half(outer[i]))
                        count[i] += hit
                        either[i] |= hit
                    continue
                for i in range(n):
                    word = row[i]
                    high = max(high, word)
                    hit = np.uint8(above_half(word))
                    count[i] += hit
                    either[i] |= hit
            for i in range(n):
                union[i] += either[i]
            loudest[c] = high
            if high > top:
                return 1
        most = np.uint8(0)
        for i in range(n):
            most = max(most, union[i])
        crowded = most > 1
        # 2. Organ by organ.
        for c in range(organs):
            if loudest[c] <= silent:
                sums[c, 5] += n
                most_left_out = np.float32(0.5) * probability(loudest[c], p_table)
                sums[c, 6] += n * (most_left_out + entropy(loudest[c], h_table))
                continue
            fields(block, c, start, n, p_table, h_table, std, ent)
            total_std, total_ent = np.float32(0), np.float32(0)
            for i in range(n):
                total_std += std[i]
                total_ent += ent[i]
            sums[c, 0] += total_std
            sums[c, 1] += total_ent
            sums[c, 7] += entropy_of_mean(block, c, start, n, p_table, mean)
            peak = np.int32(0)  # bits of a float that is not negative
            if crowded:
                within[:] = 0
                across[:] = 0
                for m in range(models):
                    row = block[m, c, start : start + n]
                    count = own[m]
                    for i in range(n):
                        hit = np.uint8(above_half(row[i]))
                        across[i] |= hit & np.uint8(union[i] > 1)
                        within[i] |= hit & np.uint8(count[i] > 1)
                total_own, total_any = 0, 0
                for i in range(n):
                    total_own += within[i]
                    total_any += across[i]
                sums[c, 2] += total_own
                sums[c, 3] += total_any
                chosen = across if cross else within
                for i in range(n):
                    peak = max(
                        peak, np.float32(std[i] + ent[i] + np.float32(chosen[i])).view(np.int32)
                    )
            else:
                chosen = own[0]
                for i in range(n):
                    peak = max(peak, np.float32(std[i] + ent[i]).view(np.int32))
            sums[c, 4] = max(sums[c, 4], np.float64(np.int32(peak).view(np.float32)))
            if flags.shape[1] > 0:
                out = flags[c, at + start - begin : at + start - begin + n]
                for i in range(n):
                    out[i] = np.uint8(std[i] > limits[0]) * np.uint8(SALIENT_STD) + np.uint8(
                        ent[i] > limits[1]
                    ) * np.uint8(SALIENT_ENTROPY)
                if crowded:
                    for i in range(n):
                        out[i] += within[i] * np.uint8(OVERLAP_OWN)
                        out[i] += across[i] * np.uint8(OVERLAP_ANY)
            if heat.shape[1] > 0:
                out = heat[c, at + start - begin : at + start - begin + n]
                if crowded:
                    for i in range(n):
                        value = std[i] + ent[i] + np.float32(chosen[i])
                        out[i] = np.uint8(value * step + np.float32(0.5))
                else:
                    for i in range(n):
                        out[i] = np.uint8((std[i] + ent[i]) * step + np.float32(0.5))
    return 0


@compiled
def deviation_and_entropy(block, p_table, h_table, out):
    """Write Eq. 1 plus Eq. 2 of a block's first organ into ``out: (voxels,)`` float32."""
    std = np.empty(CHUNK, dtype=np.float32)
    ent = np.empty(CHUNK, dtype=np.float32)
    for start in range(0, block.shape[2], CHUNK):
        n = min(CHUNK, block.shape[2] - start)
        fields(block, 0, start, n, p_table, h_table, std, ent)
        for i in range(n):
            out[start + i] = std[i] + ent[i]


@compiled
def encode(block, begin, end, top, floor, p_table, h_table, cells, edges, codes, lost, at):
    """Write the nearest codes of the voxels ``begin`` to ``end`` of a block of probabilities.

    Where no network has more than ``floor`` for an organ, the codes are 0 and Eq. 1 and
    Eq. 2 there are added to ``lost: (organs, 2)`` float64. ``cells`` gives, by the
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
