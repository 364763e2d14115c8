"""Anatomical rules that find wrong labels: mirrored, cut short, leaked, in pieces.

The rules are those that found label noise in AbdomenAtlas 1.0 and its sources (Touchstone,
appendix E). They warn; a rare patient breaks one rightly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.components import label_components
from atlas8k.grid import Grid
from atlas8k.organs import ORGAN_IDS, ORGANS

Box = tuple[slice, slice, slice]

TOUCHING: tuple[tuple[str, str, int], ...] = (
    ("kidney_left", "kidney_right", 0),
    ("liver", "kidney_left", 10),
    ("liver", "aorta", 10),
    ("spleen", "kidney_right", 0),
    ("spleen", "gall_bladder", 0),
    ("stomach", "kidney_left", 0),
    ("stomach", "aorta", 0),
    ("stomach", "postcava", 0),
)
"""Organs that do not meet, and the voxels from which on they are said to."""

AORTA_SLICES = 0.03
BIFURCATION_MM = 50.0
"""The postcava begins that much lower at most than the aorta ends, about two vertebrae."""

SMALL_PIECE = 0.10
BORDER_VOXELS = 3


@dataclass(frozen=True)
class Finding:
    """One rule that one label breaks.

    Attributes
    ----------
    organ, other
        The organ to look at first, and the second one of rules about two.
    rule
        ``mirrored``, ``laterality``, ``touching``, ``gap`` or ``pieces``.
    number
        What was measured, in the unit `text` says.
    box
        Where, slices of the array's own axes.
    text
        One sentence for people.
    """

    organ: str
    other: str | None
    rule: str
    number: float
    box: Box
    text: str


def check_label(array: npt.NDArray[np.uint8], grid: Grid) -> list[Finding]:
    """Every rule that a label map breaks, in the order of the rules.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids; other values are not looked at.
    grid
        Its grid; sides and slices are the patient's, whatever the axes.
    """
    label = _Label.of(array, grid)
    return [
        *_mirrored(label),
        *_laterality(label),
        *_touching(label),
        *_gap(label),
        *_pieces(label),
    ]


def cut_by_border(array: npt.NDArray[np.uint8], organ: str) -> bool:
    """Whether an organ comes within 3 voxels of the image's edge: it may go on outside."""
    found = ndimage.find_objects((array == ORGAN_IDS[organ]).view(np.uint8))
    return bool(found) and _at_border(found[0], array)


@dataclass(frozen=True, eq=False)
class _Label:
    array: npt.NDArray[np.uint8]
    grid: Grid
    boxes: dict[str, Box]
    """Of the organs that are there."""

    @classmethod
    def of(cls, array: npt.NDArray[np.uint8], grid: Grid) -> _Label:
        found = ndimage.find_objects(array, max_label=len(ORGANS))
        boxes = {o.name: box for o, box in zip(ORGANS, found, strict=True) if box is not None}
        return cls(array, grid, boxes)

    def mask(self, organ: str, box: Box | None = None) -> npt.NDArray[np.bool_]:
        return np.asarray(self.array[box or self.boxes[organ]] == ORGAN_IDS[organ])

    def centre(self, organ: str) -> npt.NDArray[np.float64]:
        """Centre of mass, mm."""
        box = self.boxes[organ]
        index = ndimage.center_of_mass(self.mask(organ))
        start = [s.start for s in box]
        return np.asarray(
            self.grid.affine[:3, :3] @ (np.array(index) + start) + self.grid.affine[:3, 3]
        )

    def around(self, *organs: str) -> Box:
        """The box that holds all these organs."""
        boxes = [self.boxes[organ] for organ in organs]
        spans = [slice(min(s.start for s in axis), max(s.stop for s in axis))
                 for axis in zip(*boxes, strict=True)]  # fmt: skip
        return spans[0], spans[1], spans[2]

    def common(self, one: str, two: str) -> Box | None:
        """Where the boxes of two organs meet, one voxel more on every side."""
        spans = []
        pairs = zip(self.boxes[one], self.boxes[two], self.array.shape, strict=True)
        for a, b, size in pairs:
            start, stop = max(a.start, b.start) - 1, min(a.stop, b.stop) + 1
            if start >= stop:
                return None
            spans.append(slice(max(0, start), min(size, stop)))
        return spans[0], spans[1], spans[2]


def _mirrored(label: _Label) -> Iterator[Finding]:
    """Left of a pair on the right of it: the file's left and right are swapped."""
    for left, right in (("kidney_left", "kidney_right"), ("spleen", "liver")):
        if left in label.boxes and right in label.boxes:
            gap = float(label.centre(left)[0] - label.centre(right)[0])
            if gap > 0:
                yield Finding(
                    left,
                    right,
                    "mirrored",
                    gap,
                    label.around(left, right),
                    f"{left} lies {gap:.0f} mm to the right of {right}: "
                    "left and right are swapped in the label or in the CT",
                )


def _laterality(label: _Label) -> Iterator[Finding]:
    if {"kidney_left", "kidney_right", "liver"} <= label.boxes.keys():
        liver = label.centre("liver")
        left, right = (
            float(np.linalg.norm(label.centre(organ) - liver))
            for organ in ("kidney_left", "kidney_right")
        )
        if left < right:
            yield Finding(
                "kidney_left",
                "liver",
                "laterality",
                right - left,
                label.around("kidney_left", "kidney_right"),
                f"kidney_left is {right - left:.0f} mm nearer the liver than kidney_right: "
                "the kidneys may be swapped",
            )


def _touching(label: _Label) -> Iterator[Finding]:
    for one, two, allowed in TOUCHING:
        if one not in label.boxes or two not in label.boxes:
            continue
        box = label.common(one, two)
        if box is None:
            continue
        first, second = label.mask(one, box), label.mask(two, box)
        meet = second & ndimage.binary_dilation(first)
        voxels = int(np.count_nonzero(meet))
        if voxels > allowed:
            inner = ndimage.find_objects(meet.view(np.uint8))[0]
            yield Finding(
                one,
                two,
                "touching",
                voxels,
                _shifted(inner, box),
                f"{one} and {two} meet in {voxels} voxels",
            )


def _gap(label: _Label) -> Iterator[Finding]:
    """Slices, across the patient's long axis, with postcava but no aorta.

    Those between the postcava's origin and the aorta's bifurcation are as they should be.
    """
    if not {"aorta", "postcava"} <= label.boxes.keys():
        return
    orientation = nib.orientations.io_orientation(label.grid.affine)
    axis = int(np.argmax(orientation[:, 0] == 2))
    across = tuple(a for a in range(3) if a != axis)
    aorta, postcava = (
        (label.array == ORGAN_IDS[organ]).any(axis=across) for organ in ("aorta", "postcava")
    )
    either, missing = np.flatnonzero(aorta | postcava), postcava & ~aorta
    ends = np.flatnonzero(aorta)
    upwards = orientation[axis, 1] > 0
    below = np.zeros_like(missing)
    below[slice(None, ends[0]) if upwards else slice(ends[-1] + 1, None)] = True
    if np.count_nonzero(missing & below) * label.grid.spacing[axis] <= BIFURCATION_MM:
        missing &= ~below
    share = np.count_nonzero(missing) / (either[-1] - either[0] + 1)
    if share > AORTA_SLICES:
        slices = np.flatnonzero(missing)
        spans = [*label.boxes["postcava"]]
        spans[axis] = slice(int(slices[0]), int(slices[-1]) + 1)
        yield Finding(
            "aorta",
            "postcava",
            "gap",
            share,
            (spans[0], spans[1], spans[2]),
            f"{len(slices)} slices ({share:.0%}) show postcava but no aorta",
        )


def _pieces(label: _Label) -> Iterator[Finding]:
    """Pieces smaller than 10 % of their organ, unless they may be larger outside the image."""
    for organ, box in label.boxes.items():
        parts = label_components(np.asfortranarray(label.mask(organ)))
        sizes = np.bincount(parts.ravel())[1:]
        least = SMALL_PIECE * sizes.sum()
        small = {
            piece: _shifted(where, box)
            for piece, where in enumerate(ndimage.find_objects(parts), start=1)
            if sizes[piece - 1] < least
        }
        small = {p: where for p, where in small.items() if not _at_border(where, label.array)}
        if small:
            voxels = {piece: int(sizes[piece - 1]) for piece in small}
            ml = sum(voxels.values()) * label.grid.voxel_ml
            yield Finding(
                organ,
                None,
                "pieces",
                len(small),
                small[max(voxels, key=lambda piece: voxels[piece])],
                f"{organ} has {len(small)} small pieces of {ml:.1f} ml in all",
            )


def _at_border(box: Box, array: npt.NDArray[np.uint8]) -> bool:
    n = BORDER_VOXELS
    return any(s.start < n or s.stop > size - n for s, size in zip(box, array.shape, strict=True))


def _shifted(inner: Box, outer: Box) -> Box:
    spans = [slice(i.start + o.start, i.stop + o.start) for i, o in zip(inner, outer, strict=True)]
    return spans[0], spans[1], spans[2]
