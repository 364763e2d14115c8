"""Draw planes of a CT as a picture: with its organs and a place to look at, or two labels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from atlas8k.attention.explain import slice_axis
from atlas8k.core.errors import VolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.structure_sets import Organ
from atlas8k.core.structures import ORGANS
from atlas8k.core.volume import Plane, read_grid, read_plane, read_planes
from atlas8k.reports.preview import HU_WINDOW, REGION_COLOR

SIDE_PIXELS = 256
"""Of the longer side."""
PANEL_PIXELS = 380
GAP_PIXELS = 8
OPAQUE, CLEAR = 0.42, 0.75
ONLY_FIRST, ONLY_SECOND = (230, 86, 60), (60, 140, 240)
"""Colours of what one of two labels has."""
QUALITY = 82
WINDOWS = {
    "abdomen": HU_WINDOW,
    "liver": (0.0, 160.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
}
"""HU that are black and white, by what they are for."""
MARK_MM = 8.0
"""Half the side of the square around the point that three planes show."""
_RIGHTWARDS, _DOWNWARDS = "LP", "PI"
"""Directions in which a picture's columns and rows go, by the axis's pair of letters: the
patient's right or front is at the left, front or head at the top."""
_PAIRS = ("RL", "AP", "SI")


@dataclass(frozen=True)
class Spot:
    """A place to look at, in the array index of the CT.

    Attributes
    ----------
    axis, index
        The plane.
    start, stop
        Corners of the box, ``stop`` exclusive; empty for none.
    """

    axis: int
    index: int
    start: Sequence[int] = ()
    stop: Sequence[int] = ()


def draw(ct: Path, label: Path | None, spot: Spot | None) -> bytes:
    """Return a JPEG of a plane in radiological convention, as long as it is in millimetres.

    Parameters
    ----------
    ct
        Of any orientation and spacing.
    label
        On the CT's grid; one of another shape, or that cannot be read, is left out.
    spot
        What to show; None: the middle of the CT's slices.

    Raises
    ------
    VolumeError
        The CT cannot be read.
    """
    grid = read_grid(ct)
    if spot is None or not 0 <= spot.index < grid.shape[spot.axis]:
        axis = slice_axis(grid)
        spot = Spot(axis, grid.shape[axis] // 2)
    rgb = gray(read_plane(ct, spot.axis, spot.index).array)
    if label is not None and (organs := _organs(label, grid, spot)) is not None:
        for organ in ORGANS:
            _paint(rgb, organs == organ.id, organ.color, OPAQUE)
    return _jpeg(turned(rgb, grid, spot, SIDE_PIXELS))


def draw_planes(
    ct: Path, label: Path | None, at: Sequence[int], window: tuple[float, float] = HU_WINDOW
) -> bytes:
    """Return a JPEG of the three planes through a voxel, side by side, a square around it.

    Parameters
    ----------
    ct
        Of any orientation and spacing.
    label
        On the CT's grid; one of another shape, or that cannot be read, is left out.
    at
        The voxel, in the array index of the CT.
    window
        HU that are black and white.

    Returns
    -------
    bytes
        From left to right: axial, coronal, sagittal, as far as the CT's axes are such.

    Raises
    ------
    VolumeError
        The CT cannot be read.
    IndexError
        There is no such voxel.
    """
    wanted = dict(enumerate(at))
    planes = read_planes(ct, wanted)
    grid = planes[0].grid
    painted: dict[int, Plane] | None = None
    if label is not None:
        with contextlib.suppress(VolumeError, IndexError):
            painted = read_planes(label, wanted, label=True)
    reach = [max(2, round(MARK_MM / mm)) for mm in grid.spacing]
    start = [max(0, i - n) for i, n in zip(at, reach, strict=True)]
    stop = [min(size, i + n + 1) for i, n, size in zip(at, reach, grid.shape, strict=True)]
    pictures = []
    # The plane across the axis from foot to head is the axial one, and so on.
    for axis in sorted(range(3), key=lambda axis: _pair(grid, axis), reverse=True):
        rgb = gray(planes[axis].array, window)
        if painted is not None and painted[axis].grid.shape == grid.shape:
            for organ in ORGANS:
                _paint(rgb, painted[axis].array == organ.id, organ.color, OPAQUE)
        pictures.append(turned(rgb, grid, Spot(axis, at[axis], start, stop), PANEL_PIXELS))
    return _jpeg(_beside(pictures))


def draw_compared(ct: Path, first: Path, second: Path, organ: Organ | None, spot: Spot) -> bytes:
    """Return a JPEG of a plane three times: the first label, the second, what differs.

    What only the first has is :data:`ONLY_FIRST`, what only the second has :data:`ONLY_SECOND`.

    Parameters
    ----------
    ct
        Of any orientation and spacing.
    first, second
        On the CT's grid; one of another shape is left out.
    organ
        Show this one alone; None: all, and where the two name different organs.
    spot
        The plane.

    Raises
    ------
    VolumeError
        The CT cannot be read.
    IndexError
        There is no such plane.
    """
    grid = read_grid(ct)
    bare = gray(read_plane(ct, spot.axis, spot.index).array)
    empty = np.zeros(bare.shape[:2], np.uint8)
    pair = []
    for path in (first, second):
        found = _organs(path, grid, spot)
        label = empty if found is None else found
        pair.append(label if organ is None else np.where(label == organ.id, label, 0))
    one, two = pair
    panels = []
    for label in pair:
        rgb = bare.copy()
        for each in ORGANS:
            _paint(rgb, label == each.id, each.color, OPAQUE)
        panels.append(rgb)
    rgb = bare.copy()
    differs = one != two
    _paint(rgb, differs & (one > 0), ONLY_FIRST, CLEAR)
    _paint(rgb, differs & (one == 0), ONLY_SECOND, CLEAR)
    panels.append(rgb)
    pictures = [turned(panel, grid, spot, PANEL_PIXELS) for panel in panels]
    return _jpeg(_beside(pictures))


def _beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Put pictures beside each other."""
    width = sum(one.width for one in pictures) + GAP_PIXELS * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(one.height for one in pictures)))
    left = 0
    for one in pictures:
        sheet.paste(one, (left, 0))
        left += one.width + GAP_PIXELS
    return sheet


def _paint(
    rgb: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
    color: tuple[int, int, int],
    opaque: float,
) -> None:
    rgb[inside] = (1 - opaque) * rgb[inside] + opaque * np.array(color)


def gray(
    hu: npt.NDArray[np.float32], window: tuple[float, float] = HU_WINDOW
) -> npt.NDArray[np.float32]:
    """Return HU in a window as RGB from 0 to 255; adds an axis."""
    low, high = window
    gray = np.clip((np.nan_to_num(hu) - low) / (high - low), 0, 1) * 255
    return np.repeat(gray[..., None], 3, axis=-1).astype(np.float32)


def _organs(label: Path, grid: Grid, spot: Spot) -> npt.NDArray[np.uint8] | None:
    try:
        plane = read_plane(label, spot.axis, spot.index, label=True)
    except (VolumeError, IndexError):
        return None
    return plane.array if plane.grid.shape == grid.shape else None


def _jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def turned(
    rgb: npt.NDArray[Any],
    grid: Grid,
    spot: Spot,
    side: int,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Turn a plane the way it is looked at, bring it to size, draw the box.

    Parameters
    ----------
    rgb
        The plane, its two axes and three colours.
    side
        Pixels of the longer side.
    """
    first, second = (axis for axis in range(3) if axis != spot.axis)
    boxed = bool(spot.start)
    box = [(spot.start[a], spot.stop[a]) if boxed else (0, 0) for a in (first, second)]
    axes = [first, second]
    # Columns are right to left, or front to back in a sagittal plane.
    if _pair(grid, first) > _pair(grid, second):
        rgb, axes, box = rgb.swapaxes(0, 1), axes[::-1], box[::-1]
    for at, (axis, wanted) in enumerate(zip(axes, (_RIGHTWARDS, _DOWNWARDS), strict=True)):
        if grid.orientation[axis] not in wanted:
            rgb = np.flip(rgb, at)
            n, (start, stop) = grid.shape[axis], box[at]
            box[at] = (n - stop, n - start)
    sizes = [grid.shape[axis] * grid.spacing[axis] for axis in axes]
    scale = side / max(sizes)
    width, height = (max(1, round(mm * scale)) for mm in sizes)
    picture = Image.fromarray(rgb.swapaxes(0, 1).astype(np.uint8)).resize((width, height), resample)
    if boxed:
        (left, right), (top, bottom) = (
            (start * n / grid.shape[axis], stop * n / grid.shape[axis])
            for (start, stop), n, axis in zip(box, (width, height), axes, strict=True)
        )
        ImageDraw.Draw(picture).rectangle(
            (left - 3, top - 3, right + 2, bottom + 2), outline=REGION_COLOR, width=2
        )
    return picture


def _pair(grid: Grid, axis: int) -> int:
    return next(i for i, pair in enumerate(_PAIRS) if grid.orientation[axis] in pair)
