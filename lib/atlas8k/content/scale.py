"""How well a histogram fits the tissues of a body on the Hounsfield scale.

A CT of any part of the body is a mixture of the same few tissues: air near -1000 HU, lung,
fat near -100, unenhanced and enhanced soft tissue, and a falling tail of bone. Their shares
are fitted (expectation maximisation); where the tissues lie is fixed. What is left
unexplained tells a scale from another: shifted by 1024, the body falls where bone is rare.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

BIN_HU = 10.0
LOW_HU, HIGH_HU = -1500.0, 3600.0
BACKGROUND = 0.002
"""Density, as a share, of values that no tissue explains: metal, noise, artefacts."""
_ROUNDS = 60

Array = npt.NDArray[Any]


def _normal(x: Array, mean: float, deviation: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((x - mean) / deviation) ** 2))


@cache
def _tissues(noise: float) -> Array:
    """``(tissue, bin)``: shares of each tissue's voxels, blurred by noise of a deviation in HU."""
    x = np.arange(LOW_HU, HIGH_HU, BIN_HU) + BIN_HU / 2

    def wide(deviation: float) -> float:
        return float(np.hypot(deviation, noise))

    rows = [
        _normal(x, -1000, wide(20)),
        _normal(x, -830, wide(80)),
        np.where((x > -980) & (x < -100), 1.0, 0.0),  # edges between air and body
        _normal(x, -100, wide(22)),
        _normal(x, 45, wide(25)),
        _normal(x, 130, wide(55)),
        np.where(x > 130, np.exp(-(x - 130) / 260.0), 0.0),
    ]
    tissues = np.array([row / row.sum() for row in rows])
    tissues.setflags(write=False)
    return tissues


def unexplained(values: Array, shift: float = 0.0) -> float:
    """Return how far values are from a mixture of tissues whose HU all lie at HU + `shift`.

    Parameters
    ----------
    values
        Intensities of any shape, padding left out.
    shift
        Of the scale: 1024 where air is 24.

    Returns
    -------
    float
        Kullback-Leibler divergence in nats a voxel of the best of three noise levels; 0 for
        a perfect fit. CTs of any body part stay below 0.5. Infinite where no value is below,
        or none above water: whatever is cut off the scale, that is not HU.
    """
    hu = np.asarray(values, np.float32).ravel() - np.float32(shift)
    if hu.min() > 0 or hu.max() < 0:
        return float("inf")
    bins = int((HIGH_HU - LOW_HU) / BIN_HU)
    index = np.clip((hu - LOW_HU) / BIN_HU, 0, bins - 1).astype(np.int64)
    shares = np.bincount(index, minlength=bins) / len(hu)
    first, last = int(index.min()), int(index.max())
    return min(_divergence(shares, _clipped(_tissues(n), first, last)) for n in (8.0, 25.0, 60.0))


def _clipped(tissues: Array, first: int, last: int) -> Array:
    """Tissues whose values below `first` and above `last` were set to these."""
    out = tissues.copy()
    out[:, first] = tissues[:, : first + 1].sum(axis=1)
    out[:, last] = tissues[:, last:].sum(axis=1)
    out[:, :first] = 0.0
    out[:, last + 1 :] = 0.0
    return out


def _divergence(shares: Array, tissues: Array) -> float:
    """Divergence of a histogram from the best mixture of tissues and a flat background."""
    floor = BACKGROUND / len(shares)
    there = shares > 0
    seen, parts = shares[there], tissues[:, there]
    weights = np.full(len(parts), (1 - BACKGROUND) / len(parts))
    for _ in range(_ROUNDS):
        mixed = weights @ parts + floor
        weights = weights * (parts @ (seen / mixed))
        weights *= (1 - BACKGROUND) / max(float(weights.sum()), 1e-12)
    return float((seen * np.log(seen / (weights @ parts + floor))).sum())
