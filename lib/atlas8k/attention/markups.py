"""Attention regions as 3D Slicer markups: boxes beside the segmentation, never in it.

A label map of regions would become segments, and what Slicer exports when it saves is
merged: a region's segment cuts a hole into the organ below it. Boxes are no segments.

The file is what Slicer's Markups module writes (schema 1.0.3), millimetres in LPS. The
MONAI Label module loads every markup in it and then renames all boxes of the scene to
"Detection ROI - n"; it leaves point lists alone. So each box carries its name, and again
as the label of its centre, and a locked point list beside the boxes names every region:
a click on a point in the Markups module goes there. A file without any markup would be an
error in Slicer, so the point list is written even when there is no region.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.explain import place_of_region, slice_axis
from atlas8k.attention.regions import Region
from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.core.files import publishing
from atlas8k.core.nifti_geometry import without_shear
from atlas8k.core.structures import find_organ
from atlas8k.core.volume import Grid

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/"
    "Schema/markups-schema-v1.0.3.json#"
)
MAX_BOXES = 20
"""More boxes than this hide the CT; the list in the reply is longer."""

POINTS_NAME = "attention regions"
NOTHING_NAME = "attention: no region to look at"

_LPS = np.array([-1.0, -1.0, 1.0])  # RAS+ to LPS+ and back


def _color(name: str) -> list[float]:
    organ = find_organ(name)
    return [round(part / 255, 4) for part in organ.color] if organ else [1.0, 0.2, 0.2]


def region_name(region: Region, rank: int) -> str:
    """Return a region's name: rank by attention, organ, volume, ``"2 pancreas 4.2 ml"``."""
    return f"{rank} {' + '.join(region.organs)} {region.ml:.1f} ml"


def markups(regions: Sequence[Region], grid: Grid, most: int = MAX_BOXES) -> dict[str, Any]:
    """Return regions as a Slicer markups document.

    Parameters
    ----------
    regions
        In the array index of `grid`, largest attention first.
    grid
        Of the CT, any orientation, oblique and left-handed ones included.
    most
        Boxes and points for this many of the regions.

    Returns
    -------
    dict
        JSON-ready: one ROI a region, then one point list of all of them.
    """
    named = [(region_name(region, rank), region) for rank, region in enumerate(regions[:most], 1)]
    axes = box_axes(grid)
    boxes = [_box(name, region, grid, axes) for name, region in named]
    return {"@schema": SCHEMA, "markups": [*boxes, _points(named, grid)]}


def write_markups(path: str | Path, regions: Sequence[Region], grid: Grid) -> Path:
    """Write :func:`markups` to a file that ends in ``.json``; complete or not at all.

    Raises
    ------
    UnreadableVolumeError
        The name ends otherwise: Slicer would take the file for an image.
    """
    path = Path(path)
    if path.suffix != ".json":
        raise UnreadableVolumeError(path, "the name must end in .json; Slicer goes by it")
    text = json.dumps(markups(regions, grid), indent=1, allow_nan=False)
    with publishing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def box_axes(grid: Grid) -> npt.NDArray[np.float64]:
    """Return the directions of a box's edges, along the CT's array axes.

    Returns
    -------
    ndarray
        ``(3, 3)``, columns are unit vectors in RAS+ along the array axes; orthogonal also
        where a gantry tilt has sheared the axes (the nearest such), and right-handed,
        since Slicer knows no mirrored ROI. An edge's sign does not matter for a box.
    """
    axes = without_shear(grid.affine)[:3, :3] / np.asarray(grid.spacing)
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    return np.asarray(axes)


def _extent(
    region: Region, grid: Grid, axes: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the centre in RAS+ mm and edge lengths of the box around a region's voxels."""
    faces = [(a - 0.5, b - 0.5) for a, b in zip(region.start, region.stop, strict=True)]
    corners = np.array(np.meshgrid(*faces)).reshape(3, -1)
    mm = grid.affine[:3, :3] @ corners + grid.affine[:3, 3:]
    along = axes.T @ mm
    low, high = along.min(axis=1), along.max(axis=1)
    return axes @ ((low + high) / 2), high - low


def _box(name: str, region: Region, grid: Grid, axes: npt.NDArray[np.float64]) -> dict[str, Any]:
    centre, size = _extent(region, grid, axes)
    # Slicer reads nine numbers row by row; LPS turns the first two rows.
    orientation = _numbers((_LPS[:, None] * axes).ravel())
    return {
        **_basics(name, "ROI"),
        "roiType": "Box",
        "center": _numbers(_LPS * centre),
        "orientation": orientation,
        "size": _numbers(size),
        "insideOut": False,
        "controlPoints": [
            _point(1, name, _about(region, grid), _numbers(_LPS * centre), orientation)
        ],
        "display": _display(_color(region.organ), labels=False),
    }


def _points(named: Sequence[tuple[str, Region]], grid: Grid) -> dict[str, Any]:
    identity = _numbers(np.diag(_LPS).ravel())
    points = []
    for number, (name, region) in enumerate(named, start=1):
        mm = grid.affine[:3, :3] @ np.asarray(region.centre) + grid.affine[:3, 3]
        points.append(_point(number, name, _about(region, grid), _numbers(_LPS * mm), identity))
    return {
        **_basics(POINTS_NAME if points else NOTHING_NAME, "Fiducial"),
        "controlPoints": points,
        "display": _display([1.0, 0.18, 0.18], labels=True),
    }


def _basics(name: str, kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,  # nobody drags a region away while painting
        "fixedNumberOfControlPoints": True,
        "labelFormat": "%N-%d",
    }


def _point(
    number: int, label: str, text: str, position: list[float], orientation: list[float]
) -> dict[str, Any]:
    return {
        "id": str(number),
        "label": label,
        "description": text,
        "associatedNodeID": "",
        "position": position,
        "orientation": orientation,
        "selected": True,
        "locked": True,
        "visibility": True,
        "positionStatus": "defined",
    }


def _display(color: list[float], *, labels: bool) -> dict[str, Any]:
    return {
        "visibility": True,
        "opacity": 1.0,
        "color": color,
        "selectedColor": color,
        "activeColor": color,
        "propertiesLabelVisibility": False,
        "pointLabelsVisibility": labels,
        "textScale": 2.5,
        "glyphType": "Cross2D" if labels else "Sphere3D",
        "glyphScale": 1.0,
        "useGlyphScale": True,
        "fillVisibility": False,  # the voxels inside are to be looked at
        "outlineVisibility": True,
        "handlesInteractive": False,
    }


def _about(region: Region, grid: Grid) -> str:
    return (
        f"{' + '.join(region.organs)} in doubt: {region.ml:.1f} ml, "
        f"attention {region.attention_ml:.1f} ml; "
        f"{place_of_region(region, grid, slice_axis(grid)).text}"
    )


def _numbers(values: npt.NDArray[np.float64]) -> list[float]:
    # Rounded to a micrometre, and no minus before a zero.
    return [round(float(value), 6) + 0.0 for value in values]
