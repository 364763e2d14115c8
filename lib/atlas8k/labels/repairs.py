"""Propose repairs of a label map by anatomical rules; nothing is changed until one is accepted.

Every rule is of a kind that anatomical post-processing uses (ShapeKit; Touchstone's appendix E
names the faults). A rare patient is right where a rule is not, so that each proposal says what
it would do and where it comes from, and somebody accepts it or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.components import label_components
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, ORGANS, parts_of
from atlas8k.core.voxels import organ_mask
from atlas8k.labels.checks import SMALL_PIECE
from atlas8k.labels.plausibility import Body, at_border, organ_boxes

Labels = npt.NDArray[np.uint8]

ENCLOSED = 0.95
"""Share of a piece's neighbours that are one other organ, from which it lies inside of that."""
LONGEST_GAP_MM = 50.0
"""Of an aorta that is drawn above and below; more is not guessed."""


@dataclass(frozen=True, eq=False)
class Repair:
    """One proposal.

    Attributes
    ----------
    organ
        Whose voxels change.
    rule
        ``islands``, ``inside``, ``swapped`` or ``gap``.
    text
        What it would do, one sentence.
    at
        Indices of the voxels, one array an axis.
    values
        Organ id that each of them gets, 0 for none.
    ml
        Volume that changes.
    """

    organ: str
    rule: str
    text: str
    at: tuple[npt.NDArray[Any], ...]
    values: Labels
    ml: float

    def as_dict(self) -> dict[str, Any]:
        """Return what people are told, JSON-ready."""
        return {
            "organ": self.organ,
            "rule": self.rule,
            "text": self.text,
            "ml": round(self.ml, 3),
        }


def propose(array: Labels, grid: Grid) -> list[Repair]:
    """Return the repairs that rules propose, in an order that is the same every time.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids; it is not changed.
    grid
        Its grid, any axes.
    """
    return [*_swapped(array, grid), *_pieces(array, grid), *_gaps(array, grid)]


def repaired(array: Labels, repairs: Iterable[Repair]) -> Labels:
    """Return a copy with these repairs; where two change a voxel, the first one counts."""
    out = array.copy(order="K")
    for repair in repairs:
        free = out[repair.at] == array[repair.at]
        out[tuple(axis[free] for axis in repair.at)] = repair.values[free]
    return out


def _swapped(array: Labels, grid: Grid) -> Iterator[Repair]:
    """Exchange organs of a pair where they alone are on each other's side.

    Where liver and spleen are too, the whole label or CT is mirrored, or the patient is (situs
    inversus): exchanging two organs repairs neither.
    """
    organs = Body.of(array, grid).organs

    def mirrored(left: str, right: str) -> bool:
        pair = [organs[name].centre[0] for name in (left, right) if name in organs]
        return len(pair) == 2 and bool(pair[0] > pair[1])

    if mirrored("spleen", "liver"):
        return
    pairs = [(one.name, one.pair) for one in ORGANS if one.side == "left" and one.pair]
    for left, right in pairs:
        if not mirrored(left, right):
            continue
        at = np.nonzero((array == ORGAN_IDS[left]) | (array == ORGAN_IDS[right]))
        exchanged = np.where(array[at] == ORGAN_IDS[left], ORGAN_IDS[right], ORGAN_IDS[left])
        text = f"exchange {left} and {right}, each of which lies on the other's side"
        ml = len(at[0]) * grid.voxel_ml
        yield Repair(left, "swapped", text, at, exchanged.astype(np.uint8), ml)


def _pieces(array: Labels, grid: Grid) -> Iterator[Repair]:
    """Take small pieces off, or give those that lie inside another organ to that one."""
    for number, box in organ_boxes(array).items():
        if not ORGANS[number - 1].one_piece:
            continue
        organ = ORGANS[number - 1].name
        parts = label_components(organ_mask(array[box], number))
        sizes = np.bincount(parts.ravel())[1:]
        found: dict[int, list[npt.NDArray[np.int64]]] = {}
        for piece, (size, where) in enumerate(
            zip(sizes, ndimage.find_objects(parts), strict=True), start=1
        ):
            outer = tuple(
                slice(i.start + o.start, i.stop + o.start) for i, o in zip(where, box, strict=True)
            )
            if not (array[outer][parts[where] == piece] == number).any():
                continue  # of what lies within the organ alone: of another structure
            around = _around(array, outer, number)
            if size >= SMALL_PIECE * sizes.sum():
                continue
            if around == 0 and at_border(outer, array.shape):  # type: ignore[arg-type]
                continue  # it may go on outside the image
            index = np.argwhere(parts[where] == piece) + [span.start for span in outer]
            found.setdefault(around, []).append(index)
        for around, pieces in sorted(found.items()):
            at = tuple(np.concatenate(pieces).T)
            ml = len(at[0]) * grid.voxel_ml
            values = np.full(len(at[0]), around, np.uint8)
            small = f"{len(pieces)} small piece{'s' * (len(pieces) > 1)} of {organ} ({ml:.1f} ml)"
            if around:
                other = ORGAN_NAMES[around - 1]
                text = f"give {small} that lie inside {other} to {other}"
                yield Repair(organ, "inside", text, at, values, ml)
            else:
                yield Repair(organ, "islands", f"take off {small}", at, values, ml)


def _around(array: Labels, outer: tuple[slice, ...], number: int) -> int:
    """Return the id of the one organ that a piece lies inside of, 0 for none."""
    wider = tuple(
        slice(max(0, span.start - 1), min(n, span.stop + 1))
        for span, n in zip(outer, array.shape, strict=True)
    )
    part = array[wider]
    piece = organ_mask(part, number)
    shell = ndimage.binary_dilation(piece, np.ones((3, 3, 3))) & ~piece
    counts = np.bincount(part[shell], minlength=2)
    most = int(counts.argmax())
    enclosed = counts[most] >= ENCLOSED * max(1, counts.sum())
    known = most in ORGAN_IDS.values() and most not in parts_of(number)
    return most if most and enclosed and known else 0


def _gaps(array: Labels, grid: Grid) -> Iterator[Repair]:
    """Draw the aorta through slices that lack it, between slices that have it.

    Its outline is that of the slices above and below, by their distance: the mean of their
    signed distance maps. Only voxels without a label are taken.
    """
    number = ORGAN_IDS.get("aorta", 0)
    if not number:
        return
    axis = int(np.abs(grid.affine[2, :3]).argmax())
    along = np.moveaxis(array, axis, 0)
    there = np.flatnonzero((along == number).any(axis=(1, 2)))
    thick = grid.spacing[axis]
    found = []
    for below, above in pairwise(there):
        missing = int(above - below) - 1
        if not missing or missing * thick > LONGEST_GAP_MM:
            continue
        ends = [_signed(along[end] == number) for end in (below, above)]
        for step in range(1, missing + 1):
            share = step / (missing + 1)
            inside = (1 - share) * ends[0] + share * ends[1] > 0
            place = np.argwhere(inside & (along[below + step] == 0))
            slices = np.full((len(place), 1), below + step)
            found.append(np.hstack([slices, place]))
    voxels = np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int64)
    if len(voxels):
        order = [axis, *(other for other in range(3) if other != axis)]
        at = tuple(voxels.T[order.index(each)] for each in range(3))
        ml = len(voxels) * grid.voxel_ml
        text = f"draw the aorta through {len(found)} slices that lack it ({ml:.1f} ml)"
        yield Repair("aorta", "gap", text, at, np.full(len(voxels), number, np.uint8), ml)


def _signed(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the distance to the outline, voxels, above 0 inside."""
    inside: npt.NDArray[np.float64] = ndimage.distance_transform_edt(mask)
    outside: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~mask)
    return inside - outside
