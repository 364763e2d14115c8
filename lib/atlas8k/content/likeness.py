"""Tell copies of one CT, and CTs of one patient, from others: a 3D perceptual hash.

A CT is sampled about 4 mm apart, turned to RAS, and averaged over cells around its spine: one
every 12 mm, in a slab every 6 mm from feet to head. Two figures are kept of each cell: one of
air, fat and soft tissue, in which all that takes up contrast is alike, and one of how bright the
soft tissue is. Two CTs are laid over each other where the first fits best. Where body shapes are
the same it is the same patient; where brightness within tissue is, too, the same scan. Spacing, a
crop, orientation, a window of HU and noise change neither by much; the surroundings of the spine
over :data:`LEAST_MM` of height must be left.
"""

from __future__ import annotations

import itertools
import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import ndimage

from atlas8k.content.abdomen import thinned
from atlas8k.core.grid import Volume

Kind = Literal["copy", "same_patient"]
Array = npt.NDArray[Any]
Cells = npt.NDArray[np.uint8]

CELLS, CELL_MM, STEP_MM = 16, 12.0, 6.0
LEAST_MM = 90.0
"""Height that two CTs must have in common."""
LEAST_SHARE, LEAST_OF_ALL = 0.6, 0.15
"""Share of the cells at that height, of the CT that has fewer there, that both must have; and of
all cells. A narrow field of view has a quarter of them."""
SHAPE_HU, BRIGHT_HU = (-150.0, 20.0), (20.0, 240.0)
SPINE_HU, SPINE_MM, BODY_HU = 150.0, 36.0, -120.0
BEHIND_MM, MIDDLE_MM = 45.0, 60.0
"""Place of the spine behind the body's middle, and how far from there it may lie, about."""
SAME_BODY, SAME_SCAN = 17.0, 15.0
"""Most mean difference of shape, in 1/255 of :data:`SHAPE_HU`, within one patient; and the 90th
percentile of the difference of brightness, HU, within one scan. Of two sets of phantoms, copies and
other phases differ in shape by at most 15.0, other people and twins of one body by 19.7 or more."""
SOFT, FEWEST = 235, 60
"""Least shape of a cell within soft tissue, and so many of them."""
PROMISING = 34.0
_NONE = 255
_SHIFTS = range(-2, 3)


class Fingerprint(NamedTuple):
    """What a CT is compared by: ``(slabs, 2, 16, 16)`` uint8; 255 where a cell is outside.

    Of the two, the first is shape, 0 to 254 over :data:`SHAPE_HU`, the second brightness over
    :data:`BRIGHT_HU`; then rows from back to front, columns from right to left.
    """

    cells: npt.NDArray[np.uint8]

    @property
    def is_high_enough(self) -> bool:
        """Whether it shows enough of a body to be compared with others."""
        return len(self.cells) >= LEAST_MM / STEP_MM

    def to_bytes(self) -> bytes:
        """Return it packed."""
        return zlib.compress(self.cells.tobytes(), 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """Return what :meth:`to_bytes` packed."""
        flat = np.frombuffer(zlib.decompress(data), np.uint8)
        return cls(flat.reshape(-1, 2, CELLS, CELLS))


class Likeness(NamedTuple):
    """Two CTs that are near-duplicates; ``shape`` and ``brightness`` are the differences."""

    kind: Kind
    shape: float
    brightness: float


def fingerprint(ct: Volume) -> Fingerprint:
    """Return the fingerprint of a CT, ``(X, Y, Z)`` HU, any orientation and spacing."""
    thin = thinned(ct)
    # As in the narrowest window that is met: what is cut off in one is cut off in all.
    array = np.clip(thin.array, SHAPE_HU[0], BRIGHT_HU[1]).astype(np.float32)
    dx, dy, dz = thin.grid.spacing
    z = float(thin.grid.affine[2, 3]) + dz * np.arange(array.shape[2])
    middle = _spine(array, dx, dy)
    x = dx * np.arange(array.shape[0]) - middle[0]
    y = dy * np.arange(array.shape[1]) - middle[1]
    across = _weights(x, CELL_MM * (np.arange(CELLS) - (CELLS - 1) / 2), 2 * CELL_MM)
    along = _weights(y, CELL_MM * (np.arange(CELLS) - 2.5), 2 * CELL_MM)
    heights = STEP_MM * np.arange(np.ceil(z[0] / STEP_MM), np.floor(z[-1] / STEP_MM) + 1)
    up = _weights(z, heights, 2 * STEP_MM)
    there = up.any(axis=1)[:, None, None] & along.any(axis=1)[:, None] & across.any(axis=1)
    found = np.empty((len(heights), 2, CELLS, CELLS), np.uint8)
    for k, (low, high) in enumerate((SHAPE_HU, BRIGHT_HU)):
        clipped = np.clip(array, low, high)
        cells = np.einsum("zk,xyk,rx,sy->zsr", up, clipped, across, along, optimize=True)
        scaled = np.rint((cells - low) * (254.0 / (high - low)))
        found[:, k] = np.where(there, np.clip(scaled, 0, 254), _NONE)
    return Fingerprint(found)


def _spine(array: Array, dx: float, dy: float) -> tuple[float, float]:
    """Return where bone is at most heights, mm from the first voxel: vessels are narrower."""
    rows, columns = dx * np.arange(array.shape[0]), dy * np.arange(array.shape[1])
    lasting = (ndimage.uniform_filter(array, 3) > SPINE_HU).mean(axis=2, dtype=np.float32)
    body = (array > BODY_HU).sum(axis=2)
    total = max(1.0, float(body.sum()))
    across = rows - float(body.sum(1) @ rows) / total
    along = columns - float(body.sum(0) @ columns) / total + BEHIND_MM
    # Ribs and hips are aside, great vessels before it.
    lasting *= np.exp(-((across / MIDDLE_MM) ** 2))[:, None] * np.exp(-((along / MIDDLE_MM) ** 2))
    size = [max(1, round(SPINE_MM / mm)) for mm in (dx, dy)]
    smooth = ndimage.uniform_filter(lasting, size, mode="constant")
    i, j = np.unravel_index(int(smooth.argmax()), smooth.shape)
    x, y = float(rows[i]), float(columns[j])
    for _ in range(8):  # to the middle of the bone around it, which a voxel's shift moves little
        wx = np.clip(1 - np.abs(rows - x) / SPINE_MM, 0, None)
        wy = np.clip(1 - np.abs(columns - y) / SPINE_MM, 0, None)
        near = lasting * wx[:, None] * wy
        total = float(near.sum())
        if not total:
            break
        x, y = float((near.sum(1) @ rows) / total), float((near.sum(0) @ columns) / total)
    return x, y


def _weights(at: Array, centres: Array, width: float) -> Array:
    """Return ``(centres, at)`` weights of a mean around each centre; 0 where it is not all there.

    They fall off to the sides, so that a small shift changes a mean by little.
    """
    tent = np.clip(1.0 - np.abs(at - centres[:, None]) / width, 0.0, None)
    step = float(at[1] - at[0]) if len(at) > 1 else width
    inside = (centres - width >= at[0] - step) & (centres + width <= at[-1] + step)
    total = tent.sum(axis=1, keepdims=True)
    made = np.divide(tent, total, out=np.zeros_like(tent), where=total > 0) * inside[:, None]
    return np.asarray(made, np.float32)


def compare(one: Fingerprint, two: Fingerprint) -> Likeness | None:
    """Compare two CTs where they fit best; None where they are no duplicates.

    First by height alone; where that is promising, also by some cells to the sides, as the middle
    of the spine is not found alike in a part of a CT.
    """
    a, b = one.cells, two.cells
    flat = (np.ascontiguousarray(one[:, 0]).reshape(len(one), -1) for one in (a, b))
    shape, lag = _best_lag(*flat, int(LEAST_MM / STEP_MM), LEAST_SHARE, LEAST_OF_ALL, _NONE)
    if shape > PROMISING:
        return None
    tried = itertools.product(range(lag - 2, lag + 3), _SHIFTS, _SHIFTS)
    best = min(_shape(a, b, *place) for place in tried)
    if best.shape > SAME_BODY:
        return None
    hu = _brightness(a, b, *best[1:])
    kind: Kind = "copy" if hu <= SAME_SCAN else "same_patient"
    return Likeness(kind, round(best.shape, 2), round(hu, 1))


@njit(cache=True, nogil=True)
def _best_lag(
    a: Cells, b: Cells, least: int, share: float, of_all: float, none: int
) -> tuple[float, int]:
    """Return the least mean difference of shape at any height, and the height, in slabs.

    `a` and `b` are shapes, ``(slabs, cells)``. All pairs of a collection come here, 35 million
    of 8,448 CTs, so it is compiled.
    """
    best, best_lag = np.inf, 0
    for lag in range(least - len(b), len(a) - least + 1):
        start, end = max(0, lag), min(len(a), len(b) + lag)
        if end - start < least:
            continue
        total = both = in_a = in_b = 0
        for k in range(start, end):
            one, two = a[k], b[k - lag]
            for i in range(one.size):
                there = (one[i] != none) & (two[i] != none)
                in_a += one[i] != none
                in_b += two[i] != none
                total += there * abs(np.int32(one[i]) - np.int32(two[i]))
                both += there
        enough = max(share * min(in_a, in_b), of_all * (end - start) * a.shape[1])
        if both and both >= enough and total < best * both:
            best, best_lag = total / both, lag
    return best, best_lag


class _Place(NamedTuple):
    """Mean difference of shape where one CT is laid over the other, so many cells aside."""

    shape: float
    lag: int
    across: int
    along: int


def _shape(a: Cells, b: Cells, lag: int, across: int, along: int) -> _Place:
    found = _difference(a, b, lag, across, along)
    return _Place(np.inf if found is None else float(found.mean()), lag, across, along)


def _difference(
    a: Cells, b: Cells, lag: int, across: int, along: int, which: int = 0
) -> npt.NDArray[np.int16] | None:
    """Return absolute differences of the cells that both have; None where they are too few.

    Of shape (0) or brightness (1); -1: whether a cell is soft tissue alone, in both.
    """
    spans = [_overlap(len(a), len(b), lag), _overlap(CELLS, CELLS, along)]
    (za, zb), (ya, yb), (xa, xb) = (*spans, _overlap(CELLS, CELLS, across))
    if za.stop - za.start < LEAST_MM / STEP_MM:
        return None
    kind = max(which, 0)
    one, two = a[za, kind, ya, xa].astype(np.int16), b[zb, kind, yb, xb].astype(np.int16)
    there = one != _NONE, two != _NONE
    both = there[0] & there[1]
    fewer = min(float(there[0].mean()), float(there[1].mean()))
    if not both.any() or both.mean() < max(LEAST_SHARE * fewer, LEAST_OF_ALL):
        return None
    if which < 0:
        return np.asarray((np.minimum(one, two) >= SOFT)[both], np.int16)
    return np.asarray(np.abs(one - two)[both], np.int16)


def _brightness(a: Cells, b: Cells, lag: int, across: int, along: int) -> float:
    """Return the 90th percentile of the difference of brightness within tissue, HU."""
    bright, inside = (_difference(a, b, lag, across, along, which) for which in (1, -1))
    assert bright is not None
    assert inside is not None
    chosen = bright[inside > 0] if (inside > 0).sum() >= FEWEST else bright
    return float(np.percentile(chosen, 90)) * (BRIGHT_HU[1] - BRIGHT_HU[0]) / 254.0


def _overlap(first: int, second: int, lag: int) -> tuple[slice, slice]:
    start, end = max(0, lag), min(first, second + lag)
    return slice(start, end), slice(start - lag, end - lag)
