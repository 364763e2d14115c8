"""How a patient lies in a CT: on the back, on the face, or with front and back exchanged.

Three things show where down is: the table, levels of gas over fluid, and the side on which
the body is pressed flat. Which side is the front, the spine shows: where it lies in front,
the file's axes are wrong, as when a patient lay on the face and the header says nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.grid import Volume

SUPINE, PRONE, UNSURE = "on the back", "on the face", "unsure"
SPINE_IN_FRONT = "spine in front"

BODY_HU, TABLE_HU, GAS_HU, BONE_HU = -500.0, -800.0, -600.0, 200.0
CLEAR = 1.5
"""How much more speaks for one side than for the other."""
IN_FRONT = 0.1
"""Of half the body's depth, by which bone lies before the middle; in bodies it is behind."""

Array = npt.NDArray[Any]


def estimate_position(thin: Volume) -> str:
    """Return how the patient lies.

    Parameters
    ----------
    thin
        ``(X, Y, Z)`` HU, axes nearest RAS, voxels of about 4 mm.
    """
    votes, spines = [], []
    for k in range(thin.array.shape[2]):
        plane = np.asarray(thin.array[..., k])
        body = _largest(ndimage.binary_opening(plane > BODY_HU, np.ones((3, 3))))
        if body is None:
            continue
        filled = ndimage.binary_fill_holes(body)
        bone = _spine(plane, filled)
        if bone is not None:
            spines.append(bone)
        votes.append((*_table(plane, filled), *_levels(plane, filled), *_flat(filled)))
    if spines and float(np.median(spines)) > IN_FRONT:
        return SPINE_IN_FRONT
    total = np.sum(votes, axis=0) if votes else np.zeros(6)
    back = sum(int(total[i] > CLEAR * total[i + 1]) for i in (0, 2, 4))
    front = sum(int(total[i + 1] > CLEAR * total[i]) for i in (0, 2, 4))
    return SUPINE if back > front else PRONE if front > back else UNSURE


def _largest(mask: Array) -> Array | None:
    pieces, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def _spine(plane: Array, filled: Array) -> float | None:
    """Where bone of the middle third lies between back (-1) and front (1)."""
    columns = np.flatnonzero(filled.any(axis=1))
    third = slice(columns[0] + len(columns) // 3, columns[-1] + 1 - len(columns) // 3)
    inside = filled[third]
    rows = np.flatnonzero(inside.any(axis=0))
    bone = (inside & (plane[third] > BONE_HU)).sum(axis=0)
    if len(rows) < 8 or bone.sum() < 6:
        return None
    at = float((bone * np.arange(len(bone))).sum() / bone.sum())
    return (2 * at - rows[0] - rows[-1]) / (rows[-1] - rows[0])


def _table(plane: Array, filled: Array) -> tuple[int, int]:
    """Voxels that are no air behind the body, and in front of it."""
    columns, rows = filled.any(axis=1), np.flatnonzero(filled.any(axis=0))
    other = (plane > TABLE_HU) & ~ndimage.binary_dilation(filled, iterations=2)
    other &= columns[:, None]
    return int(other[:, : rows[0] + 3].sum()), int(other[:, rows[-1] - 2 :].sum())


def _levels(plane: Array, filled: Array) -> tuple[int, int]:
    """Columns of gas that end on one line at the back, and at the front."""
    gas, _ = ndimage.label(ndimage.binary_erosion(filled, iterations=2) & (plane < GAS_HU))
    lower = upper = 0
    for number, where in enumerate(ndimage.find_objects(gas), start=1):
        if where[0].stop - where[0].start < 5:
            continue
        piece = gas[where] == number
        first = piece.argmax(axis=1)
        last = piece.shape[1] - 1 - piece[:, ::-1].argmax(axis=1)
        share = [np.bincount(ends).max() / len(ends) for ends in (first, last)]
        lower += len(piece) * int(share[0] > 0.7 > share[1])
        upper += len(piece) * int(share[1] > 0.7 > share[0])
    return lower, upper


def _flat(filled: Array) -> tuple[int, int]:
    """Columns that reach as far back as any, and as far to the front."""
    there = filled[filled.any(axis=1)]
    first = there.argmax(axis=1)
    last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    return int((first <= first.min() + 1).sum()), int((last >= last.max() - 1).sum())
