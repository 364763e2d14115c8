"""A label on other axes, or cropped, put on the CT's grid voxel for voxel; never resampled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.errors import GridMismatchError
from atlas8k.grid import Grid

Box = tuple[slice, slice, slice]

TOLERANCE_VOXELS = 0.01
_ADVICE = "export the label map with the CT as reference volume, not resampled"


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
        Target index of the block's first voxel, after permutation and flips.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    start: tuple[int, int, int]

    def block(self, source: Grid) -> Box:
        """The voxels of the target that `source` covers."""
        x, y, z = (
            slice(at, at + source.shape[axis])
            for at, axis in zip(self.start, self.axes, strict=True)
        )
        return x, y, z


def find_placement(source: Grid, target: Grid, path: str | Path = "label map") -> Placement:
    """Where `source` lies in `target`: a flip, an axis permutation, a whole-voxel sub-block.

    Raises
    ------
    GridMismatchError
        Some corner of `source` is more than 0.01 voxel off a whole voxel of `target`, or
        lies outside it.
    """
    index_map = np.linalg.solve(target.affine, source.affine)
    axis_map = _nearest_axes(index_map[:3, :3], source.shape)
    corners = np.array(list(product(*((0, n - 1) for n in source.shape))), dtype=np.float64).T
    exact = index_map[:3, :3] @ corners + index_map[:3, 3:]
    if not np.isfinite(exact).all() or np.abs(exact).max() > 1e9:
        raise GridMismatchError(path, f"it lies far away from the CT; {_ADVICE}")
    whole = axis_map @ corners + np.rint(index_map[:3, 3:])
    gap = float(np.abs(exact - whole).max())
    if gap > TOLERANCE_VOXELS:
        raise GridMismatchError(
            path,
            f"its voxels (shape {source.shape}, {_mm(source)}) are not those of the CT "
            f"(shape {target.shape}, {_mm(target)}): up to {gap:.3g} voxels off; {_ADVICE}",
        )
    first, last = whole.min(axis=1).astype(int), whole.max(axis=1).astype(int)
    if first.min() < 0 or (last >= target.shape).any():
        raise GridMismatchError(
            path,
            f"it reaches out of the CT: voxels {first.tolist()} to {last.tolist()} of a CT of "
            f"shape {target.shape}; crop it to the CT, or {_ADVICE}",
        )
    axes = np.abs(axis_map).argmax(axis=1)
    flips = axis_map.sum(axis=1) < 0
    return Placement(
        (int(axes[0]), int(axes[1]), int(axes[2])),
        (bool(flips[0]), bool(flips[1]), bool(flips[2])),
        (int(first[0]), int(first[1]), int(first[2])),
    )


def _nearest_axes(
    linear: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> npt.NDArray[np.float64]:
    """The signed permutation nearest to `linear`; an axis of one voxel takes what is left."""
    axis_map = np.zeros((3, 3))
    free = [0, 1, 2]
    # A single slice has no direction of its own to go by, so that it comes last.
    for column in sorted(range(3), key=lambda axis: shape[axis] == 1):
        row = max(free, key=lambda axis: abs(linear[axis, column]))
        free.remove(row)
        axis_map[row, column] = -1 if linear[row, column] < 0 else 1
    return axis_map


def _mm(grid: Grid) -> str:
    return " x ".join(f"{size:.4g}" for size in grid.spacing) + " mm, " + grid.orientation


def place(
    array: npt.NDArray[np.uint8], source: Grid, target: Grid, path: str | Path = "label map"
) -> npt.NDArray[np.uint8]:
    """Put ``(X, Y, Z)`` uint8 on `source` onto `target`; 0 outside of a sub-block.

    Raises
    ------
    GridMismatchError
        As :func:`find_placement`.
    """
    return put(array, find_placement(source, target, path), target)


def put(array: npt.NDArray[np.uint8], placement: Placement, target: Grid) -> npt.NDArray[np.uint8]:
    """As :func:`place`, the placement known; the array itself where nothing moves."""
    turned = array.transpose(placement.axes)
    turned = turned[tuple(slice(None, None, -1 if flip else None) for flip in placement.flips)]
    if turned.shape == target.shape:
        return np.asfortranarray(turned)
    out = np.zeros(target.shape, dtype=np.uint8, order="F")
    out[tuple(slice(at, at + n) for at, n in zip(placement.start, turned.shape, strict=True))] = (
        turned
    )
    return out
