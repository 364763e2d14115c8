"""Find the grid of a DICOM SEG object's frames: planes at places along their normal.

Each frame has a position; the distance of slices is less clear, since planes without voxels
are left out and `SpacingBetweenSlices` is often missing. Positions count before stated
distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from atlas8k.core.claims import MAX_EXTENT_MM, MAX_LABEL_VOXELS, MAX_VOXELS, too_many
from atlas8k.core.errors import GridMismatchError, UnreadableVolumeError
from atlas8k.core.grid import Grid
from atlas8k.formats.dicom.planes import Plane, lacking, number, raw

_MIN_SPACING_MM = 0.05
_OFF_STEPS = 0.1
"""How far a plane may lie from a whole step: rounded positions of thin slices reach 0.08
(0.625 mm, one decimal)."""
_SAME_STEP = 0.02
"""Share by which two distances of slices may differ and be one: rounding of decimal strings."""
_NEXT_STEPS = 1.2
"""Planes nearer than this, in steps of the CT, lie next to each other on it."""
_THICKEST = 2 * (1 + _SAME_STEP)
"""Thickness of a CT's slices, in their distance: reconstructions overlap by half at most."""
_DRIFT_PIXELS = 0.25
_SAME_DIRECTION = 1e-3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes on one grid.

    Attributes
    ----------
    grid
        Axes are columns, rows and slices, the latter along the planes' normal.
    places
        Index along the third axis of each frame, in stored order.
    """

    grid: Grid
    places: tuple[int, ...]


def stack(path: Path, planes: Sequence[Plane], header: Dataset, within: Grid | None) -> Stack:
    """Find the grid that every plane is a slice of.

    The distance of slices is, the first that fits every position:

    1. the CT's, where planes lie next to each other on it;
    2. the object's own (SpacingBetweenSlices);
    3. the CT's, where planes lie apart on it and are stated to be thinner than their distance
       (SliceThickness): drawn on every other slice, and not on a thicker reconstruction;
    4. the smallest distance of two planes.

    A single plane needs a thickness that the CT's slices can have.

    Raises
    ------
    UnreadableVolumeError
        Planes lack a position, differ in direction, spacing or size, lie side by side or
        unevenly, or the distance of slices is not clear.
    GridMismatchError
        A single plane is thicker than the CT's slices can be.
    """
    if incomplete := lacking(planes):
        what, which = incomplete
        raise UnreadableVolumeError(path, f"{len(which)} of its frames have no usable {what}")
    axes = np.array([plane.axes for plane in planes])
    pixels = np.array([plane.pixel_mm for plane in planes])
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    if np.abs(axes - axes[0]).max() > _SAME_DIRECTION:
        raise UnreadableVolumeError(path, "its frames have different orientations")
    if np.abs(pixels - pixels[0]).max() > _SAME_DIRECTION:
        raise UnreadableVolumeError(path, "its frames have different pixel distances")
    if pixels.min() < _MIN_SPACING_MM:
        raise UnreadableVolumeError(path, f"its pixels are {pixels.min():g} mm wide")
    if (extent := float(np.ptp(positions, axis=0).max())) > MAX_EXTENT_MM:
        raise UnreadableVolumeError(path, f"its slices lie {extent:g} mm apart")
    normal = np.cross(axes[0][0], axes[0][1])
    along = positions @ normal
    lowest = int(along.argmin())
    drift = positions - positions[lowest] - np.outer(along - along[lowest], normal)
    if np.linalg.norm(drift, axis=1).max() > _DRIFT_PIXELS * pixels.min():
        raise UnreadableVolumeError(
            path, "its frames are not stacked along their normal; export it on the CT's own grid"
        )
    step, places = _step(path, along - along[lowest], header, _ct_step(within, normal))
    columns, rows = planes[0].size or (0, 0)
    shape = (columns, rows, int(places.max()) + 1)
    why = too_many(shape, MAX_LABEL_VOXELS if within is None else MAX_VOXELS)
    if step < _MIN_SPACING_MM or why is not None:
        raise UnreadableVolumeError(path, f"its slices are {step:g} mm apart; {why or 'too thin'}")
    lps = np.eye(4)
    lps[:3, :2] = axes[0].T * pixels[0]
    lps[:3, 2] = normal * step
    lps[:3, 3] = positions[lowest]
    return Stack(Grid(shape, _LPS_TO_RAS @ lps), tuple(places.tolist()))


def _ct_step(within: Grid | None, normal: npt.NDArray[np.float64]) -> float | None:
    """Return the distance of the CT's planes along a direction (LPS); None where none run so."""
    if within is None:
        return None
    units = within.affine[:3, :3] / np.asarray(within.spacing)
    along = np.abs(units.T @ (_LPS_TO_RAS[:3, :3] @ normal))
    axis = int(along.argmax())
    return within.spacing[axis] if along[axis] > 1 - _SAME_DIRECTION else None


def _step(
    path: Path, along: npt.NDArray[np.float64], header: Dataset, ct_step: float | None
) -> tuple[float, npt.NDArray[np.int64]]:
    """Return the distance of slices, and the place of each plane in steps."""
    distances = np.diff(np.sort(along))
    distances = distances[distances > _MIN_SPACING_MM]
    gap = float(distances.min()) if distances.size else None
    stated, thickness = (
        _stated_distance(header, "SpacingBetweenSlices"),
        _stated_distance(header, "SliceThickness"),
    )
    if gap is None:
        return _of_one(path, stated or thickness, ct_step), np.zeros(len(along), dtype=np.int64)
    candidates = [stated, gap]
    if ct_step is not None and gap <= _NEXT_STEPS * ct_step:
        candidates.insert(0, ct_step)
    elif ct_step is not None and _drawn_apart(ct_step, gap, thickness):
        candidates.insert(1, ct_step)
    for step in candidates:
        if step is not None and (fitted := _fitted(along, step)) is not None:
            return fitted
    raise UnreadableVolumeError(
        path, f"its slices lie unevenly, {gap:.3g} mm apart and other distances; export it again"
    )


def _of_one(path: Path, thickness: float | None, ct_step: float | None) -> float:
    """Return the thickness of planes at one place, where they can be the CT's own."""
    if thickness is None:
        raise UnreadableVolumeError(
            path,
            "it is one slice and does not say how thick (SliceThickness or "
            "SpacingBetweenSlices); export it again",
        )
    if ct_step is not None and thickness > _THICKEST * ct_step:
        raise GridMismatchError(
            path,
            f"it is one slice, {thickness:g} mm thick, and the CT's are {ct_step:g} mm apart; "
            "draw it on the CT itself",
        )
    return ct_step or thickness


def _drawn_apart(ct_step: float, gap: float, thickness: float | None) -> bool:
    """Return whether planes apart are slices of the CT itself, and not of a thicker reconstruction.

    They are where they are thinner than their distance and can be the CT's own.
    """
    return thickness is not None and thickness <= min(_THICKEST * ct_step, gap * (1 - _SAME_STEP))


def _fitted(
    along: npt.NDArray[np.float64], step: float
) -> tuple[float, npt.NDArray[np.int64]] | None:
    """Fit the step to the planes farthest apart; None where one lies between places."""
    if not step >= _MIN_SPACING_MM:
        return None
    places = np.rint(along / step).astype(np.int64)
    last = int(along.argmax())
    if places[last]:
        step = float(along[last] / places[last])
        places = np.rint(along / step).astype(np.int64)
    off = np.abs(along - places * step).max()
    return (step, places) if off <= _OFF_STEPS * step else None


def _stated_distance(header: Dataset, keyword: str) -> float | None:
    """Read a distance stated for all frames or for the first one; None without."""
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(raw(header, sequence) or ())[:1]:
            for measures in list(raw(group, "PixelMeasuresSequence") or ())[:1]:
                value = number(measures, keyword)
                if value is not None and value > 0:
                    return value
    return None
