"""How a patient lies in a CT: on the back, on the face, or with front and back exchanged.

The table shows where down is; where there is none, wide levels of gas over fluid do. Which
side is the back, the spine shows: where it lies in front, the file's axes are wrong, as when a
patient lay on the face and the header says nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.components import label_components
from atlas8k.grid import Volume

SUPINE, PRONE, UNSURE = "on the back", "on the face", "unsure"
SPINE_IN_FRONT = "spine in front"

BODY_HU, TABLE_HU, GAS_HU, BONE_HU = -500.0, -800.0, -600.0, 200.0
CLEAR = 3
"""How many times as much speaks for one side as for the other."""
TABLE, LEVEL, LEVELS = 60, 10, 20
"""Voxels of a table, columns of gas that make one level, and of all levels together."""
LASTING = 0.3
"""Share of bone in the voxels around the spine's middle, through all slices."""

Array = npt.NDArray[Any]


def estimate_position(thin: Volume) -> str:
    """Return how the patient lies.

    Parameters
    ----------
    thin
        ``(X, Y, Z)`` HU, axes nearest RAS, voxels of about 4 mm.
    """
    array = thin.array[..., :: 1 + thin.array.shape[2] // 60]
    table, levels = np.zeros(2, int), np.zeros(2, int)
    bodies = np.zeros(array.shape, bool)
    for k in range(array.shape[2]):
        plane = np.asarray(array[..., k])
        filled = bodies[..., k] = _body(plane)
        if filled.any():
            table += _table(plane, filled)
            levels += _levels(plane, filled)
    if _spine_in_front(array, bodies):
        return SPINE_IN_FRONT
    for (back, front), least in ((table, TABLE), (levels, LEVELS)):
        if back >= max(least, CLEAR * front):
            return SUPINE
        if front >= max(least, CLEAR * back):
            return PRONE
    return UNSURE


def _body(plane: Array) -> Array:
    """The largest piece that is no air, with what it encloses."""
    solid = ndimage.binary_opening(plane > BODY_HU, np.ones((3, 3)))
    pieces = label_components(solid[..., None], 6)[..., 0]
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes((pieces == sizes.argmax()) & solid))


def _spine_in_front(array: Array, bodies: Array) -> bool:
    """Whether bone that stays in one place through the slices lies in the body's front half.

    Contrast agent in bowel is as bright, but does not stay.
    """
    columns = np.flatnonzero(bodies.any(axis=(1, 2)))
    rows = np.flatnonzero(bodies.any(axis=(0, 2)))
    if len(columns) < 9 or len(rows) < 9:
        return False
    third = slice(columns[0] + len(columns) // 3, columns[-1] + 1 - len(columns) // 3)
    bone = (bodies[third] & (array[third] > BONE_HU)).mean(axis=2)
    lasting = ndimage.uniform_filter(bone, 5, mode="constant").max(axis=0)
    middle = (rows[0] + rows[-1] + 1) // 2
    back, front = float(lasting[:middle].max()), float(lasting[middle:].max())
    return front > max(LASTING, CLEAR * back)


def _table(plane: Array, filled: Array) -> Array:
    """Voxels that are no air behind the body, and in front of it."""
    rows = np.flatnonzero(filled.any(axis=0))
    other = (plane > TABLE_HU) & ~ndimage.binary_dilation(filled, iterations=2)
    other &= filled.any(axis=1)[:, None]
    return np.array([other[:, : rows[0] + 3].sum(), other[:, rows[-1] - 2 :].sum()])


def _levels(plane: Array, filled: Array) -> Array:
    """Columns of gas that end on one line at the back, and at the front."""
    gas, _ = ndimage.label(ndimage.binary_erosion(filled, iterations=2) & (plane < GAS_HU))
    found = np.zeros(2, int)
    for number, where in enumerate(ndimage.find_objects(gas), start=1):
        piece = gas[where] == number
        if len(piece) < LEVEL:
            continue
        ends = piece.argmax(axis=1), piece[:, ::-1].argmax(axis=1)
        back, front = (np.bincount(end).max() / len(end) for end in ends)
        found += len(piece) * np.array([back > 0.7 > front, front > 0.7 > back])
    return found
