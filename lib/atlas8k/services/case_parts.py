"""What the page of a case loads of a CT and its labels, and how a block that was drawn comes back.

A browser holds some thirty million voxels. A CT that has more is shown thinned, every second voxel
or so, to look at; what is drawn, is drawn on a block of it at full resolution. The server lays the
block into the label: around it, what was there stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Grid
from atlas8k.core.nifti_file import open_nifti
from atlas8k.core.parts import Part, block, fits, thinned, whole
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import label_parts, read_label
from atlas8k.core.voxels import joint_counts

Kind = Literal["whole", "thinned", "block"]
SMALL_BYTES = 2
"""A CT whose voxels are stored in more is given out as whole HU of two bytes."""


@dataclass(frozen=True)
class View:
    """What of a CT a page shows.

    Attributes
    ----------
    kind
        All of it; every n-th voxel, to look at; or a block at full resolution, to draw on.
    as_stored
        The CT's file can be given out as it is.
    """

    kind: Kind
    part: Part
    as_stored: bool = False


def view_of(ct: Path, grid: Grid, at: Sequence[int] | None, most: int) -> View:
    """Return what a page shows of a CT.

    Parameters
    ----------
    ct, grid
        Its file and grid.
    at
        Voxel about which somebody wants full resolution; None: none.
    most
        Voxels that a browser may get.

    Raises
    ------
    IndexError
        There is no such voxel.
    """
    if fits(grid.shape, most):
        stored = open_nifti(ct, 1)[0].get_data_dtype().itemsize
        return View("whole", whole(grid.shape), as_stored=stored <= SMALL_BYTES)
    if at is not None:
        return View("block", block(grid, at, most))
    return View("thinned", thinned(grid, most))


def nearest(grid: Grid, mm: Sequence[float]) -> tuple[int, int, int]:
    """Return the voxel of a grid nearest to a place, RAS+ mm; at its edge for one outside."""
    found = np.linalg.solve(grid.affine, [*mm, 1.0])[:3]
    x, y, z = (
        min(max(round(float(at)), 0), n - 1) for at, n in zip(found, grid.shape, strict=True)
    )
    return x, y, z


def pasted(sent: Path | None, part: Part, grid: Grid, around: Path | None) -> npt.NDArray[np.uint8]:
    """Return a label of the whole CT: what was sent on a block, laid into what was there.

    Parameters
    ----------
    sent
        Label of the block, its voxels in the CT's order; None: nothing is laid in.
    around
        Label of the whole CT; None: an empty one.

    Returns
    -------
    ndarray
        ``grid.shape`` uint8, Fortran order.

    Raises
    ------
    GridMismatchError
        One of the two has not the shape that it should have.
    """
    if around is None:
        array = np.zeros(grid.shape, np.uint8, order="F")
    else:
        array = read_label(around).array
        if array.shape != grid.shape:
            raise GridMismatchError(around, f"{array.shape} does not fit the CT, {grid.shape}")
    if sent is not None:
        laid = read_label(sent, block=True).array
        if laid.shape != part.shape:
            raise GridMismatchError("block", f"{laid.shape} was sent, {part.shape} was shown")
        array[part.slices] = laid
    return array


@dataclass(frozen=True)
class Around:
    """What a label has where a page does not show it.

    Attributes
    ----------
    voxels
        By organ, outside of the block; of a page that shows none, all.
    changed
        Organs that are other ones there than in the label that the case began with.
    """

    voxels: dict[str, int]
    changed: list[str]


def around(now: Path | None, begun: Path | None, view: View) -> Around:
    """Return what a label has outside of the block that a page shows.

    Parameters
    ----------
    now, begun
        The label as it is drawn now, and as the case began with it; None: an empty one.
    """
    first = now or begun
    if first is None or view.kind == "whole":
        return Around({}, [])
    both = np.zeros((256, 256), np.int64)
    x, y, z = view.part.box
    parts = zip(label_parts(first), label_parts(begun or first), strict=True)
    for (k, mine), (_, before) in parts:
        pair = [one.copy(order="K") for one in (mine, before if begun else np.zeros_like(mine))]
        if view.kind == "block":
            for one in pair:
                one[x, y, max(z.start - k, 0) : max(z.stop - k, 0)] = 0
        both += joint_counts(*pair)
    voxels, same = both.sum(axis=1), np.diag(both)
    moved = (voxels != same) | (both.sum(axis=0) != same)
    return Around(
        {name: int(voxels[number]) for name, number in ORGAN_IDS.items()},
        [name for name, number in ORGAN_IDS.items() if moved[number]],
    )
