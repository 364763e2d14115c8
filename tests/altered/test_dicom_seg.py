from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage
from tests.altered.kit import OTHER, REFUSED, SAME, Kind, Read, Rng, patient, run
from tests.altered.nifti import cut
from tests.altered.test_label_nifti import judged
from tests.formats.seg_kit import save_seg

from atlas8k.core.grid import Grid, Volume
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.labels.ingest import ingest

SEG = Kind("label, DICOM SEG")
Frame = tuple[int, int, np.ndarray]


@dataclass
class Draft:
    """A DICOM SEG about to be written, and changes of its dataset and of its bytes."""

    grid: Grid
    frames: list[Frame]
    segments: dict[int, str]
    kind: str = "BINARY"
    full: int = 255
    dtype: type = np.uint8
    data: list[Callable[[FileDataset], object]] = field(default_factory=list)
    after: list[Callable[[bytes], bytes]] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        def change(data: FileDataset) -> None:
            for one in self.data:
                one(data)

        path = save_seg(
            folder / "seg.dcm",
            self.grid,
            self.frames,
            self.segments,
            kind=self.kind,
            full=self.full,
            dtype=self.dtype,
            change=change,
        )
        for one in self.after:
            path.write_bytes(one(path.read_bytes()))
        return path

    def some(self, rng: Rng) -> int:
        """Number of a frame."""
        return int(rng.integers(len(self.frames)))


def make(rng: Rng) -> Draft:
    """A frame for each slice of an organ that holds it, on the CT's axes in L, P and S or I."""
    label = patient()[1]
    flip = np.diag([-1.0, -1.0, rng.choice([-1.0, 1.0]), 1.0])
    # A right-handed grid is the frames' own: columns and rows turned with the slices.
    n = np.array(label.grid.shape)
    flip[:3, 3] = np.where(np.diag(flip)[:3] < 0, n - 1, 0)
    steps = tuple(slice(None, None, int(d)) for d in np.diag(flip)[:3])
    truth = Volume(label.array[steps], Grid(label.grid.shape, label.grid.affine @ flip))
    numbers = {int(i): ORGAN_NAMES[i - 1] for i in rng.permutation(9) + 1}
    frames = [
        (number, z, (truth.array[..., z] == number).astype(np.uint8))
        for number in numbers
        for z in range(truth.grid.shape[2])
        if (truth.array[..., z] == number).any()
    ]
    return Draft(truth.grid, frames, numbers)


def read(draft: Draft, path: Path) -> Read:
    ct, label = patient()
    return judged(ingest(path, ct.grid), label.array)


def measures(data: FileDataset) -> Dataset:
    return data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def orientation(data: FileDataset) -> Dataset:
    return data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]


def position(data: FileDataset, frame: int) -> Dataset:
    return data.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]


def move(draft: Draft, by: np.ndarray, only: int | None = None) -> None:
    def change(data: FileDataset) -> None:
        for frame in range(len(draft.frames)) if only is None else [only]:
            item = position(data, frame)
            at = np.array(item.ImagePositionPatient, float) + by
            item.ImagePositionPatient = [f"{v:.8f}"[:16] for v in at]

    draft.data.append(change)


def say(draft: Draft, keyword: str, value: Any) -> None:
    draft.data.append(lambda data: setattr(data, keyword, value))


@SEG.altered(SAME)
def nothing(draft: Draft, rng: Rng) -> None:
    pass


@SEG.altered(SAME)
def fields_of_no_meaning(draft: Draft, rng: Rng) -> None:
    say(draft, "ContentLabel", "ANYTHING")
    say(draft, "SeriesDescription", "anything")
    say(draft, "Modality", "OT")


@SEG.altered(SAME)
def frames_in_any_order(draft: Draft, rng: Rng) -> None:
    draft.frames = [draft.frames[i] for i in rng.permutation(len(draft.frames))]


@SEG.altered(SAME)
def empty_frames_too(draft: Draft, rng: Rng) -> None:
    there = {(number, z) for number, z, _ in draft.frames}
    empty = np.zeros(draft.grid.shape[:2], np.uint8)
    for number in draft.segments:
        for z in range(draft.grid.shape[2]):
            if (number, z) not in there:
                draft.frames.append((number, z, empty))


@SEG.altered(SAME)
def numbers_with_gaps(draft: Draft, rng: Rng) -> None:
    new = dict(zip(draft.segments, sorted(rng.choice(np.arange(1, 60), 9, False)), strict=True))
    draft.frames = [(int(new[number]), z, plane) for number, z, plane in draft.frames]
    draft.segments = {int(new[number]): name for number, name in draft.segments.items()}


@SEG.altered(SAME)
def as_a_label_map(draft: Draft, rng: Rng) -> None:
    planes = np.zeros((draft.grid.shape[2], *draft.grid.shape[:2]), int)
    for number, z, plane in draft.frames:
        planes[z][plane > 0] = number
    draft.frames = [(0, z, plane) for z, plane in enumerate(planes)]
    draft.kind, draft.dtype = "LABELMAP", np.uint8 if rng.random() < 0.5 else np.uint16


@SEG.altered(SAME)
def as_fractions(draft: Draft, rng: Rng) -> None:
    full = int(rng.choice([100, 255]))
    draft.frames = [(n, z, np.where(p > 0, full, full // 10)) for n, z, p in draft.frames]
    draft.kind, draft.full = "FRACTIONAL", full


@SEG.altered(REFUSED, "notes")
def another_full_value_of_fractions(draft: Draft, rng: Rng) -> None:
    draft.frames = [(n, z, np.where(p > 0, 200, 60)) for n, z, p in draft.frames]
    draft.kind, draft.full = "FRACTIONAL", int(rng.choice([0, 100, 1]))


@SEG.altered(SAME, REFUSED)
def distances_of_slices(draft: Draft, rng: Rng) -> None:
    keyword = str(rng.choice(["SpacingBetweenSlices", "SliceThickness"]))
    value = rng.choice([None, 0, 3, 16])

    def change(data: FileDataset) -> None:
        if value is None:
            delattr(measures(data), keyword)
        else:
            setattr(measures(data), keyword, value)

    draft.data.append(change)


@SEG.altered(REFUSED)
def another_type_said(draft: Draft, rng: Rng) -> None:
    say(draft, "SegmentationType", str(rng.choice(["FRACTIONAL", "LABELMAP", "SURFACE", ""])))


@SEG.altered(REFUSED)
def bits(draft: Draft, rng: Rng) -> None:
    n = int(rng.choice([8, 16]))
    for keyword, value in (("BitsAllocated", n), ("BitsStored", n), ("HighBit", n - 1)):
        say(draft, keyword, value)


@SEG.altered(REFUSED)
def sizes(draft: Draft, rng: Rng) -> None:
    x, y = draft.grid.shape[:2]
    rows, columns = [(x, y), (y - 8, x), (y, x - 8), (y + 8, x)][rng.integers(4)]
    say(draft, "Rows", rows)
    say(draft, "Columns", columns)


@SEG.altered(REFUSED)
def number_of_frames(draft: Draft, rng: Rng) -> None:
    say(draft, "NumberOfFrames", len(draft.frames) + int(rng.choice([-3, -1, 1, 9])))


@SEG.altered(REFUSED)
def spacing_a_little_off(draft: Draft, rng: Rng) -> None:
    mm = [8.0, 8.0]
    mm[rng.integers(2)] *= rng.uniform(1.03, 1.08)
    draft.data.append(lambda data: setattr(measures(data), "PixelSpacing", mm))


@SEG.altered(REFUSED)
def all_moved(draft: Draft, rng: Rng) -> None:
    by = np.zeros(3)
    by[rng.integers(3)] = rng.choice([0.3, 0.6, 30]) * 8
    move(draft, by)


@SEG.altered(REFUSED)
def a_frame_moved(draft: Draft, rng: Rng) -> None:
    by = np.zeros(3)
    by[rng.integers(3)] = rng.choice([0.3, 0.5, -0.4]) * 8
    move(draft, by, draft.some(rng))


@SEG.altered(REFUSED)
def a_frame_at_the_place_of_another(draft: Draft, rng: Rng) -> None:
    at = draft.some(rng)
    other = next(
        i for i, one in enumerate(draft.frames) if i != at and one[0] == draft.frames[at][0]
    )

    def change(data: FileDataset) -> None:
        position(data, at).ImagePositionPatient = position(data, other).ImagePositionPatient

    draft.data.append(change)


@SEG.altered(REFUSED)
def orientation_of_all(draft: Draft, rng: Rng) -> None:
    """Rows or columns the other way, so that it reaches out of the CT."""
    signs = [[-1] * 3 + [1] * 3, [1] * 3 + [-1] * 3, [-1] * 6][rng.integers(3)]

    def change(data: FileDataset) -> None:
        axes = np.array(orientation(data).ImageOrientationPatient, float) * signs
        orientation(data).ImageOrientationPatient = list(axes)

    draft.data.append(change)


@SEG.altered(REFUSED)
def no_geometry(draft: Draft, rng: Rng) -> None:
    at, which = draft.some(rng), int(rng.integers(3))

    def change(data: FileDataset) -> None:
        if which == 0:
            del data.PerFrameFunctionalGroupsSequence[at].PlanePositionSequence
        else:
            names = ["PlaneOrientationSequence", "PixelMeasuresSequence"]
            delattr(data.SharedFunctionalGroupsSequence[0], names[which - 1])

    draft.data.append(change)


@SEG.altered(REFUSED)
def a_frame_of_no_segment(draft: Draft, rng: Rng) -> None:
    at, value = draft.some(rng), [None, 77][rng.integers(2)]

    def change(data: FileDataset) -> None:
        group = data.PerFrameFunctionalGroupsSequence[at]
        if value is None:
            del group.SegmentIdentificationSequence
        else:
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = value

    draft.data.append(change)


@SEG.altered(REFUSED)
def a_segment_lost(draft: Draft, rng: Rng) -> None:
    del draft.segments[int(rng.integers(1, 10))]


@SEG.altered(REFUSED)
def a_number_twice(draft: Draft, rng: Rng) -> None:
    at = int(rng.integers(1, 9))
    draft.data.append(
        lambda data: setattr(
            data.SegmentSequence[at], "SegmentNumber", data.SegmentSequence[0].SegmentNumber
        )
    )


@SEG.altered(REFUSED)
def a_name_that_may_be_two(draft: Draft, rng: Rng) -> None:
    draft.segments[3] = str(rng.choice(["kidney", "Segment_3", "", "Tissue"]))


@SEG.altered(REFUSED)
def an_organ_named_twice(draft: Draft, rng: Rng) -> None:
    a, b = rng.choice(np.arange(1, 10), 2, replace=False)
    draft.segments[int(a)] = draft.segments[int(b)]


@SEG.altered(REFUSED)
def pixels_cut_off(draft: Draft, rng: Rng) -> None:
    share = rng.uniform(0.01, 0.9)
    draft.data.append(
        lambda data: setattr(
            data, "PixelData", data.PixelData[: int(share * len(data.PixelData)) // 2 * 2]
        )
    )


@SEG.altered(REFUSED)
def cut_off(draft: Draft, rng: Rng) -> None:
    draft.after.append(cut(rng))


@SEG.altered(REFUSED)
def more_pixels_than_said(draft: Draft, rng: Rng) -> None:
    draft.data.append(lambda data: setattr(data, "PixelData", bytes(400) + data.PixelData))


@SEG.altered(REFUSED)
def another_object(draft: Draft, rng: Rng) -> None:
    say(draft, "SOPClassUID", CTImageStorage)


# --- consistent files of another meaning -------------------------------------------------------


@SEG.altered(OTHER)
def two_names_exchanged(draft: Draft, rng: Rng) -> None:
    a, b = (int(i) for i in rng.choice(np.arange(1, 10), 2, replace=False))
    draft.segments[a], draft.segments[b] = draft.segments[b], draft.segments[a]


@SEG.altered(OTHER)
def left_and_right_exchanged(draft: Draft, rng: Rng) -> None:
    draft.segments[3], draft.segments[4] = draft.segments[4], draft.segments[3]


@SEG.altered(OTHER)
def all_names_exchanged(draft: Draft, rng: Rng) -> None:
    draft.segments = dict(zip(draft.segments, rng.permutation(ORGAN_NAMES).tolist(), strict=True))


@SEG.altered(OTHER)
def planes_turned(draft: Draft, rng: Rng) -> None:
    axis = int(rng.integers(2))
    draft.frames = [(n, z, np.flip(p, axis)) for n, z, p in draft.frames]


@SEG.altered(OTHER)
def frames_in_reversed_order(draft: Draft, rng: Rng) -> None:
    last = draft.grid.shape[2] - 1
    draft.frames = [(n, last - z, p) for n, z, p in draft.frames]


@SEG.altered(OTHER)
def frames_lost(draft: Draft, rng: Rng) -> None:
    for _ in range(int(rng.integers(3, 30))):
        del draft.frames[draft.some(rng)]


def test_each_is_read_as_meant_or_refused_or_marked(tmp_path: Path) -> None:
    run(SEG, make, read, tmp_path)
