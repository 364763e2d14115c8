"""Draw the outlines of a label on three planes of its CT: enough to see that it is wrong."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.structures import ORGANS
from atlas8k.core.volume import read_grid, read_label, read_planes
from atlas8k.reports.thumbnail import GAP_PIXELS, QUALITY, Spot, gray, turned

PANEL_PIXELS = 400
"""Of the longest side of any of the three."""
STRIDE = 3
"""Every third voxel of an axis tells which plane to show."""


def draw_outlines(ct: Path, label: Path, spot: Spot | None = None) -> bytes:
    """Return a JPEG of three planes with the outline of each organ, all to one scale.

    Parameters
    ----------
    ct
        Of any orientation and spacing.
    label
        On the CT's grid.
    spot
        The place to look at first: its plane is one of the three, with its box.

    Raises
    ------
    VolumeError
        One of the two cannot be read, or they do not fit each other.
    """
    grid = read_grid(ct)
    array = read_label(label).array
    if array.shape != grid.shape:
        raise GridMismatchError(label, f"shape {array.shape} is not that of the CT, {grid.shape}")
    places = telling(array)
    if spot is not None and 0 <= spot.index < array.shape[spot.axis]:
        places[spot.axis] = spot.index
    planes = read_planes(ct, places)
    longest = max(n * mm for n, mm in zip(grid.shape, grid.spacing, strict=True))
    panels = []
    for axis in sorted(places, key=lambda axis: "SIAPRL".index(grid.orientation[axis]) // 2):
        shown = Spot(axis, places[axis])
        if spot is not None and spot.axis == axis and spot.index == places[axis]:
            shown = spot
        sides = [grid.shape[a] * grid.spacing[a] for a in range(3) if a != axis]
        side = max(1, round(PANEL_PIXELS * max(sides) / longest))
        picture = turned(gray(planes[axis].array), grid, shown, side)
        cut = np.take(array, places[axis], axis=axis)
        organs = turned(
            np.repeat(cut[..., None], 3, axis=-1),
            grid,
            Spot(axis, 0),
            side,
            Image.Resampling.NEAREST,
        )
        panels.append(_outlined(picture, np.asarray(organs)[..., 0]))
    width = sum(one.width for one in panels) + GAP_PIXELS * (len(panels) - 1)
    sheet = Image.new("RGB", (width, max(one.height for one in panels)))
    at = 0
    for one in panels:
        sheet.paste(one, (at, (sheet.height - one.height) // 2))
        at += one.width + GAP_PIXELS
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=QUALITY, subsampling=0)  # lines keep their colour
    return stream.getvalue()


def telling(array: npt.NDArray[np.uint8]) -> dict[int, int]:
    """Return the index, by axis, of the plane that shows most of all organs.

    Of each organ it counts what the plane cuts as a part of the most that one does, so that a
    gall bladder tells as much as a liver.

    Parameters
    ----------
    array
        Organ ids, ``(X, Y, Z)``; without any, the middle ones are returned.
    """
    few = array[::STRIDE, ::STRIDE, ::STRIDE]
    found = {}
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        told = np.zeros(few.shape[axis])
        for organ in ORGANS:
            cut = (few == organ.id).sum(axis=others)
            told += cut / max(1, cut.max())
        index = int(told.argmax()) * STRIDE if told.any() else array.shape[axis] // 2
        found[axis] = min(index, array.shape[axis] - 1)
    return found


def _outlined(picture: Image.Image, organs: npt.NDArray[np.uint8]) -> Image.Image:
    """Draw the edge of each organ, two pixels wide, inside it."""
    rgb = np.asarray(picture).copy()
    padded = np.pad(organs, 2)
    edge = np.zeros(organs.shape, bool)
    for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2)):
        rows = slice(2 + down, 2 + down + organs.shape[0])
        edge |= padded[rows, 2 + right : 2 + right + organs.shape[1]] != organs
    for organ in ORGANS:
        rgb[edge & (organs == organ.id)] = organ.color
    return Image.fromarray(rgb)
