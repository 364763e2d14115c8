"""A label on other axes, or cropped, put on the CT's grid voxel for voxel; never resampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.grid import Grid

TOLERANCE_VOXELS = 0.01


@dataclass(frozen=True)
class Placement:
    """How one grid's voxels lie in another's.

    Attributes
    ----------
    axes
        Axis of the source for each axis of the target.
    flips
        Whether the source's axis, after the permutation, runs backwards.
    start
        Target index of the first voxel, after permutation and flips.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    start: tuple[int, int, int]


def find_placement(source: Grid, target: Grid, path: str | Path = "label map") -> Placement:
    """Where `source` lies in `target`: a flip, an axis permutation, a whole-voxel sub-block.

    Raises
    ------
    GridMismatchError
        Some corner of `source` is more than 0.01 voxel off a whole voxel of `target`, or
        lies outside it.
    """
    raise NotImplementedError


def place(
    array: npt.NDArray[np.uint8], source: Grid, target: Grid, path: str | Path = "label map"
) -> npt.NDArray[np.uint8]:
    """Put ``(X, Y, Z)`` uint8 on `source` onto `target`; 0 outside of a sub-block.

    Raises
    ------
    GridMismatchError
        As :func:`find_placement`.
    """
    raise NotImplementedError
