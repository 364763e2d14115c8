"""Traces that a broken header or a broken copy leaves in the voxels of a volume.

A file can be consistent and yet hold its voxels in the wrong order (sizes of axes exchanged in
a header written by hand), slices on another scale than their neighbours, or slices that never
arrived. Neighbours tell: rows and slices of a body resemble the next ones most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from atlas8k.core.remarks import Remark

Array = npt.NDArray[Any]

DAMAGED = "damaged"

FAR = 70_000.0
"""No stored type of 16 bits reaches beyond, with any RescaleIntercept."""
JUMP_HU = 300.0
"""By which nearly all voxels of two neighbouring slices differ; noise of 150 HU does not do it."""
_POINTS = 48
"""Along each axis of a slice, to compare it with the next by."""
FLAT_ROWS = 0.15
"""Share of a slice's rows that hold one value each, though the next slices' rows do not."""
MIN_ROWS = 8
_CHANNELS = 16
_ALIKE, _BETTER = 0.3, 1.002
"""Autocorrelation of rows that resemble each other, and what is better than another one: at the
true distance it has its peak to the voxel, in CTs and phantoms 0.74 to 0.99 high."""
SLANT = 0.7
"""Sideways step of a body's outline in a step to the next row: a tilt of 35 degrees."""


def damage_remarks(array: Array, spacing: tuple[float, float, float]) -> tuple[Remark, ...]:
    """Look for what no scan has.

    Parameters
    ----------
    array
        ``(X, Y, Z)``, finite, the file's own axes, the first the fastest.
    spacing
        Voxel size along the axes, mm.

    Returns
    -------
    tuple of Remark
        Of level ``blocked``: ``damaged``. Warnings: ``outliers``, ``blank_slices``; the latter
        a note where they hold air.
    """
    found = list(_outliers(array))
    values = np.clip(array, -FAR, FAR) if found else array
    empty, partly = _blank(values)
    if empty.any() or partly.any():
        text = (
            f"{int(empty.sum())} of {len(empty)} slices hold one value each, {int(partly.sum())} "
            "in a part of their rows: padding, or a copy that is not complete"
        )
        # Air that holds one value is met where a CT was cut off below; anything else is not.
        air = not partly.any() and bool((values[0, 0, empty] == values.min()).all())
        found.append(Remark("blank_slices", f"{text}.", "note" if air else "warning"))
    filled = values[..., ~empty] if empty.any() else values  # the former copies all of it
    why = _scrambled(filled, spacing) or _jump(filled)
    if why is not None:
        found.append(Remark(DAMAGED, f"{why}.", "blocked"))
    return tuple(found)


def _blank(array: Array) -> tuple[Array, Array]:
    """Slices that hold one value, and those of which rows do that do not in their neighbours."""
    flat = array.min(axis=0) == array.max(axis=0)
    empty = flat.all(axis=0) & (array[0, 0] == array[0]).all(axis=0)
    alone = np.zeros(len(empty), bool)
    alone[1:-1] = (flat[:, 1:-1] & ~flat[:, :-2] & ~flat[:, 2:]).mean(axis=0) > FLAT_ROWS
    return empty, alone & ~empty


def _outliers(array: Array) -> Iterator[Remark]:
    low, high = float(array.min()), float(array.max())
    if low < -FAR or high > FAR:
        count = int(np.count_nonzero((array < -FAR) | (array > FAR)))
        text = f"{count:,} voxels are beyond anything a scanner writes (from {low:g} to {high:g})"
        yield Remark("outliers", f"{text}; the file may be damaged.", "warning")


def _scrambled(array: Array, spacing: tuple[float, float, float]) -> str | None:
    """Why the voxels seem to lie in another order than the header says."""
    x, y, z = array.shape
    planes = array[..., :: max(1, z // _CHANNELS)]
    columns = array[:: max(1, x // _CHANNELS)]
    for what, period, rows, axis in (
        ("rows of voxels", x, planes.reshape(x * y, -1, order="F").T, 0),
        ("slices", y, columns.reshape(-1, y * z, order="F"), 1),
    ):
        found = _period(rows, period, SLANT * spacing[axis + 1] / spacing[axis])
        if found is not None:
            return (
                f"{what} resemble each other every {found}, not every {period} as its header has "
                f"it: sizes in the header may be exchanged or wrong; export the CT again"
            )
    return None


def _period(rows: Array, claimed: int, slant: float) -> int | None:
    """After how many values rows repeat, where that is not as claimed.

    Parameters
    ----------
    rows
        ``(channel, value)``.
    slant
        How far from one row to the next a body's outline may move, values.
    """
    n = rows.shape[1]
    if claimed < MIN_ROWS or n < 3 * claimed:
        return None
    most = min(n // 2, claimed * 3 // 2)
    signal = np.asarray(rows, np.float32)
    signal = signal - signal.mean(axis=1, keepdims=True)
    size = fft.next_fast_len(n + most, real=True)  # lags beyond may be wrong, and are not asked for
    power = np.square(np.abs(fft.rfft(signal, size, axis=1))).sum(axis=0, dtype=np.float64)
    lags = fft.irfft(power, size)[: most + 1]
    lags /= n - np.arange(most + 1)  # fewer pairs are that far apart
    span = np.arange(claimed // 2, most + 1)
    best = int(span[lags[span].argmax()])
    clear = lags[best] > max(_ALIKE * lags[0], _BETTER * lags[claimed])
    return best if clear and abs(best - claimed) > slant else None


def _jump(array: Array) -> str | None:
    """Which slices, along the last axis, lie on another scale than their neighbours.

    All of a slice moves then, air too: where a body begins, its surroundings stay.
    """
    x, y, z = array.shape
    if min(x, y) < MIN_ROWS or z < 2:
        return None
    some = array[:: max(1, x // _POINTS), :: max(1, y // _POINTS)].reshape(-1, z, order="F")
    steps = np.diff(some, axis=1)
    low, high = np.percentile(steps, (5, 95), axis=0)
    least = np.maximum(low, -high)
    at = int(least.argmax())
    if least[at] <= JUMP_HU:
        return None
    return (
        f"slices {at + 1} and {at + 2} of {z} differ by {least[at]:.0f} or more in nearly all of "
        "their voxels: they are of different scales, or the file is damaged; export the CT again"
    )
