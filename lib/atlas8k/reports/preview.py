"""Draw a CT with its organs and attention, radiological convention.

The patient's right is on the left of axial and coronal pictures, the head is up, and the
front is up (axial) or left (sagittal), whatever the file's axes are.

:func:`draw_planes` shows three planes of everything in RAS+ order. :func:`draw_regions` shows
where to look: a row of three planes a region, along the scanner's own axes nearest RAS, each a
window wide enough for the region. The CT, the label and the heat may lie on different grids
there: every pixel is looked up in millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.errors import GridMismatchError, UnreadableVolumeError
from atlas8k.core.files import publish
from atlas8k.core.structures import ORGANS
from atlas8k.core.volume import Grid, Volume, to_canonical

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HU_WINDOW = (-160.0, 240.0)
"""Abdominal soft-tissue window, HU."""

ATTENTION_COLOR = "#ff2d2d"
WINDOW_MM = (130.0, 300.0)
MARGIN_MM = 25.0
PIXELS = 320
REGION_COLOR = "#21e6ff"
"""Far from every organ's colour and from the heat's."""
FULL_HEAT = 1.0
"""Eq. 4 that is drawn brightest: 0.5 of std, 0.37 of entropy and an overlap make 1.87."""


class _Plane(NamedTuple):
    """RAS+ axes of a picture, and letters at its left, right, top and bottom."""

    name: str
    along: int
    horizontal: int
    vertical: int
    letters: tuple[str, str, str, str]


_PLANES = (
    _Plane("axial", 2, 0, 1, ("R", "L", "A", "P")),
    _Plane("coronal", 1, 0, 2, ("R", "L", "S", "I")),
    _Plane("sagittal", 0, 1, 2, ("A", "P", "S", "I")),
)
_ENDINGS = (".png", ".svg", ".pdf", ".jpg")


def save_figure(figure: Figure, path: Path, **options: Any) -> None:
    """Write a picture, complete or not at all; the ending is the format.

    Parameters
    ----------
    options
        Of :meth:`matplotlib.figure.Figure.savefig`.
    """
    temporary = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    try:
        figure.savefig(temporary, **options)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def best_point(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return per axis the index of the slice with most of ``mask``; the centre where it is empty.

    ``mask``: ``(X, Y, Z)`` bool.
    """
    if not mask.any():
        nx, ny, nz = mask.shape
        return nx // 2, ny // 2, nz // 2
    x, y, z = (
        int(np.argmax(mask.sum(axis=tuple(other for other in range(3) if other != axis))))
        for axis in range(3)
    )
    return x, y, z


def _plane(array: npt.NDArray[Any], axis: int, index: int) -> npt.NDArray[Any]:
    """Return a slice of a RAS+ array: rows downwards, patient's right or front at the left."""
    image: npt.NDArray[Any] = np.take(array, index, axis=axis).T[::-1]
    # x grows to the patient's right and y to the front: both run leftwards in the picture.
    return image[:, ::-1]


def _draw_plane(
    axes: Axes,
    ct: Volume,
    label: npt.NDArray[np.uint8] | None,
    attention: npt.NDArray[np.bool_] | None,
    plane: _Plane,
    index: int,
) -> None:
    spacing, axis = ct.grid.spacing, plane.along
    aspect = spacing[plane.vertical] / spacing[plane.horizontal]
    axes.imshow(
        _plane(ct.array, axis, index),
        cmap="gray",
        vmin=HU_WINDOW[0],
        vmax=HU_WINDOW[1],
        aspect=aspect,
        interpolation="bilinear",
    )
    if label is not None:
        image = _plane(label, axis, index)
        overlay = np.zeros((*image.shape, 4))
        for organ in ORGANS:
            overlay[image == organ.id] = (*_color(organ.color), 0.42)
        axes.imshow(overlay, aspect=aspect, interpolation="nearest")
        for organ in ORGANS:
            mask = image == organ.id
            if mask.any():
                axes.contour(mask, [0.5], colors=[_color(organ.color)], linewidths=0.8)
    if attention is not None:
        image = _plane(attention, axis, index)
        if image.any():
            axes.contourf(image, [0.5, 1.5], colors="none", hatches=["////"], alpha=0.0)
            axes.contour(image, [0.5], colors=[ATTENTION_COLOR], linewidths=1.6)
    axes.set_title(f"{plane.name}, slice {index}", fontsize=9, color="white")
    axes.set_axis_off()


def draw_planes(
    target: Path | BinaryIO,
    ct: Volume,
    label: npt.NDArray[np.uint8] | None = None,
    attention: npt.NDArray[np.bool_] | None = None,
    *,
    point: tuple[int, int, int] | None = None,
    title: str = "",
    form: str | None = None,
) -> None:
    """Draw axial, coronal and sagittal slices with organs filled and attention outlined.

    Parameters
    ----------
    target
        Picture to write; its format is the ending (``.png``, ``.svg``) or `form`.
    ct
        ``(X, Y, Z)`` HU, any orientation.
    label
        ``(X, Y, Z)`` uint8 on the CT's grid, organ ids 1 to 9.
    attention
        ``(X, Y, Z)`` bool on the CT's grid: salient regions.
    point
        Voxel the planes go through, in the CT's RAS+ order; by default where most
        attention is, else most of the label.

    Raises
    ------
    GridMismatchError
        Where an array does not have the CT's shape.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    for name, array in (("label", label), ("attention", attention)):
        if array is not None and tuple(array.shape) != ct.grid.shape:
            raise GridMismatchError(name, f"shape {array.shape} is not the CT's {ct.grid.shape}")
    base = to_canonical(ct)
    organs = None if label is None else to_canonical(Volume(label, ct.grid)).array
    regions = None if attention is None else to_canonical(Volume(attention, ct.grid)).array
    if point is None:
        target_mask = regions if regions is not None and regions.any() else organs
        point = best_point(
            np.zeros(base.grid.shape, bool) if target_mask is None else target_mask > 0
        )

    extent = np.array(base.grid.shape) * base.grid.spacing
    widths = [float(extent[plane.horizontal]) for plane in _PLANES]
    heights = [float(extent[plane.vertical]) for plane in _PLANES]
    figure = Figure(figsize=(13, 13 * max(heights) / sum(widths) + 0.9), facecolor="black")
    panels = figure.subplots(1, 3, gridspec_kw={"width_ratios": widths})
    for axes, plane in zip(panels, _PLANES, strict=True):
        _draw_plane(axes, base, organs, regions, plane, point[plane.along])
    handles = [
        Patch(color=_color(organ.color), label=organ.name)
        for organ in ORGANS
        if organs is not None and (organs == organ.id).any()
    ]
    if regions is not None:
        handles.append(Patch(fill=False, edgecolor=ATTENTION_COLOR, label="attention"))
    if handles:
        figure.legend(
            handles=handles, loc="lower center", ncols=10, fontsize=8, frameon=False,
            labelcolor="white",
        )  # fmt: skip
    if title:
        figure.suptitle(title, color="white", fontsize=10)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.08, wspace=0.03)
    figure.savefig(target, dpi=110, facecolor="black", format=form)


@dataclass(frozen=True, eq=False)
class View:
    """One row of the picture.

    Attributes
    ----------
    point_mm
        Point the planes go through, RAS+ mm.
    title
        Text above the row.
    mask
        ``(X, Y, Z)`` bool, the region's voxels.
    """

    point_mm: Sequence[float]
    title: str
    mask: Volume


def draw_regions(
    path: Path,
    ct: Volume,
    label: Volume,
    heat: Volume,
    views: Sequence[View],
    *,
    title: str = "",
) -> None:
    """Draw one row a view: CT, organ outlines, heat, and the region's own outline.

    Parameters
    ----------
    path
        Picture to write, complete or not at all; its format is the ending.
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
        Where the name has no picture's ending, or there is no view.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if path.suffix not in _ENDINGS:
        raise UnreadableVolumeError(path, f"a picture ends in {', '.join(_ENDINGS)}")
    if not views:
        raise UnreadableVolumeError(path, "there is no region to draw")
    # A line for the title above the two lines of the first view.
    head = 1.1 if title else 0.75
    height = 4.35 * len(views) + 0.35 + head
    figure = Figure(figsize=(12.6, height), facecolor="black")
    panels = figure.subplots(len(views), 3, squeeze=False)
    axes_mm = _axes(ct.grid)
    organs_drawn: set[int] = set()
    for row, view in zip(panels, views, strict=True):
        for axes, plane in zip(row, _PLANES, strict=True):
            organs_drawn |= _draw_region(axes, plane, axes_mm, ct, label, heat, view)
        row[0].set_title(view.title, loc="left", color="white", fontsize=12, pad=8)
    handles = [
        Line2D([], [], color=_color(organ.color), lw=2, label=organ.name)
        for organ in ORGANS
        if organ.id in organs_drawn
    ]
    handles.append(Line2D([], [], color=REGION_COLOR, lw=2.4, label="region to look at"))
    top, bottom = 1 - head / height, 0.5 / height
    figure.subplots_adjust(0.012, bottom, 0.925, top, wspace=0.02, hspace=0.13)
    legend = {"loc": "lower left", "bbox_to_anchor": (0.008, 0.02 / height), "ncols": 10}
    figure.legend(handles=handles, **legend, fontsize=9, frameon=False, labelcolor="white")
    bar_axes = figure.add_axes((0.94, bottom, 0.012, top - bottom))
    bar = figure.colorbar(ScalarMappable(Normalize(0, FULL_HEAT), _heat_map()), cax=bar_axes)
    bar.set_label("attention (Eq. 4), largest of the organs", color="white", fontsize=9)
    bar_axes.tick_params(colors="white", labelsize=8)
    if title:
        figure.text(0.012, 1 - 0.3 / height, title, color="white", fontsize=14, va="center")
    save_figure(figure, path, dpi=100, facecolor="black")


def _draw_region(
    axes: Axes,
    plane: _Plane,
    axes_mm: npt.NDArray[np.float64],
    ct: Volume,
    label: Volume,
    heat: Volume,
    view: View,
) -> set[int]:
    from matplotlib.patheffects import withStroke

    normal = axes_mm[:, plane.along]
    through, middle = np.asarray(view.point_mm, dtype=np.float64), middle_mm(view)
    middle = middle + normal * float(normal @ (through - middle))
    points = plane_points(middle, axes_mm, plane.horizontal, plane.vertical, window_mm(view.mask))
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
    organs = lookup(label, points, order=0)
    present = {int(value) for value in np.unique(organs) if value}
    for organ in ORGANS:
        if organ.id in present:
            # Smoothed a little: the label's voxels are coarser than the picture.
            soft = ndimage.gaussian_filter((organs == organ.id).astype(np.float32), 1.2)
            axes.contour(soft, [0.5], colors=[_color(organ.color)], linewidths=1.5)
    mask = lookup(view.mask, points, order=0).astype(np.float32)
    if mask.any():
        axes.contour(
            ndimage.gaussian_filter(mask, 1.2), [0.5], colors=[REGION_COLOR], linewidths=2.2
        )
    left, right, top, bottom = plane.letters
    outline = [withStroke(linewidth=2.4, foreground="black")]
    for x, y, text, ha, va in (
        (0.015, 0.5, left, "left", "center"),
        (0.985, 0.5, right, "right", "center"),
        (0.5, 0.985, top, "center", "top"),
        (0.5, 0.015, bottom, "center", "bottom"),
        (0.02, 0.97, plane.name, "left", "top"),
    ):
        axes.text(
            x, y, text, ha=ha, va=va, color="#e6ebef", fontsize=9, transform=axes.transAxes,
            path_effects=outline,
        )  # fmt: skip
    axes.set_axis_off()
    return present


def _axes(grid: Grid) -> npt.NDArray[np.float64]:
    """Return ``(3, 3)``, columns are unit vectors in mm along the CT's axes nearest RAS+."""
    base = grid.canonical()
    directions: npt.NDArray[np.float64] = base.affine[:3, :3] / np.asarray(base.spacing)
    return directions


def window_mm(mask: Volume) -> float:
    """Return the side of the square shown: the region's longest extent with a margin."""
    voxels = np.argwhere(mask.array)
    if not len(voxels):
        return WINDOW_MM[1]
    extent = (np.ptp(voxels, axis=0) + 1) * np.asarray(mask.grid.spacing)
    return float(np.clip(extent.max() + 2 * MARGIN_MM, *WINDOW_MM))


def middle_mm(view: View) -> npt.NDArray[np.float64]:
    """Return RAS+ mm of the middle of the region's box; the view's point where it has none."""
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
    """Return ``(rows, columns, 3)`` RAS+ mm of a plane's pixels, first row at the top.

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
    """Return values of a volume at points ``(..., 3)`` in RAS+ mm; `fill` outside of it.

    ``order`` 0 takes the nearest voxel, 1 interpolates.
    """
    affine = volume.grid.affine
    index = np.linalg.solve(affine[:3, :3], (points - affine[:3, 3]).reshape(-1, 3).T)
    array = volume.array.view(np.uint8) if volume.array.dtype == bool else volume.array
    values = ndimage.map_coordinates(
        array, index, order=order, mode="constant", cval=fill, prefilter=False
    )
    sampled: npt.NDArray[Any] = values.reshape(points.shape[:-1])
    return sampled


def _color(color: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    return np.array(color) / 255


def _heat_map() -> Any:
    from matplotlib import colormaps

    return colormaps["inferno"]
