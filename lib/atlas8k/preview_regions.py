"""Picture of where to look: three planes through each of a CT's worst regions.

One row a region. Planes are the scanner's own (axes nearest RAS, also of an oblique CT),
in radiological convention as in :mod:`atlas8k.preview`; each shows a window around the
region, wide enough for it. The CT, the label and the heat may lie on different grids: every
pixel is looked up in millimetres.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.errors import UnreadableVolumeError
from atlas8k.organs import ORGANS
from atlas8k.preview import HU_WINDOW
from atlas8k.volume import Grid, Volume, publish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW_MM = (130.0, 300.0)
MARGIN_MM = 25.0
PIXELS = 320
REGION_COLOR = "#21e6ff"
"""Far from every organ's colour and from the heat's."""
FULL_HEAT = 1.0
"""Eq. 4 that is drawn brightest: 0.5 of std, 0.37 of entropy and an overlap make 1.87."""

_AXIAL = ("axial", 0, 1, "R", "L", "A", "P")
_CORONAL = ("coronal", 0, 2, "R", "L", "S", "I")
_SAGITTAL = ("sagittal", 1, 2, "A", "P", "S", "I")
_PLANES = (_AXIAL, _CORONAL, _SAGITTAL)
"""Name, horizontal and vertical RAS+ axis, letters at the left, right, top and bottom."""

_ENDINGS = (".png", ".svg", ".pdf", ".jpg")


@dataclass(frozen=True, eq=False)
class View:
    """One row of the picture.

    Attributes
    ----------
    point_mm
        Point the planes go through, RAS+ mm.
    title
        What it is, above the row.
    mask
        ``(X, Y, Z)`` bool, the region's voxels.
    """

    point_mm: Sequence[float]
    title: str
    mask: Volume


def draw_regions(
    path: str | Path,
    ct: Volume,
    label: Volume,
    heat: Volume,
    views: Sequence[View],
    *,
    title: str = "",
) -> Path:
    """Draw one row a view: CT, organ outlines, heat, and the region's own outline.

    Parameters
    ----------
    path
        Picture to write; the ending says the format. Complete or not at all.
    ct
        ``(X, Y, Z)`` HU, any orientation.
    label
        ``(X, Y, Z)`` uint8 organ ids, on any grid.
    heat
        ``(X, Y, Z)`` Eq. 4, 0 and more, on any grid.
    views
        At least one.

    Raises
    ------
    UnreadableVolumeError
        The name has no picture's ending, or there is no view.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    path = Path(path)
    if path.suffix not in _ENDINGS:
        raise UnreadableVolumeError(path, f"a picture ends in {', '.join(_ENDINGS)}")
    if not views:
        raise UnreadableVolumeError(path, "there is no region to draw")
    rows = len(views)
    figure = Figure(figsize=(12.6, 4.35 * rows + 1.1), facecolor="black")
    heights = 4.35 * rows + 1.1
    panels = figure.subplots(rows, 3, squeeze=False)
    axes_mm = _axes(ct.grid)
    seen: set[int] = set()
    for row, view in zip(panels, views, strict=True):
        for axes, plane in zip(row, _PLANES, strict=True):
            seen |= _draw(axes, plane, axes_mm, ct, label, heat, view)
        row[0].set_title(view.title, loc="left", color="white", fontsize=12, pad=8)
    handles = [
        Line2D([], [], color=_color(organ.color), lw=2, label=organ.name)
        for organ in ORGANS
        if organ.id in seen
    ]
    handles.append(Line2D([], [], color=REGION_COLOR, lw=2.4, label="region to look at"))
    figure.subplots_adjust(
        left=0.012,
        right=0.925,
        top=1 - 0.75 / heights,
        bottom=0.5 / heights,
        wspace=0.02,
        hspace=0.13,
    )
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.008, 0.02 / heights),
        ncols=10,
        fontsize=9,
        frameon=False,
        labelcolor="white",
    )
    bar_axes = figure.add_axes((0.94, 0.5 / heights, 0.012, 1 - 1.25 / heights))
    bar = figure.colorbar(ScalarMappable(Normalize(0, FULL_HEAT), _heat_map()), cax=bar_axes)
    bar.set_label("attention (Eq. 4), largest of the organs", color="white", fontsize=9)
    bar_axes.tick_params(colors="white", labelsize=8)
    if title:
        figure.text(0.012, 1 - 0.32 / heights, title, color="white", fontsize=14, va="center")
    stream = io.BytesIO()
    figure.savefig(stream, dpi=100, facecolor="black", format=path.suffix[1:])
    temporary = path.with_name(f".{path.name}.unfinished")
    try:
        temporary.write_bytes(stream.getvalue())
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _draw(
    axes: Axes,
    plane: tuple[str, int, int, str, str, str, str],
    axes_mm: npt.NDArray[np.float64],
    ct: Volume,
    label: Volume,
    heat: Volume,
    view: View,
) -> set[int]:
    from matplotlib.patheffects import withStroke

    name, horizontal, vertical, left, right, top, bottom = plane
    normal = axes_mm[:, 3 - horizontal - vertical]
    through, middle = np.asarray(view.point_mm, dtype=np.float64), middle_mm(view)
    middle = middle + normal * float(normal @ (through - middle))
    points = plane_points(middle, axes_mm, horizontal, vertical, window_mm(view.mask))
    air = HU_WINDOW[0] - 1
    axes.imshow(
        lookup(ct, points, order=1, fill=air),
        cmap="gray",
        vmin=HU_WINDOW[0],
        vmax=HU_WINDOW[1],
        interpolation="bilinear",
    )
    warmth = np.clip(lookup(heat, points, order=1) / FULL_HEAT, 0, 1)
    overlay = _heat_map()(warmth)
    # Weak attention lets the CT through, strong attention still shows it.
    overlay[..., 3] = np.clip(warmth * 2.5, 0, 0.72) * (warmth > 0.03)
    axes.imshow(overlay, interpolation="bilinear")
    found = lookup(label, points, order=0)
    seen = {int(value) for value in np.unique(found) if value}
    for organ in ORGANS:
        if organ.id in seen:
            # Smoothed a little: the label's voxels are coarser than the picture.
            soft = ndimage.gaussian_filter((found == organ.id).astype(np.float32), 1.2)
            axes.contour(soft, [0.5], colors=[_color(organ.color)], linewidths=1.5)
    mask = lookup(view.mask, points, order=0).astype(np.float32)
    if mask.any():
        axes.contour(
            ndimage.gaussian_filter(mask, 1.2), [0.5], colors=[REGION_COLOR], linewidths=2.2
        )
    outline = [withStroke(linewidth=2.4, foreground="black")]
    write: dict[str, Any] = {
        "color": "#e6ebef",
        "fontsize": 9,
        "transform": axes.transAxes,
        "path_effects": outline,
    }
    for x, y, text in (
        (0.015, 0.5, left),
        (0.985, 0.5, right),
        (0.5, 0.985, top),
        (0.5, 0.015, bottom),
    ):
        axes.text(
            x,
            y,
            text,
            ha={0.015: "left", 0.985: "right"}.get(x, "center"),
            va={0.985: "top", 0.015: "bottom"}.get(y, "center"),
            **write,
        )
    axes.text(0.02, 0.97, name, ha="left", va="top", **write)
    axes.set_axis_off()
    return seen


def _axes(grid: Grid) -> npt.NDArray[np.float64]:
    """``(3, 3)``, columns are unit vectors in mm along the CT's axes nearest RAS+."""
    base = grid.canonical()
    directions: npt.NDArray[np.float64] = base.affine[:3, :3] / np.asarray(base.spacing)
    return directions


def window_mm(mask: Volume) -> float:
    """Side of the square shown: the region's longest extent with a margin."""
    voxels = np.argwhere(mask.array)
    if not len(voxels):
        return WINDOW_MM[1]
    extent = (np.ptp(voxels, axis=0) + 1) * np.asarray(mask.grid.spacing)
    return float(np.clip(extent.max() + 2 * MARGIN_MM, *WINDOW_MM))


def middle_mm(view: View) -> npt.NDArray[np.float64]:
    """RAS+ mm of the middle of the region's box; the view's point where it has none."""
    voxels = np.argwhere(view.mask.array)
    if not len(voxels):
        return np.asarray(view.point_mm, dtype=np.float64)
    affine = view.mask.grid.affine
    index = (voxels.min(axis=0) + voxels.max(axis=0)) / 2
    middle: npt.NDArray[np.float64] = affine[:3, :3] @ index + affine[:3, 3]
    return middle


def plane_points(
    centre_mm: Sequence[float] | npt.NDArray[np.float64],
    axes_mm: npt.NDArray[np.float64],
    horizontal: int,
    vertical: int,
    side_mm: float,
) -> npt.NDArray[np.float64]:
    """``(rows, columns, 3)`` RAS+ mm of a plane's pixels, first row at the top.

    Both axes run from large to small: the patient's right, front and head come first.
    """
    half = (0.5 - (np.arange(PIXELS) + 0.5) / PIXELS) * side_mm
    across = half[None, :, None] * axes_mm[:, horizontal]
    down = half[:, None, None] * axes_mm[:, vertical]
    points: npt.NDArray[np.float64] = np.asarray(centre_mm, dtype=np.float64) + across + down
    return points


def lookup(
    volume: Volume, points: npt.NDArray[np.float64], *, order: int, fill: float = 0.0
) -> npt.NDArray[Any]:
    """Values of a volume at points ``(..., 3)`` in RAS+ mm; `fill` outside of it.

    ``order`` 0 takes the nearest voxel, 1 interpolates.
    """
    affine = volume.grid.affine
    index = np.linalg.solve(affine[:3, :3], (points - affine[:3, 3]).reshape(-1, 3).T)
    array = volume.array.view(np.uint8) if volume.array.dtype == bool else volume.array
    values = ndimage.map_coordinates(
        array, index, order=order, mode="constant", cval=fill, prefilter=False
    )
    found: npt.NDArray[Any] = values.reshape(points.shape[:-1])
    return found


def _color(color: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    return np.array(color) / 255


def _heat_map() -> Any:
    from matplotlib import colormaps

    return colormaps["inferno"]
