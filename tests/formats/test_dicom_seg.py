"""DICOM SEG as many writers write it, in every kind, read onto the CT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.uid import RLELossless
from tests.formats.seg_kit import Change, measures, moved, save_seg
from tests.labels.kit import GRID, oblique

from atlas8k.core.errors import (
    GridMismatchError,
    LabelValueError,
    UnreadableVolumeError,
    VolumeError,
)
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.formats.dicom import read_volume
from atlas8k.labels.ingest import (
    ingest,
    read_segmentation,
)

CASES = Path(__file__).parents[3] / "shared" / "cases" / "dicom-seg"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no DICOM SEG objects")
NINE_BOXES = dict(zip(ORGAN_NAMES, (270, 315, 360, 324, 378, 432, 378, 441, 504), strict=True))
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]
SHAPE = (7, 6, 12)
THIN = Grid(SHAPE, GRID.affine)
ONE = np.ones(SHAPE[:2], np.uint8)


def right_handed(grid: Grid) -> Grid:
    """The same place; DICOM stacks along the normal of rows and columns."""
    affine = grid.affine.copy()
    if np.linalg.det(np.diag([-1.0, -1, 1]) @ affine[:3, :3]) < 0:
        affine[:3, 3] += affine[:3, 1] * (grid.shape[1] - 1)
        affine[:3, 1] *= -1
    return Grid(grid.shape, affine)


@needs_cases
@pytest.mark.parametrize(
    ("name", "voxels"),
    [
        ("binary", NINE_BOXES),
        ("labelmap", NINE_BOXES),
        ("number_gap", NINE_BOXES),
        ("fractional", {"liver": 378}),
        ("every_other_no_spacing", {"liver": 500}),
    ],
)
def test_objects_as_writers_write_them(name: str, voxels: dict[str, int]) -> None:
    grid = read_volume(CASES / "series").grid
    kept = ingest(CASES / f"{name}.dcm", grid)
    assert kept.voxels == voxels
    if name == "fractional":
        assert ["half of MaximumFractionalValue" in note for note in kept.notes] == [True]
    else:
        assert kept.notes == ()
    if name == "every_other_no_spacing":
        assert np.unique(np.nonzero(kept.array)[2]).tolist() == [5, 7, 9, 11, 13]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_every_voxel_lies_where_it_was_drawn(
    tmp_path: Path, kind: str, tilted: bool, said: bool
) -> None:
    """Frames in any order, empty ones left out, numbers with gaps."""
    grid = right_handed(Grid(SHAPE, oblique().affine) if tilted else THIN)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        drawn = rng.choice([0, 0, LIVER, SPLEEN], SHAPE).astype(np.uint8)
        drawn[:, :, rng.integers(0, SHAPE[2], 5)] = 0
        numbers = {3: "liver", 200: "spleen", 7: "aorta"}
        due = {3: LIVER, 200: SPLEEN}
        frames = []
        for z in range(SHAPE[2]):
            plane = drawn[:, :, z]
            if kind == "LABELMAP":
                values = np.zeros(plane.shape, np.uint8)
                for number, organ in due.items():
                    values[plane == organ] = number
                frames += [(0, z, values)] if values.any() else []
                continue
            frames += [(n, z, (plane == o) * 255) for n, o in due.items() if (plane == o).any()]
        rng.shuffle(frames)
        change = None if said else measures(SpacingBetweenSlices=None, SliceThickness=None)
        path = save_seg(tmp_path / "a.dcm", grid, frames, numbers, kind=kind, change=change)
        kept = ingest(path, grid)
        assert np.array_equal(kept.array, drawn)
        assert kept.named == {"liver", "spleen", "aorta"}


def test_segments_that_overlap_keep_all_their_voxels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = {n: rng.integers(0, 2, SHAPE, dtype=np.uint8) for n in (1, 4, 9)}
    grid = right_handed(THIN)
    frames = [(n, z, mask[:, :, z]) for n, mask in masks.items() for z in range(SHAPE[2])]
    found = read_segmentation(
        save_seg(tmp_path / "a.dcm", grid, frames, {1: "liver", 4: "spleen", 9: "aorta"})
    )
    assert found.grid.same_as(grid)
    assert found.segments is not None
    for segment, mask in zip(found.segments, masks.values(), strict=True):
        assert np.array_equal(found.layers[segment.layer] == segment.value, mask > 0)


@pytest.mark.parametrize(("full", "least"), [(255, 128), (100, 50), (2, 1), (1, 1), (7, 4)])
def test_fractions_are_cut_at_half(tmp_path: Path, full: int, least: int) -> None:
    values = np.zeros(SHAPE[:2], np.uint8)
    values.ravel()[:3] = (least - 1, least, full)
    grid = right_handed(THIN)
    path = save_seg(
        tmp_path / "a.dcm",
        grid,
        [(1, 0, values), (1, 1, values)],
        {1: "liver"},
        kind="FRACTIONAL",
        full=full,
    )
    kept = ingest(path, grid)
    assert kept.voxels == {"liver": 4}
    assert f"cut at {full / 2:g}" in kept.notes[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("packed", [False, True])
def test_label_maps_of_8_and_16_bits(tmp_path: Path, dtype: type, packed: bool) -> None:
    """A background that has a value and a description, values far apart, RLE."""
    high = np.iinfo(dtype).max

    def change(data: Dataset) -> None:
        data.PixelPaddingValue = 9
        if packed:
            data.compress(RLELossless)

    values = np.full(SHAPE[:2], 9)
    values[0], values[1] = high, 2
    grid = right_handed(THIN)
    frames = [(0, z, values) for z in (4, 5, 6)]
    names = {9: "Background", 2: "spleen", int(high): "liver"}
    path = save_seg(
        tmp_path / "a.dcm", grid, frames, names, kind="LABELMAP", dtype=dtype, change=change
    )
    kept = ingest(path, grid)
    assert kept.voxels == {"liver": 18, "spleen": 18}
    assert (kept.array[0, :, 4:7] == LIVER).all()


def test_a_value_without_a_segment_is_refused(tmp_path: Path) -> None:
    grid = right_handed(THIN)
    path = save_seg(tmp_path / "a.dcm", grid, [(0, 0, ONE * 3)], {1: "liver"}, kind="LABELMAP")
    with pytest.raises(LabelValueError, match="values 3: no segment"):
        ingest(path, grid)


def _every(nth: int) -> list[tuple[int, int, np.ndarray]]:
    return [(1, z, ONE) for z in range(0, SHAPE[2], nth)]


@pytest.mark.parametrize(
    ("frames", "change", "slices"),
    [
        # 3 mm slices. Next to each other: whatever is said of distance and thickness.
        (_every(1), measures(SpacingBetweenSlices=None), 12),
        (_every(1), measures(SpacingBetweenSlices=None, SliceThickness=None), 12),
        (_every(1), measures(SpacingBetweenSlices="7", SliceThickness=None), 12),
        (_every(1), measures(SpacingBetweenSlices=None, SliceThickness="5"), 12),
        # Apart: not thicker than slices that overlap, and thinner than they are apart.
        (_every(2), measures(SpacingBetweenSlices=None), 6),
        (_every(3), measures(SpacingBetweenSlices=None, SliceThickness="5"), 4),
        (_every(2), None, 6),
        ([(1, 5, ONE)], None, 1),
        ([(1, 5, ONE)], measures(SpacingBetweenSlices=None), 1),
    ],
)
def test_frames_next_to_each_other_and_apart(
    tmp_path: Path, frames: list, change: Change | None, slices: int
) -> None:
    grid = right_handed(THIN)
    path = save_seg(tmp_path / "a.dcm", grid, frames, {1: "liver"}, change=change)
    kept = ingest(path, grid)
    places = [z for _, z, _ in frames]
    assert kept.voxels == {"liver": slices * ONE.size}
    assert np.unique(np.nonzero(kept.array)[2]).tolist() == places


@pytest.mark.parametrize(
    ("frames", "change"),
    [
        (_every(2), measures(SpacingBetweenSlices="6")),
        (_every(2), measures(SpacingBetweenSlices=None, SliceThickness="6")),
        (_every(2), measures(SpacingBetweenSlices=None, SliceThickness=None)),
        (_every(4), measures(SpacingBetweenSlices=None, SliceThickness="8")),
        ([(1, 5, ONE)], measures(SpacingBetweenSlices=None, SliceThickness="12")),
        ([(1, 5, ONE)], measures(SpacingBetweenSlices="12", SliceThickness=None)),
    ],
)
def test_a_thicker_reconstruction_is_not_put_on_every_nth_slice(
    tmp_path: Path, frames: list, change: Change
) -> None:
    grid = right_handed(THIN)
    path = save_seg(tmp_path / "a.dcm", grid, frames, {1: "liver"}, change=change)
    with pytest.raises(GridMismatchError):
        ingest(path, grid)


def test_without_a_ct_distances_are_those_of_the_object(tmp_path: Path) -> None:
    grid = right_handed(THIN)
    for frames, change, step, count in (
        (_every(2), None, 3, 11),
        (_every(2), measures(SpacingBetweenSlices=None), 6, 6),
        ([(1, 0, ONE), (1, 2, ONE), (1, 3, ONE)], measures(SpacingBetweenSlices=None), 3, 4),
        ([(1, 0, ONE)], measures(SpacingBetweenSlices=None), 3, 1),
    ):
        path = save_seg(tmp_path / "a.dcm", grid, frames, {1: "liver"}, change=change)
        found = read_segmentation(path)
        assert found.grid.spacing[2] == pytest.approx(step)
        assert found.grid.shape == (*SHAPE[:2], count)


def _without(keyword: str) -> Change:
    def change(data: Dataset) -> None:
        delattr(data, keyword)

    return change


def _turned(data: Dataset) -> None:
    item = Dataset()
    item.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    data.PerFrameFunctionalGroupsSequence[0].PlaneOrientationSequence = [item]


def _fewer(data: Dataset) -> None:
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:-1]


def _nowhere(data: Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence


def _nobodys(data: Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[3].SegmentIdentificationSequence


def _unknown(data: Dataset) -> None:
    data.PerFrameFunctionalGroupsSequence[3].SegmentIdentificationSequence[
        0
    ].ReferencedSegmentNumber = 5


def _twice(data: Dataset) -> None:
    data.SegmentSequence = [data.SegmentSequence[0]] * 2


def _many(data: Dataset) -> None:
    data.SegmentSequence = [data.SegmentSequence[0]] * 300


def _short(data: Dataset) -> None:
    data.PixelData = data.PixelData[:-20]


def _type(data: Dataset) -> None:
    data.SegmentationType = "SOFT"


def _no_number(data: Dataset) -> None:
    del data.SegmentSequence[0].SegmentNumber


SPOILT: dict[str, tuple[Change, str]] = {
    "no position": (_nowhere, "1 of its frames have no usable position"),
    "no orientation": (
        lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PlaneOrientationSequence"),
        "orientation",
    ),
    "no measures": (
        lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"),
        "pixel distances",
    ),
    "no frames": (_without("PerFrameFunctionalGroupsSequence"), "12 frames and says where 0"),
    "fewer frames": (_fewer, "12 frames and says where 11"),
    "turned": (_turned, "orientations"),
    "sideways": (moved(2, (3.0, 0, 0)), "not stacked"),
    "uneven": (moved(2, (0, 0, 1.0)), "unevenly|not stacked"),
    "far away": (moved(2, (0, 0, 1e5)), "apart"),
    "not finite": (moved(2, (0, 0, np.nan)), "position"),
    "two at a place": (moved(2, (0, 0, 3.0)), r"two frames of segment 1 .*slice 4 of 12"),
    "no segments": (_without("SegmentSequence"), "no segment"),
    "nobody's": (_nobodys, "frame 4 of 12 does not say"),
    "unknown segment": (_unknown, "segment 5, which the object does not describe"),
    "described twice": (_twice, "segment 1 twice"),
    "many": (_many, "segment 1 twice"),
    "no number": (_no_number, "damaged"),
    "type": (_type, "SOFT"),
    "no type": (_without("SegmentationType"), "not given"),
    "short": (_short, "cannot be decoded"),
    "no pixels": (_without("PixelData"), "cannot be decoded"),
    "no rows": (_without("Rows"), "size"),
    "flat": (measures(PixelSpacing=["0.001", "0.001"]), "wide"),
}


@pytest.mark.parametrize(("change", "word"), SPOILT.values(), ids=SPOILT)
def test_objects_that_are_refused_by_name(tmp_path: Path, change: Change, word: str) -> None:
    grid = right_handed(THIN)
    path = save_seg(tmp_path / "a.dcm", grid, _every(1), {1: "liver"}, change=change)
    with pytest.raises(UnreadableVolumeError, match=rf"a\.dcm: .*({word})"):
        ingest(path, grid)


def test_fractions_of_nothing_are_refused(tmp_path: Path) -> None:
    grid = right_handed(THIN)
    path = save_seg(
        tmp_path / "a.dcm", grid, _every(1), {1: "liver"}, kind="FRACTIONAL",
        change=_without("MaximumFractionalValue"),
    )  # fmt: skip
    with pytest.raises(UnreadableVolumeError, match="MaximumFractionalValue"):
        ingest(path, grid)


def test_one_slice_that_says_nothing_of_its_thickness_is_refused(tmp_path: Path) -> None:
    grid = right_handed(THIN)
    path = save_seg(
        tmp_path / "a.dcm", grid, [(1, 5, ONE)], {1: "liver"},
        change=measures(SpacingBetweenSlices=None, SliceThickness=None),
    )  # fmt: skip
    with pytest.raises(VolumeError, match="how thick"):
        ingest(path, grid)


def test_more_overlapping_segments_than_anybody_draws(tmp_path: Path) -> None:
    grid = right_handed(THIN)
    names = {n: f"s{n}" for n in range(1, 70)}
    path = save_seg(tmp_path / "a.dcm", grid, [(n, 0, ONE) for n in names], names)
    with pytest.raises(UnreadableVolumeError, match="64 segments overlap"):
        ingest(path, grid)


@pytest.mark.parametrize("change", [{"Rows": SHAPE[1] - 2}, {"Columns": SHAPE[0] - 1}])
def test_more_pixels_than_sizes_say_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    def smaller(data: FileDataset) -> None:
        for keyword, value in change.items():
            setattr(data, keyword, value)

    plane = np.ones(SHAPE[:2], np.uint8)
    path = save_seg(
        tmp_path / "a.dcm", THIN, [(1, z, plane) for z in range(3)], {1: "liver"}, change=smaller
    )
    with pytest.raises(UnreadableVolumeError, match="bytes of pixels where"):
        read_segmentation(path, within=THIN)
