"""Whether the intensities of a volume are Hounsfield units, and if not, what they look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.content.scale import unexplained
from atlas8k.remarks import Remark

Array = npt.NDArray[Any]

LABEL_MAP, NOT_HU = "label_map", "not_hu"

SAMPLE = 400_000
"""Voxels looked at, evenly spread, at most."""
FITS, GAIN = 0.75, 0.4
"""Nats a voxel, see :func:`~atlas8k.content.scale.unexplained`.

CTs in HU reach 0.3 (heads, limbs, phantoms with strong noise: 0.5), those shifted by 1024 begin
at 1.2. Another scale is named where it explains the values better by the gain.
"""
ALIKE = 0.5
"""Of scales that explain the values about as well, the commonest is named."""
SHIFTS = (1024.0, 1000.0, -1024.0, -1000.0, 2048.0, -2048.0, 8192.0, 32768.0, 31744.0)
"""Offsets of exports that left out RescaleIntercept, applied it twice, or stored unsigned.

The commonest first.
"""
LIKELY = 70_000.0
"""No shift leads beyond: values may be anything, and a histogram of them must not be."""
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


def intensity_remarks(array: Array) -> tuple[Remark, ...]:
    """Judge the values of a volume.

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
    """Few whole numbers without noise: neighbours inside a structure are equal."""
    step = max(1, int(np.ceil((array.size / SAMPLE) ** (1 / 2))))
    rows = np.asarray(array[:, ::step, ::step], np.float32)
    found = np.unique(rows)
    if len(found) > 256 or found[0] < 0 or not np.array_equal(found, np.rint(found)):
        return None
    one, other = rows[:-1], rows[1:]
    inside = (one > found[0]) & (one < found[-1]) & (other > found[0]) & (other < found[-1])
    if len(found) > 3 and inside.any() and (one == other)[inside].mean() < 0.8:
        return None
    text = f"{len(found)} whole numbers from {found[0]:g} to {found[-1]:g} without noise"
    advice = "a label map, not a CT. Take it out of the folder of CTs"
    return Remark(LABEL_MAP, f"{text}: {advice}.", "blocked")


def _without_padding(values: Array) -> tuple[Array, tuple[Remark, ...]]:
    """Values without a fill value far below air, or one of exactly 0 amid them."""
    far = values < FAR_BELOW
    if FILL_SHARE < far.mean() < 1:
        found, counts = np.unique(values[far], return_counts=True)
        # Interpolation smears a fill value; a scale that begins this low has no such heap.
        if counts.max() > 0.5 * far.sum() and unexplained(values[~far]) < FITS:
            fill = found[np.argmax(counts)]
            text = f"{100 * far.mean():.0f} % of the voxels are padding of {fill:g}"
            return values[~far], (Remark("padding", f"{text}; taken for air.", "note"),)
    zero = values == 0
    near = ((values > -3.5) & (values < 3.5)).sum() - zero.sum()
    if values.min() < -200 and zero.mean() > 0.02 and zero.sum() > 10 * near:
        text = f"{100 * zero.mean():.0f} % of the voxels are exactly 0, as water is"
        return values[~zero], (Remark("padding", f"{text}; probably padding.", "note"),)
    return values, ()


def _without_flat_air(values: Array) -> Array:
    """Values without air that was set to one number, as outside a body or a reconstruction."""
    air = values[(values > AIR[0]) & (values < AIR[1])]
    if len(air) <= FLAT_SHARE * len(values):
        return values
    found, counts = np.unique(air, return_counts=True)
    rest = values != found[np.argmax(counts)]
    return values[rest] if counts.max() > FLAT_SHARE * len(values) and rest.any() else values


def _other_scale(values: Array) -> Remark | None:
    here = unexplained(values)
    below = float((values < -30).mean())
    if here < FITS and below >= BELOW_WATER:
        return None
    tried = {one: unexplained(values, one) for one in _shifts(values)}
    best = min(tried.values())
    shift, there = next((one, fit) for one, fit in tried.items() if fit <= best + ALIKE)
    if there < FITS and (here - there > GAIN or below < BELOW_WATER):
        said = f"values look shifted by about {shift:+.0f}: air at {shift - 1000:.0f} HU"
        do = f"subtract {shift:.0f}" if shift > 0 else f"add {-shift:.0f}"
        return _not_hu(said, f"Export the CT again in HU, or {do}")
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
    """Known shifts, and those that would make the commonest values air or soft tissue."""
    low, high = np.clip([values.min(), values.max()], -LIKELY, LIKELY)
    counts, edges = np.histogram(values, bins=np.arange(low, high + 20, 10.0))
    tops = edges[np.argsort(counts)[::-1][:3]] + 5.0
    guessed = [round(float(top - tissue)) for top in tops for tissue in (-1000.0, 45.0)]
    near = [one for one in guessed if abs(one) > 150 and min(abs(one - s) for s in SHIFTS) > 60]
    return (*SHIFTS, *near)


def _clipped(values: Array) -> tuple[Remark, ...]:
    """What was cut off the scale that a network or a reader may miss."""
    low, high = float(values.min()), float(values.max())
    if low > -900 and (values == low).mean() > 0.02:
        text = f"values are cut off at {low:g} and {high:g} HU"
        return (Remark("clipped", f"{text}: air and lung look alike.", "note"),)
    if high < 600 and (values == high).sum() > max(FEW, 0.002 * len(values)):
        text = f"values are cut off at {high:g} HU"
        return (Remark("clipped", f"{text}: bone, metal and contrast look alike.", "note"),)
    return ()
