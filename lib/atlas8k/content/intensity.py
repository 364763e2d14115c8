"""Find out whether intensities are Hounsfield units, and what they look like if not.

A CT of any part of the body is a mixture of the same few tissues: air near -1000 HU, lung,
fat near -100, unenhanced and enhanced soft tissue, and a falling tail of bone. Their shares
are fitted to the histogram (expectation maximisation); the HU of the tissues are fixed. The
unexplained rest distinguishes scales: shifted by 1024, the body falls where bone is rare.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.remarks import Remark

Array = npt.NDArray[Any]

LABEL_MAP, NOT_HU = "label_map", "not_hu"

SAMPLE = 400_000
"""Most voxels to sample, evenly spread."""
FITS, GAIN = 0.75, 0.4
"""Nats a voxel, see :func:`unexplained`.

CTs in HU reach 0.3 (heads, limbs, phantoms with strong noise: 0.5), those shifted by 1024 begin
at 1.2. Another scale is named where it explains the values better by the gain.
"""
ALIKE = 0.5
"""Difference of fit, nats, up to which the commonest of several scales is named."""
SHIFTS = (1024.0, 1000.0, -1024.0, -1000.0, 2048.0, -2048.0, 8192.0, 32768.0, 31744.0)
"""Offsets of exports that left out RescaleIntercept, applied it twice, or stored unsigned.

The commonest first.
"""
LIKELY = 70_000.0
"""Bound on values in the histogram; no shift leads beyond."""
SCALED_SPAN = 20.0
"""Largest less smallest value of intensities mapped to 0..1, -1..1 or standard deviations."""
BELOW_WATER = 0.01
"""Share of fat and air (under -30 HU) in any CT of a body; most have a third."""
FEW = 50
"""Voxels of the largest value that may be chance."""
AIR, FLAT_SHARE = (-1100.0, -900.0), 0.1
"""HU in which air lies, and the share of voxels of one value there that no noise of air has."""
FAR_BELOW, FILL_SHARE = -1300.0, 0.0005
"""HU under which no noise of air reaches, and the share of voxels there that counts."""

BIN_HU = 10.0
LOW_HU, HIGH_HU = -1500.0, 3600.0
BACKGROUND = 0.002
"""Density, as a share, of values that no tissue explains: metal, noise, artefacts."""
_ROUNDS = 60


def intensity_remarks(array: Array) -> tuple[Remark, ...]:
    """Remark on the values of a volume.

    Parameters
    ----------
    array
        ``(X, Y, Z)``, finite, as read from the file, meant to be HU.

    Returns
    -------
    tuple of Remark
        ``label_map`` or ``not_hu`` alone, else any of ``padding`` and ``clipped``.
    """
    label = _label_map(array)
    if label is not None:
        return (label,)
    step = max(1, int(np.ceil((array.size / SAMPLE) ** (1 / 3))))
    values = np.asarray(array[::step, ::step, ::step], np.float32).ravel()
    low, high = float(values.min()), float(values.max())
    if high - low <= SCALED_SPAN:
        return (_not_hu(f"values go from {low:g} to {high:g}: scaled, not HU", ""),)
    values, padding = _without_padding(values)
    wrong = _other_scale(_without_flat_air(values))
    if wrong is not None:
        return (wrong,)
    return (*padding, *_clipped(values))


def _not_hu(what: str, do: str) -> Remark:
    text = f"{what}. {do or 'Export the CT again with its values in HU'}."
    return Remark(NOT_HU, text, "blocked")


def _label_map(array: Array) -> Remark | None:
    """Find few whole numbers without noise: neighbours inside a structure are equal."""
    step = max(1, int(np.ceil((array.size / SAMPLE) ** (1 / 2))))
    rows = np.asarray(array[:, ::step, ::step], np.float32)
    distinct = np.unique(rows)
    if len(distinct) > 256 or distinct[0] < 0 or not np.array_equal(distinct, np.rint(distinct)):
        return None
    first, second = rows[:-1], rows[1:]
    inside = (
        (first > distinct[0])
        & (first < distinct[-1])
        & (second > distinct[0])
        & (second < distinct[-1])
    )
    if len(distinct) > 3 and inside.any() and (first == second)[inside].mean() < 0.8:
        return None
    text = f"{len(distinct)} whole numbers from {distinct[0]:g} to {distinct[-1]:g} without noise"
    advice = "a label map, not a CT. Take it out of the folder of CTs"
    return Remark(LABEL_MAP, f"{text}: {advice}.", "blocked")


def _without_padding(values: Array) -> tuple[Array, tuple[Remark, ...]]:
    """Return values without a fill value far below air, or one of exactly 0 amid them."""
    far = values < FAR_BELOW
    if FILL_SHARE < far.mean() < 1:
        distinct, counts = np.unique(values[far], return_counts=True)
        # Interpolation smears a fill value; a scale that begins this low has no such heap.
        if counts.max() > 0.5 * far.sum() and unexplained(values[~far]) < FITS:
            fill = distinct[np.argmax(counts)]
            text = f"{100 * far.mean():.0f} % of the voxels are padding of {fill:g}"
            return values[~far], (Remark("padding", f"{text}; taken for air.", "note"),)
    zero = values == 0
    near = ((values > -3.5) & (values < 3.5)).sum() - zero.sum()
    if values.min() < -200 and zero.mean() > 0.02 and zero.sum() > 10 * near:
        text = f"{100 * zero.mean():.0f} % of the voxels are exactly 0, as water is"
        return values[~zero], (Remark("padding", f"{text}; probably padding.", "note"),)
    return values, ()


def _without_flat_air(values: Array) -> Array:
    """Return values without air of one number, as outside a body or a reconstruction."""
    air = values[(values > AIR[0]) & (values < AIR[1])]
    if len(air) <= FLAT_SHARE * len(values):
        return values
    distinct, counts = np.unique(air, return_counts=True)
    rest = values != distinct[np.argmax(counts)]
    return values[rest] if counts.max() > FLAT_SHARE * len(values) and rest.any() else values


def _other_scale(values: Array) -> Remark | None:
    unshifted = unexplained(values)
    below = float((values < -30).mean())
    if unshifted < FITS and below >= BELOW_WATER:
        return None
    by_shift = {offset: unexplained(values, offset) for offset in _shifts(values)}
    best = min(by_shift.values())
    shift, shifted_fit = next(
        (offset, fit) for offset, fit in by_shift.items() if fit <= best + ALIKE
    )
    if shifted_fit < FITS and (unshifted - shifted_fit > GAIN or below < BELOW_WATER):
        shifted = f"values look shifted by about {shift:+.0f}: air at {shift - 1000:.0f} HU"
        advice = f"subtract {shift:.0f}" if shift > 0 else f"add {-shift:.0f}"
        return _not_hu(shifted, f"Export the CT again in HU, or {advice}")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        return _not_hu(f"values go from {low:g} to {high:g}: a window of grey levels, not HU", "")
    if below < BELOW_WATER:
        return _not_hu(f"no value is that of air or fat; they go from {low:g} to {high:g}", "")
    middle = ", ".join(f"{v:.0f}" for v in np.percentile(values, (5, 50, 95)))
    return _not_hu(
        f"air, fat and soft tissue are not where HU has them (5, 50, 95 %: {middle})", ""
    )


def _shifts(values: Array) -> tuple[float, ...]:
    """Return known shifts, and those that would make the commonest values air or soft tissue."""
    low, high = np.clip([values.min(), values.max()], -LIKELY, LIKELY)
    counts, edges = np.histogram(values, bins=np.arange(low, high + 20, 10.0))
    tops = edges[np.argsort(counts)[::-1][:3]] + 5.0
    guessed = [round(float(top - tissue)) for top in tops for tissue in (-1000.0, 45.0)]
    near = [
        guess for guess in guessed if abs(guess) > 150 and min(abs(guess - s) for s in SHIFTS) > 60
    ]
    return (*SHIFTS, *near)


def _clipped(values: Array) -> tuple[Remark, ...]:
    """Remark on HU cut off the scale that a network or a reader may need."""
    low, high = float(values.min()), float(values.max())
    if low > -900 and (values == low).mean() > 0.02:
        text = f"values are cut off at {low:g} and {high:g} HU"
        return (Remark("clipped", f"{text}: air and lung look alike.", "note"),)
    if high < 600 and (values == high).sum() > max(FEW, 0.002 * len(values)):
        text = f"values are cut off at {high:g} HU"
        return (Remark("clipped", f"{text}: bone, metal and contrast look alike.", "note"),)
    return ()


def _normal(x: Array, mean: float, deviation: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((x - mean) / deviation) ** 2))


@cache
def _tissues(noise: float) -> Array:
    """Return ``(tissue, bin)``: shares of each tissue's voxels, blurred by noise, HU."""
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
    """Measure the distance of values from a mixture of tissues at their HU + `shift`.

    Parameters
    ----------
    values
        Intensities of any shape, padding left out.
    shift
        Shift of the scale: 1024 where air is 24.

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
    return min(_divergence(shares, _cut_off(_tissues(n), first, last)) for n in (8.0, 25.0, 60.0))


def _cut_off(tissues: Array, first: int, last: int) -> Array:
    """Return tissues whose values below `first` and above `last` were set to these."""
    out = tissues.copy()
    out[:, first] = tissues[:, : first + 1].sum(axis=1)
    out[:, last] = tissues[:, last:].sum(axis=1)
    out[:, :first] = 0.0
    out[:, last + 1 :] = 0.0
    return out


def _divergence(shares: Array, tissues: Array) -> float:
    """Return a histogram's divergence from the best mixture of tissues and a flat background."""
    floor = BACKGROUND / len(shares)
    nonzero = shares > 0
    observed, parts = shares[nonzero], tissues[:, nonzero]
    weights = np.full(len(parts), (1 - BACKGROUND) / len(parts))
    for _ in range(_ROUNDS):
        mixed = weights @ parts + floor
        weights = weights * (parts @ (observed / mixed))
        weights *= (1 - BACKGROUND) / max(float(weights.sum()), 1e-12)
    return float((observed * np.log(observed / (weights @ parts + floor))).sum())
