"""Pictures of a CT with its organs and attention: three planes, radiological convention.

The patient's right is on the left of axial and coronal pictures, the head is up, and the
front is up (axial) or left (sagittal), whatever the file's axes are: everything is first
brought to RAS+ order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlas8k.errors import GridMismatchError
from atlas8k.organs import ORGANS
from atlas8k.volume import Volume, to_canonical

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HU_WINDOW = (-160.0, 240.0)
"""Abdominal soft-tissue window, HU."""

ATTENTION_COLOR = "#ff2d2d"
_PLANES = (("axial", 2, 0, 1), ("coronal", 1, 0, 2), ("sagittal", 0, 1, 2))
"""Name, axis looked along, horizontal and vertical axis; RAS+ order."""


def best_point(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """Per axis the index of the slice with most of ``mask``; the centre where it is empty.

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
    """Slice of a RAS+ array as an image: rows downwards, patient's right or front at left."""
    image: npt.NDArray[Any] = np.take(array, index, axis=axis).T[::-1]
    # x grows to the patient's right and y to the front: both run leftwards in the picture.
    return image[:, ::-1]


def _draw_plane(
    axes: Axes,
    ct: Volume,
    label: npt.NDArray[np.uint8] | None,
    attention: npt.NDArray[np.bool_] | None,
    plane: tuple[str, int, int, int],
    index: int,
) -> None:
    name, axis, horizontal, vertical = plane
    spacing = ct.grid.spacing
    aspect = spacing[vertical] / spacing[horizontal]
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
            overlay[image == organ.id] = (*(np.array(organ.color) / 255), 0.42)
        axes.imshow(overlay, aspect=aspect, interpolation="nearest")
        for organ in ORGANS:
            mask = image == organ.id
            if mask.any():
                axes.contour(mask, [0.5], colors=[np.array(organ.color) / 255], linewidths=0.8)
    if attention is not None:
        image = _plane(attention, axis, index)
        if image.any():
            axes.contourf(image, [0.5, 1.5], colors="none", hatches=["////"], alpha=0.0)
            axes.contour(image, [0.5], colors=[ATTENTION_COLOR], linewidths=1.6)
    axes.set_title(f"{name}, slice {index}", fontsize=9, color="white")
    axes.set_axis_off()


def draw_planes(
    path: str | Path,
    ct: Volume,
    label: npt.NDArray[np.uint8] | None = None,
    attention: npt.NDArray[np.bool_] | None = None,
    *,
    point: tuple[int, int, int] | None = None,
    title: str = "",
) -> Path:
    """Draw axial, coronal and sagittal slices with organs filled and attention outlined.

    Parameters
    ----------
    path
        Picture to write; the ending says the format (``.png``, ``.svg``).
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
        seen = regions if regions is not None and regions.any() else organs
        point = best_point(np.zeros(base.grid.shape, bool) if seen is None else seen > 0)

    extent = np.array(base.grid.shape) * base.grid.spacing
    widths = [float(extent[plane[2]]) for plane in _PLANES]
    heights = [float(extent[plane[3]]) for plane in _PLANES]
    figure = Figure(figsize=(13, 13 * max(heights) / sum(widths) + 0.9), facecolor="black")
    panels = figure.subplots(1, 3, gridspec_kw={"width_ratios": widths})
    for axes, plane in zip(panels, _PLANES, strict=True):
        _draw_plane(axes, base, organs, regions, plane, point[plane[1]])
    handles = [
        Patch(color=np.array(organ.color) / 255, label=organ.name)
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
    figure.savefig(path, dpi=110, facecolor="black")
    return Path(path)
