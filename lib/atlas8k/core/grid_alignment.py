"""Align a label on other axes, or cropped, with the CT's grid voxel for voxel; no resampling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import SERVED, Grid, corner_gap, corners
from atlas8k.core.nifti_geometry import every_form

Box = tuple[slice, slice, slice]

TOLERANCE_VOXELS = 0.05
"""Corners that differ by no more than this are the same: headers are written with few digits."""
NOISE_VOXELS = 0.001
"""A difference that single precision leaves; it is not reported."""
_ADVICE = "export the label map with the CT as reference volume, not resampled"

Start = tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """Position of one grid's voxels in another.

    Attributes
    ----------
    axes
        Axis of the source for each axis of the target.
    flips
        Whether the source's axis, after the permutation, runs backwards.
    start
        Target index of the block's first voxel, after permutation and flips.
    off_voxels
        Largest difference at a corner, which was snapped; voxels of the target.
    form
        Name of the target's form by which the source lies there; ``""``: its own affine.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    start: Start
    off_voxels: float = field(default=0.0, compare=False)
    form: str = field(default="", compare=False)

    def note(self) -> str:
        """Return a note on snapping and the form used, for people; empty where there is none."""
        parts = []
        if self.off_voxels > NOISE_VOXELS:
            parts.append(f"its header is up to {self.off_voxels:.3f} voxels off the CT's; snapped")
        if self.form not in ("", SERVED):  # labels are drawn on the served form
            parts.append(f"it lies on the CT as its {self.form} has it")
        return "; ".join(parts)

    def block(self, source: Grid) -> Box:
        """Return the box of the target's voxels that `source` covers."""
        x, y, z = (
            slice(at, at + source.shape[axis])
            for at, axis in zip(self.start, self.axes, strict=True)
        )
        return x, y, z


IDENTITY = Placement((0, 1, 2), (False, False, False), (0, 0, 0))


def find_placement(
    source: Grid,
    target: Grid,
    path: str | Path = "label map",
    *,
    tolerance: float = TOLERANCE_VOXELS,
    start: Start | None = None,
) -> Placement:
    """Find where `source` lies in `target`: a flip, an axis permutation, a whole-voxel sub-block.

    Either may have several forms, see :class:`~atlas8k.core.grid.Grid`. A source that has
    the target's shape and one of its forms is the target, voxel for voxel: it was drawn on it
    in a program that reads that form. Else all forms that fit must agree.

    Parameters
    ----------
    tolerance
        Largest difference to snap, voxels of the target at a corner.
    start
        Index in the CT of the source's first voxel, where its file has it; decides between
        several places that fit.

    Raises
    ------
    GridMismatchError
        Some corner of `source` is further off a whole voxel of `target`, or lies outside it;
        or it fits the target's forms in different places.
    """
    pairs = list(product(every_form(target), every_form(source)))
    if source.shape == target.shape:
        for ours, theirs in pairs:
            gap = corner_gap(ours.affine, theirs.affine, target.shape)
            if gap <= tolerance:
                return replace(IDENTITY, off_voxels=gap, form=ours.name)
    placements: dict[Placement, None] = {}
    errors: list[GridMismatchError] = []
    for ours, theirs in pairs:
        try:
            fit = _fit(
                Grid(source.shape, theirs.affine), Grid(target.shape, ours.affine), path, tolerance
            )
        except GridMismatchError as err:
            errors.append(err)
        else:
            placements.setdefault(replace(fit, form=ours.name))
    if not placements:
        raise errors[0]
    if len(placements) > 1:
        placements = {fit: None for fit in placements if start is not None and fit.start == start}
    if len(placements) == 1:
        return next(iter(placements))
    names = ", ".join(form.name or "own affine" for form in every_form(target))
    raise GridMismatchError(
        path,
        "it fits the CT in several places, since one of the two is known by several geometries "
        f"(the CT by its {names}); save it with the CT as reference volume, the whole of it, "
        "not cropped",
    )


def has_position(grid: Grid) -> bool:
    """Return whether a file's header has a position; else only its axes were stated."""
    return not any(form.name.startswith("no geometry") for form in grid.forms)


def on_extent(source: Grid, target: Grid) -> Grid:
    """Lay a grid whose axes are known but not its position over the whole of `target`.

    A grid that has a position stays as it is.
    """
    if has_position(source):
        return source
    whole = target.canonical()
    turned = source.canonical()
    if turned.shape != whole.shape:
        return source
    # From the source's axes to its canonical ones is the same in index space on both.
    return Grid(source.shape, whole.affine @ np.linalg.solve(turned.affine, source.affine))


def _fit(source: Grid, target: Grid, path: str | Path, tolerance: float) -> Placement:
    index_map = np.linalg.solve(target.affine, source.affine)
    axis_map = _nearest_axes(index_map[:3, :3], source.shape)
    points = corners(source.shape)[:3]
    exact = index_map[:3, :3] @ points + index_map[:3, 3:]
    if not np.isfinite(exact).all() or np.abs(exact).max() > 1e9:
        raise GridMismatchError(path, f"it lies far away from the CT; {_ADVICE}")
    turned = axis_map @ points
    # Rounded at the mean: a voxel size that is a little off counts from there.
    shift = np.rint((exact - turned).mean(axis=1, keepdims=True))
    whole = turned + shift
    gap = float(np.abs(exact - whole).max())
    if gap > tolerance:
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
        off_voxels=gap,
    )


def _nearest_axes(
    linear: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> npt.NDArray[np.float64]:
    """Return the signed permutation nearest to `linear`; axes of one voxel are matched last."""
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
    """Put an array onto `target` by a known placement; return the array itself if it fits.

    ``(X, Y, Z)`` uint8; 0 outside of a sub-block.
    """
    turned = array.transpose(placement.axes)
    turned = turned[tuple(slice(None, None, -1 if flip else None) for flip in placement.flips)]
    if turned.shape == target.shape:
        return np.asfortranarray(turned)
    out = np.zeros(target.shape, dtype=np.uint8, order="F")
    out[tuple(slice(at, at + n) for at, n in zip(placement.start, turned.shape, strict=True))] = (
        turned
    )
    return out


def box_on(box: Box, source: Grid, target: Grid) -> Box:
    """Return the smallest box of another grid that holds a box's extent, never empty.

    Parameters
    ----------
    box
        In voxel indices of ``source``.
    target
        Any grid over the same space.

    Returns
    -------
    tuple of slice
        In voxel indices of ``target``, clipped to it.
    """
    edges = [(s.start - 0.5, s.stop - 0.5) for s in box]  # outer faces of the voxels
    corners = np.array(np.meshgrid(*edges)).reshape(3, -1)
    index_map = np.linalg.solve(target.affine, source.affine)
    mapped = index_map @ np.vstack([corners, np.ones(corners.shape[1])])
    low = np.floor(mapped[:3].min(axis=1) + 0.5 + 1e-6).astype(int)
    high = np.ceil(mapped[:3].max(axis=1) + 0.5 - 1e-6).astype(int)
    slices = []
    for start, stop, n in zip(low, high, target.shape, strict=True):
        first = min(max(0, int(start)), n - 1)
        slices.append(slice(first, max(first + 1, min(n, int(stop)))))
    return slices[0], slices[1], slices[2]
