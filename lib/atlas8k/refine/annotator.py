"""A simulated annotator: strokes along the medial line of the largest wrong piece, with jitter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.refine.features import Mask

LONGEST_MM = 40.0
JITTER_MM = 0.75

Points = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Stroke:
    """Voxels of a stroke, ``(n, 3)`` indices, and whether it says organ."""

    voxels: npt.NDArray[np.intp]
    organ: bool


def next_stroke(
    mask: Mask, truth: Mask, spacing: tuple[float, ...], rng: np.random.Generator
) -> Stroke | None:
    """Return the stroke that an annotator draws next; None where nothing is wrong.

    The largest piece (6-connected) of what is missing or too much; in it the voxel that is
    deepest; of the three planes through it the one in which most of the piece is seen; there
    the way along the medial line through that voxel, 40 mm at most, each point off by a
    normal deviate of 0.75 mm an axis.

    Parameters
    ----------
    mask, truth
        ``(X, Y, Z)`` bool, the organ as it is and as it should be.
    spacing
        mm.
    """
    wrong = mask ^ truth
    if not wrong.any():
        return None
    best, organ = 0, True
    piece = wrong
    for says in (True, False):
        part = wrong & (truth if says else ~truth)
        pieces = cc3d.connected_components(part, connectivity=6)
        sizes = np.bincount(pieces.ravel())[1:]
        if len(sizes) and sizes.max() > best:
            best, organ = int(sizes.max()), says
            piece = pieces == int(sizes.argmax()) + 1
    (box,) = ndimage.find_objects(piece.astype(np.uint8))
    depth = ndimage.distance_transform_edt(np.pad(piece[box], 1), sampling=spacing)[
        1:-1, 1:-1, 1:-1
    ]
    found = np.unravel_index(int(depth.argmax()), depth.shape)
    deepest = [int(at) + s.start for at, s in zip(found, box, strict=True)]
    areas = [piece.take(deepest[a], axis=a).sum() / spacing[a] for a in range(3)]
    axis = int(np.argmax(areas))
    flat = piece.take(deepest[axis], axis=axis)
    place = tuple(int(v) for a, v in enumerate(deepest) if a != axis)
    line = _medial(flat, place, [mm for a, mm in enumerate(spacing) if a != axis])
    points = np.insert(line, axis, deepest[axis], axis=1)
    points = points + rng.normal(0, JITTER_MM, points.shape) / np.asarray(spacing)
    points = points.clip(0, np.array(mask.shape) - 1)  # a person draws in the image
    return Stroke(drawn(points, mask.shape), organ)


def drawn(points: Points, shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return the voxels on the way from point to point, ``(n, 3)``, each once, in the CT."""
    ways = [points[:1]]
    for a, b in pairwise(points):
        n = int(np.ceil(np.abs(b - a).max() * 2)) + 1
        ways.append(np.linspace(a, b, n))
    voxels = np.unique(np.rint(np.concatenate(ways)).astype(np.intp), axis=0)
    inside: npt.NDArray[np.intp] = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
    return inside


def _medial(flat: Mask, place: tuple[int, ...], spacing: list[float]) -> Points:
    """Return points of the medial line of a plane's piece through a place, ``(n, 2)``."""
    from skimage.graph import route_through_array  # half a second, for simulations alone
    from skimage.morphology import skeletonize

    pieces, _ = ndimage.label(flat, structure=np.ones((3, 3)))
    part = pieces == pieces[place]
    line = skeletonize(part)
    ends = np.argwhere(line)
    if len(ends) < 3:
        return np.array([place], dtype=float)
    start = ends[np.linalg.norm((ends - place) * spacing, axis=1).argmin()]
    cost = np.where(line, 1.0, 1e6)
    far = [start]
    ways: list[Points] = []
    for _ in range(2):  # to the end that is farthest, then to the one farthest from that way
        from_way = np.min([np.linalg.norm((ends - one) * spacing, axis=1) for one in far], axis=0)
        inside = np.linalg.norm((ends - start) * spacing, axis=1) <= LONGEST_MM / 2
        goal = ends[np.where(inside, from_way, -1).argmax()]
        way, paid = route_through_array(cost, start, goal)
        if paid < 1e6:
            ways.append(np.array(way, dtype=float))
            far = [np.array(one) for one in way]
    if not ways:
        return np.array([place], dtype=float)
    if len(ways) == 1:
        return ways[0]
    return np.concatenate([ways[0][::-1], ways[1][1:]])
