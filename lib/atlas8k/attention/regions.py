"""Find salient regions: the parts of the attention maps that an annotator is shown.

A mask is opened by a box, in millimetres or in the published voxels: what stays is what the
box fits into, the union of all its positions inside the mask. Outside of the array counts as
not set. The connected components that are left and not too small are regions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt

from atlas8k.core.components import label_components
from atlas8k.core.grid import Grid

Mask = npt.NDArray[np.bool_]
Widths = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Triple = tuple[int, int, int]
Point = tuple[float, float, float]

PUBLISHED_WIDTHS: Widths = (5, 5, 5)
"""Two erosions, then two dilations, with a full 3x3x3 element: a box of five voxels, so
that a slab of four voxels vanishes and one of five stays (reference code)."""

PUBLISHED_MM = 7.5
"""The same box at the reference code's spacing of 1.5 mm."""


def widths_for(opening_mm: float, spacing_mm: Sequence[float]) -> Widths:
    """Return the edges in voxels of the smallest box that measures ``opening_mm`` or more an axis.

    At 1.5 mm, 7.5 mm are the published five voxels; at 5 mm slices they are two, where
    the voxel form would ask for 25 mm.

    Parameters
    ----------
    opening_mm
        What is thinner than this along some axis is removed; 0 removes nothing.
    spacing_mm
        Voxel size along the array axes.
    """
    x, y, z = (max(1, math.ceil(opening_mm / step - 1e-6)) for step in spacing_mm)
    return x, y, z


def bounding_box(mask: npt.NDArray[np.generic]) -> Box | None:
    """Return the smallest box that holds every voxel of ``mask: (X, Y, Z)`` that is not 0."""
    box = []
    for axis in range(3):
        # Reduced to one axis step by step, on what the axes before have left.
        line = mask.any(axis=tuple(a for a in range(3) if a != axis))
        inside = np.flatnonzero(line)
        if inside.size == 0:
            return None
        span = slice(int(inside[0]), int(inside[-1]) + 1)
        box.append(span)
        mask = mask[tuple(span if a == axis else slice(None) for a in range(3))]
    return box[0], box[1], box[2]


def opened(mask: Mask, widths: Widths) -> Mask:
    """Return the union of all boxes of ``widths`` voxels that fit into ``mask``.

    Parameters
    ----------
    mask
        ``(X, Y, Z)`` bool.
    widths
        Edges of the box in voxels, 1 or more each; even ones are allowed.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` bool, a subset of ``mask``.
    """
    out = np.zeros_like(mask)
    outer = bounding_box(mask)
    if outer is None:
        return out
    # First corners of the boxes that fit; each axis loses width - 1 positions.
    corners = mask[outer]
    for axis, width in enumerate(widths):
        corners = _windows(corners, axis, width, np.logical_and)
    inner = bounding_box(corners)
    if inner is None:
        return out
    boxes = corners[inner]
    for axis, width in enumerate(widths):
        margin = [(width - 1, width - 1) if a == axis else (0, 0) for a in range(3)]
        boxes = _windows(np.pad(boxes, margin), axis, width, np.logical_or)
    target = tuple(
        slice(o.start + i.start, o.start + i.stop + width - 1)
        for o, i, width in zip(outer, inner, widths, strict=True)
    )
    out[target] = boxes
    return out


def _windows(mask: Mask, axis: int, width: int, combine: np.ufunc) -> Mask:
    """Apply ``combine`` over every run of ``width`` voxels along ``axis``, in log2 steps."""
    length = mask.shape[axis]
    if length < width:
        shape = tuple(0 if a == axis else n for a, n in enumerate(mask.shape))
        return np.zeros(shape, dtype=bool)
    done = 1
    while done < width:
        step = min(done, width - done)
        length -= step
        head = tuple(slice(0, length) if a == axis else slice(None) for a in range(3))
        tail = tuple(slice(step, None) if a == axis else slice(None) for a in range(3))
        mask = combine(mask[head], mask[tail])
        done += step
    return mask


@dataclass(frozen=True)
class Region:
    """One connected salient region of one organ.

    Attributes
    ----------
    organ
        Name of the organ whose prediction is in doubt there.
    ml
        Volume of the region.
    attention_ml
        Eq. 4 summed over the region, in ml.
    start, stop
        Bounding box in array index, ``start`` inclusive, ``stop`` exclusive.
    centre
        Centroid in array index, voxel centres at whole numbers; of a place made to be looked at
        the voxel nearest that of its largest slice, from foot to head.
    largest_slice
        Per array axis, the index at which the region's cross-section is largest; of
        several, the most central.
    wrong_ml, chance
        Of a place made to be looked at (:mod:`atlas8k.attention.places`): the wrong ml expected
        in it, and the mean chance that a voxel of it is in an error; 0 where not known.
    why
        What is in doubt there, in words; empty where not known.
    also
        Other organs in doubt there: places of theirs that touch are a part of this one.
    """

    organ: str
    ml: float
    attention_ml: float
    start: Triple
    stop: Triple
    centre: Point
    largest_slice: Triple
    wrong_ml: float = 0.0
    chance: float = 0.0
    why: str = ""
    also: tuple[str, ...] = ()

    @property
    def organs(self) -> tuple[str, ...]:
        """All organs in doubt there, the first one first."""
        return (self.organ, *self.also)

    @property
    def box(self) -> Box:
        """The bounding box as slices of an ``(X, Y, Z)`` array."""
        x, y, z = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return x, y, z

    def as_dict(self) -> dict[str, Any]:
        """Return plain fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Region:
        """Return the region of :meth:`as_dict`, lists as JSON has them."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        return cls(**values)

    def on(self, source: Grid, target: Grid) -> Region:
        """Return the region in another grid's array index.

        Parameters
        ----------
        source
            Grid whose index the region is in.
        target
            Another grid over the same patient, such as the CT's own: any orientation,
            spacing and handedness.

        Returns
        -------
        Region
            The box holds every target voxel that the region touches, within the target's
            shape; volumes are those of the source.
        """
        if source is target:
            return self
        index_map = np.linalg.solve(target.affine, source.affine)
        low, high = np.array(self.start) - 0.5, np.array(self.stop) - 0.5
        corners = np.array(list(product(*zip(low, high, strict=True))))
        mapped = corners @ index_map[:3, :3].T + index_map[:3, 3]
        last = np.asarray(target.shape) - 1
        # The tolerance keeps a shared voxel face from touching the voxel behind it.
        start = np.clip(np.floor(mapped.min(axis=0) + 0.5 + 1e-4), 0, last).astype(int)
        stop = np.clip(np.ceil(mapped.max(axis=0) + 0.5 - 1e-4), start + 1, last + 1).astype(int)
        centre = np.asarray(self.centre) @ index_map[:3, :3].T + index_map[:3, 3]

        largest = []
        for axis in range(3):
            # The source axis that runs along this target axis, in millimetres.
            along = np.abs(index_map[axis, :3]) / np.asarray(source.spacing)
            parallel = int(np.argmax(along))
            point = np.asarray(self.centre, dtype=float)
            point[parallel] = self.largest_slice[parallel]
            position = float(index_map[axis, :3] @ point + index_map[axis, 3])
            largest.append(int(np.clip(np.rint(position), start[axis], stop[axis] - 1)))
        return replace(
            self,
            start=_triple(start),
            stop=_triple(stop),
            centre=(float(centre[0]), float(centre[1]), float(centre[2])),
            largest_slice=_triple(largest),
        )


def find_regions(
    mask: npt.NDArray[np.bool_],
    attention: Callable[[Box], npt.NDArray[np.floating[Any]]],
    organ: str,
    voxel_ml: float,
    *,
    min_ml: float = 0.5,
    origin: Triple = (0, 0, 0),
) -> tuple[list[Region], npt.NDArray[np.bool_]]:
    """Find the 26-connected components of a salient mask that are not too small.

    Parameters
    ----------
    mask
        ``(X, Y, Z)``: where the organ is salient.
    attention
        Gives Eq. 4 within a box of ``mask``; called for the components that are kept.
    organ
        Organ name, copied into the records.
    voxel_ml
        Volume of a voxel, ml.
    min_ml
        Components smaller than this are left out.
    origin
        Index of the array's first voxel, where the arrays are a part of a volume.

    Returns
    -------
    regions
        Largest attention first.
    mask
        ``(X, Y, Z)`` bool, the voxels of those regions.
    """
    labels = label_components(mask)
    if not labels.any():
        return [], np.zeros(mask.shape, dtype=bool)
    statistics = cc3d.statistics(labels)
    size_ml = statistics["voxel_counts"] * voxel_ml
    keep = size_ml >= min_ml - 1e-9
    keep[0] = False
    regions = []
    for index in np.flatnonzero(keep):
        box = statistics["bounding_boxes"][index]
        inside = labels[box] == index
        start = np.array([s.start for s in box])
        largest = [_widest(inside, axis) for axis in range(3)]
        centroid = statistics["centroids"][index] + np.asarray(origin)
        regions.append(
            Region(
                organ=organ,
                ml=float(size_ml[index]),
                attention_ml=float(attention(box)[inside].sum(dtype=np.float64) * voxel_ml),
                start=_triple(start + origin),
                stop=_triple(start + origin + inside.shape),
                centre=(float(centroid[0]), float(centroid[1]), float(centroid[2])),
                largest_slice=_triple(start + origin + largest),
            )
        )
    return by_attention(regions), keep[labels]


def by_attention(regions: Sequence[Region]) -> list[Region]:
    """Sort by attention, largest first; organ and position settle ties, so that runs agree."""
    return sorted(regions, key=lambda r: (-r.attention_ml, r.organ, r.start))


def _widest(inside: npt.NDArray[np.bool_], axis: int) -> int:
    """Return the index along ``axis`` of the largest cross-section, the most central of several."""
    areas = np.count_nonzero(inside, axis=tuple(a for a in range(3) if a != axis))
    candidates = np.flatnonzero(areas == areas.max())
    return int(candidates[len(candidates) // 2])


def _triple(values: Sequence[int] | npt.NDArray[Any]) -> Triple:
    x, y, z = (int(v) for v in values)
    return x, y, z
