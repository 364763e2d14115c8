"""Find traces of a broken header or a broken copy in the voxels of a volume.

A file can be consistent and yet hold its voxels in the wrong order (sizes of axes exchanged in
a header written by hand), slices on another scale than their neighbours, or slices that never
arrived. Rows and slices of a body resemble their neighbours most, which shows such damage.
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
"""Difference of nearly all voxels of two neighbouring slices; noise of 150 HU is less."""
_POINTS = 48
"""Voxels along each axis of a slice by which it is compared with the next."""
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
    """Remark on values and orders of voxels that no scan has.

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
    remarks = list(_outliers(array))
    values = np.clip(array, -FAR, FAR) if remarks else array
    empty, partly = _blank(values)
    if empty.any() or partly.any():
        text = (
            f"{int(empty.sum())} of {len(empty)} slices hold one value each, {int(partly.sum())} "
            "in a part of their rows: padding, or a copy that is not complete"
        )
        # Air of one value occurs where a CT was cut off below; anything else does not.
        air = not partly.any() and bool((values[0, 0, empty] == values.min()).all())
        remarks.append(Remark("blank_slices", f"{text}.", "note" if air else "warning"))
    filled = values[..., ~empty] if empty.any() else values  # the former copies all of it
    reason = _scrambled(filled, spacing) or _jump(filled)
    if reason is not None:
        remarks.append(Remark(DAMAGED, f"{reason}.", "blocked"))
    return tuple(remarks)


def _blank(array: Array) -> tuple[Array, Array]:
    """Find slices of one value, and slices with rows of one value unlike their neighbours."""
    flat = array.min(axis=0) == array.max(axis=0)
    empty = flat.all(axis=0) & (array[0, 0] == array[0]).all(axis=0)
    partly = np.zeros(len(empty), bool)
    partly[1:-1] = (flat[:, 1:-1] & ~flat[:, :-2] & ~flat[:, 2:]).mean(axis=0) > FLAT_ROWS
    return empty, partly & ~empty


def _outliers(array: Array) -> Iterator[Remark]:
    low, high = float(array.min()), float(array.max())
    if low < -FAR or high > FAR:
        count = int(np.count_nonzero((array < -FAR) | (array > FAR)))
        text = f"{count:,} voxels are beyond anything a scanner writes (from {low:g} to {high:g})"
        yield Remark("outliers", f"{text}; the file may be damaged.", "warning")


def _scrambled(array: Array, spacing: tuple[float, float, float]) -> str | None:
    """Return why the voxels seem to lie in another order than the header's; None if not."""
    x, y, z = array.shape
    planes = array[..., :: max(1, z // _CHANNELS)]
    columns = array[:: max(1, x // _CHANNELS)]
    for what, period, rows, axis in (
        ("rows of voxels", x, planes.reshape(x * y, -1, order="F").T, 0),
        ("slices", y, columns.reshape(-1, y * z, order="F"), 1),
    ):
        measured = _period(rows, period, SLANT * spacing[axis + 1] / spacing[axis])
        if measured is not None:
            return (
                f"{what} resemble each other every {measured}, not every {period} as its header "
                f"has it: sizes in the header may be exchanged or wrong; export the CT again"
            )
    return None


def _period(rows: Array, claimed: int, slant: float) -> int | None:
    """Find the period after which rows repeat, where it is not the claimed one; None if it is.

    Parameters
    ----------
    rows
        ``(channel, value)``.
    slant
        Largest shift of a body's outline from one row to the next, values.
    """
    n = rows.shape[1]
    if claimed < MIN_ROWS or n < 3 * claimed:
        return None
    most = min(n // 2, claimed * 3 // 2)
    signal = np.asarray(rows, np.float32)
    signal = signal - signal.mean(axis=1, keepdims=True)
    size = fft.next_fast_len(n + most, real=True)  # lags beyond may be wrong, and are not used
    power = np.square(np.abs(fft.rfft(signal, size, axis=1))).sum(axis=0, dtype=np.float64)
    lags = fft.irfft(power, size)[: most + 1]
    lags /= n - np.arange(most + 1)  # fewer pairs are that far apart
    span = np.arange(claimed // 2, most + 1)
    best = int(span[lags[span].argmax()])
    clear = lags[best] > max(_ALIKE * lags[0], _BETTER * lags[claimed])
    return best if clear and abs(best - claimed) > slant else None


def _jump(array: Array) -> str | None:
    """Return which slices, along the last axis, have another scale than their neighbours.

    All of such a slice changes, air too; where a body begins, its surroundings do not.
    """
    x, y, z = array.shape
    if min(x, y) < MIN_ROWS or z < 2:
        return None
    sampled = array[:: max(1, x // _POINTS), :: max(1, y // _POINTS)].reshape(-1, z, order="F")
    steps = np.diff(sampled, axis=1)
    low, high = np.percentile(steps, (5, 95), axis=0)
    least = np.maximum(low, -high)
    worst = int(least.argmax())
    if least[worst] <= JUMP_HU:
        return None
    return (
        f"slices {worst + 1} and {worst + 2} of {z} differ by {least[worst]:.0f} or more in nearly "
        "all of their voxels: they are of different scales, or the file is damaged; export the CT "
        "again"
    )
