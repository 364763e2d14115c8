from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.labels.kit import (
    GRID,
    SHAPE,
    TURNS,
    Labels,
    blocks,
    info,
    label,
    oblique,
    save_nifti,
    save_nrrd,
    turned,
)

from atlas8k.core.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelNameError,
    LabelValueError,
    VolumeError,
)
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_grid
from atlas8k.labels.ingest import SegmentOverlap, ingest

TYPICAL = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)
CASES = Path(__file__).parents[3] / "shared" / "cases" / "seg-nrrd"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no segmentations of 3D Slicer")
NINE_BOXES = dict(zip(ORGAN_NAMES, (270, 315, 360, 324, 378, 432, 378, 441, 504), strict=True))
"""Voxels of the organs in those files."""
LIVER, SPLEEN, AORTA = ORGAN_IDS["liver"], ORGAN_IDS["spleen"], ORGAN_IDS["aorta"]


def test_without_names_values_are_organ_ids_and_that_is_recorded(tmp_path: Path) -> None:
    sent = label(1, 5, 9)
    for path in (
        save_nifti(tmp_path / "a.nii.gz", sent),
        save_nrrd(tmp_path / "a.nrrd", [sent]),
    ):
        kept = ingest(path, GRID)
        assert np.array_equal(kept.array, sent)
        assert kept.read_by == "organ ids"
        assert kept.named == {"aorta", "liver", "stomach"}
        assert kept.voxels == {"aorta": 6, "liver": 6, "stomach": 6}


def test_slicer_a_value_is_one_plus_the_position_empty_segments_included(tmp_path: Path) -> None:
    # "background" stands in the middle and counts; the empty "aorta" does; `idx` is wrong.
    names = info("spleen", "aorta", "Background", "Left Kidney", "liver_tumor", "liver")
    sent = label(1, 4, 5, 6)
    kept = ingest(save_nifti(tmp_path / "a.nii.gz", sent), GRID, names)
    assert kept.read_by == "label_info"
    assert np.array_equal(kept.array, label(SPLEEN, ORGAN_IDS["kidney_left"], LIVER, LIVER))
    assert kept.named == {"spleen", "aorta", "kidney_left", "liver"}
    assert kept.voxels == {"spleen": 6, "aorta": 0, "kidney_left": 6, "liver": 12}


def test_voxels_of_a_background_entry_are_background(tmp_path: Path) -> None:
    sent = save_nifti(tmp_path / "a.nii.gz", label(1, 2))
    kept = ingest(sent, GRID, info("background", "liver"))
    assert np.array_equal(kept.array, label(0, LIVER))


def test_the_header_of_seg_nrrd_decides_and_label_info_does_not(tmp_path: Path) -> None:
    segments = [("liver", 3, 0), ("spleen", 1, 0)]
    path = save_nrrd(tmp_path / "a.seg.nrrd", [label(3, 1)], segments)
    kept = ingest(path, GRID, info("aorta", "stomach", "pancreas"))
    assert np.array_equal(kept.array, label(LIVER, SPLEEN))
    assert (kept.read_by, kept.named) == ("segment names", {"liver", "spleen"})


def test_an_organ_and_its_own_tumour_may_overlap(tmp_path: Path) -> None:
    whole, inside = label(1, 1), np.where(label(0, 1, 0), 1, 0).astype(np.uint8)
    inside[3, 0, 0] = 1  # grows out of it
    segments = [("liver", 1, 0), ("liver_tumor", 1, 1)]
    kept = ingest(save_nrrd(tmp_path / "a.seg.nrrd", [whole, inside], segments), GRID)
    assert kept.voxels == {"liver": 13}
    assert kept.overlaps == ()


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_organs_that_overlap_the_smaller_keeps_the_voxels(
    tmp_path: Path, swapped: bool
) -> None:
    large, small = label(1, 1, 1), label(0, 0, 1, 0)
    layers, segments = [large, small], [("liver", 1, 0), ("gall_bladder", 1, 1)]
    if swapped:
        layers, segments = [small, large], [("gall_bladder", 1, 0), ("liver", 1, 1)]
    kept = ingest(save_nrrd(tmp_path / "a.seg.nrrd", layers, segments), GRID)
    assert kept.voxels == {"liver": 12, "gall_bladder": 6}
    assert kept.overlaps == (SegmentOverlap("gall_bladder", "liver", 6),)


def test_three_layers_count_each_shared_pair(tmp_path: Path) -> None:
    layers = [label(1, 1, 1), label(0, 1, 1), label(0, 0, 1)]
    segments = [("liver", 1, 0), ("spleen", 1, 1), ("aorta", 1, 2)]
    kept = ingest(save_nrrd(tmp_path / "a.seg.nrrd", layers, segments), GRID)
    assert np.array_equal(kept.array, label(LIVER, SPLEEN, AORTA))
    assert set(kept.overlaps) == {
        SegmentOverlap("spleen", "liver", 12),
        SegmentOverlap("aorta", "spleen", 6),
    }


def test_empty_segments_that_are_no_organ_are_left_out(tmp_path: Path) -> None:
    names = info("liver", "attention_liver", "Segment_1", "heart_tumor")
    kept = ingest(save_nifti(tmp_path / "a.nii.gz", label(1)), GRID, names)
    assert kept.ignored == ("attention_liver", "Segment_1", "heart_tumor")
    assert kept.named == {"liver"}


BAD_NAMES = {
    "attention": (
        info("liver", "attention_liver"),
        r"attention_liver' \(6 voxels\).*segmentation of its own",
    ),
    "unknown": (info("heart", "Segment_2"), r"'heart'.*'Segment_2'.*Rename each"),
    "no entry": (info("liver"), "value 2: no name"),
    "twice": (info("liver", "Liver"), r"'liver' \(6 voxels\), 'Liver' \(6 voxels\) mean the same"),
    "numbered": (info("liver", "liver_1"), "mean the same.*add them up"),
    "a side": (info("liver", "Left"), "'Left' may be kidney_left. Rename"),
    "no side": (info("liver", "kidney"), "'kidney' may be kidney_left or kidney_right"),
    "by alias": (info("gallbladder", "gall bladder"), "mean the same"),
    "one tumour twice": (info("liver_tumor", "Liver Tumor", "liver"), "mean the same"),
    "a tumour alone": (info("liver_tumor", "spleen"), "no segment liver"),
    "text": ("liver", "list"),
    "number": (5, "list"),
    "no names": ([{"idx": 1}], "list"),
    "null name": ([{"name": None}], "list"),
    "strings": (["liver", "spleen"], "list"),
    "empty list": ([], "values 1, 2"),
}


@pytest.mark.parametrize(("names", "word"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_that_are_refused(tmp_path: Path, names: object, word: str) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", label(1, 2))
    with pytest.raises((LabelNameError, LabelValueError), match=word):
        ingest(path, GRID, names)


@pytest.mark.parametrize("names", BAD_NAMES.values(), ids=BAD_NAMES)
def test_no_advice_costs_work(tmp_path: Path, names: tuple[object, str]) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", label(1, 2))
    with pytest.raises((LabelNameError, LabelValueError)) as caught:
        ingest(path, GRID, names[0])
    assert not re.search("delete|remove|discard", str(caught.value))


@pytest.mark.parametrize("names", [("liver", "spleen", "liver_1"), ("liver_1", "spleen", "liver")])
@pytest.mark.parametrize("by_header", [False, True])
def test_a_segment_emptied_and_drawn_again_is_the_other_one(
    tmp_path: Path, names: tuple[str, ...], by_header: bool
) -> None:
    sent = label(0, 2, 3)
    if by_header:
        segments = [(name, i, 0) for i, name in enumerate(names, start=1)]
        kept = ingest(save_nrrd(tmp_path / "a.seg.nrrd", [sent], segments), GRID)
    else:
        kept = ingest(save_nifti(tmp_path / "a.nii.gz", sent), GRID, info(*names))
    assert kept.voxels == {"liver": 6, "spleen": 6}
    assert np.array_equal(kept.array, label(0, SPLEEN, LIVER))


@needs_cases
@pytest.mark.parametrize(
    ("name", "read_by", "voxels"),
    [
        ("left_right", "codes", NINE_BOXES),
        ("only_terminology", "codes", {"liver": 378}),
        ("readded_1", "segment names", NINE_BOXES),
    ],
)
def test_segments_as_slicer_really_saves_them(
    name: str, read_by: str, voxels: dict[str, int]
) -> None:
    grid = read_grid(CASES / "ct.nii.gz")
    kept = ingest(CASES / f"{name}.seg.nrrd", grid)
    assert (kept.read_by, kept.voxels) == (read_by, voxels)


def test_codes_of_another_organ_than_the_name_are_said(tmp_path: Path) -> None:
    """The name counts; where all segments have the same codes, those are no news."""
    tag = (
        "TerminologyEntry:list~SCT^123037004^Anatomical Structure~SCT^{}^~SCT^{}^"
        "~Anatomic codes - DICOM master list~^^~^^|"
    )
    right_kidney, liver = tag.format("64033007", "24028007"), tag.format("10200004", "")
    segments = [("kidney_left", 3, 0), ("liver", 5, 0)]
    for number, (first, second) in enumerate(
        [(right_kidney, liver), (liver, liver), (right_kidney, right_kidney)]
    ):
        path = save_nrrd(
            tmp_path / f"{number}.seg.nrrd",
            [label(3, 5)],
            segments,
            Segment0_Tags=first,
            Segment1_Tags=second,
        )
        kept = ingest(path, GRID)
        assert np.array_equal(kept.array, label(3, 5))
        said = ("segment 'kidney_left' is coded as kidney_right; taken by its name as kidney_left",)
        assert kept.notes == (said if number == 0 else ())


def test_seg_nrrd_names_are_refused_alike(tmp_path: Path) -> None:
    segments = [("liver", 1, 0), ("attention_liver", 1, 1)]
    path = save_nrrd(tmp_path / "a.seg.nrrd", [label(1), label(0, 1)], segments)
    with pytest.raises(LabelNameError, match="segmentation of its own"):
        ingest(path, GRID)
    path = save_nrrd(tmp_path / "b.seg.nrrd", [label(1, 4)], segments[:1])
    with pytest.raises(LabelValueError, match="value 4"):
        ingest(path, GRID)


def test_values_that_are_no_organ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelValueError, match="values 10, 52"):
        ingest(save_nifti(tmp_path / "a.nii.gz", label(1, 10, 52)), GRID)


def test_a_list_longer_than_a_file_has_values(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", label(1))
    names = [*ORGAN_NAMES, *(f"Segment_{i}" for i in range(300))]
    assert ingest(path, GRID, info(*names)).voxels["aorta"] == 6
    assert ingest(path, GRID, info("liver", *names[9:], "spleen")).voxels["spleen"] == 0


def test_an_empty_map_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", label())
    for names in (None, info(*ORGAN_NAMES)):
        with pytest.raises(EmptyVolumeError, match="no organ"):
            ingest(path, GRID, names)
    kept = ingest(path, GRID, absent=["Gallbladder"])
    assert (kept.named, kept.voxels) == ({"gall_bladder"}, {"gall_bladder": 0})
    kept = ingest(path, GRID, info(*ORGAN_NAMES), may_be_empty=True)
    assert kept.named == set(ORGAN_NAMES)


@pytest.mark.parametrize("absent", ["liver", ["heart"], [None], 5, {"liver": 1}, [["liver"]]])
def test_absent_must_be_a_list_of_organs(tmp_path: Path, absent: object) -> None:
    with pytest.raises(LabelNameError, match="absent"):
        ingest(save_nifti(tmp_path / "a.nii.gz", label(1)), GRID, absent=absent)  # type: ignore[arg-type]


def test_what_has_voxels_is_not_absent(tmp_path: Path) -> None:
    with pytest.raises(LabelNameError, match="aorta has voxels"):
        ingest(save_nifti(tmp_path / "a.nii.gz", label(1)), GRID, absent=["aorta", "liver"])


def test_another_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GridMismatchError):
        ingest(save_nifti(tmp_path / "a.nii.gz", label(1), oblique()), GRID)


@given(
    values=st.lists(st.integers(0, 9), min_size=7, max_size=7).filter(any),
    turn=st.sampled_from(TURNS),
    box=st.sampled_from(blocks(SHAPE)),
    nifti=st.booleans(),
    data=st.integers(0, 99),
)
@TYPICAL
def test_any_orientation_and_block_lands_identically(
    tmp_path: Path,
    values: list[int],
    turn: tuple[tuple[int, ...], tuple[int, ...]],
    box: tuple[slice, slice, slice],
    nifti: bool,
    data: int,
) -> None:
    array = label(*values) * np.random.default_rng(data).integers(0, 2, SHAPE, dtype=np.uint8)
    array[2, 2, 2] = 5
    due = np.zeros_like(array)
    due[box] = array[box]
    sent, grid = turned(array[box], GRID.crop(box), *turn)
    if nifti:
        path = save_nifti(tmp_path / "a.nii.gz", sent, grid)
    else:
        path = save_nrrd(tmp_path / "a.nrrd", [sent], grid=grid)
    assert np.array_equal(ingest(path, GRID).array, due)


NAMES = ["liver", "spleen", "kidney left", "liver_tumor", "background", "aorta", "Segment_9"]


@given(order=st.permutations(range(len(NAMES))), filled=st.sets(st.integers(0, 5), min_size=1))
@TYPICAL
def test_permuting_segments_with_their_names_changes_nothing(
    tmp_path: Path, order: list[int], filled: set[int]
) -> None:
    def sent(which: list[int]) -> Labels:
        """A map in which segment i fills slab i, by its position in the list."""
        return label(*[which.index(i) + 1 if i in filled else 0 for i in range(len(NAMES) - 1)])

    due = ingest(
        save_nifti(tmp_path / "a.nii.gz", sent([*range(len(NAMES))])),
        GRID,
        info(*NAMES),
        may_be_empty=True,
    )
    names = [NAMES[i] for i in order]
    got = ingest(
        save_nifti(tmp_path / "b.nii.gz", sent(order)), GRID, info(*names), may_be_empty=True
    )
    segments = [(name, i + 1, 0) for i, name in enumerate(names)]
    same = ingest(
        save_nrrd(tmp_path / "c.seg.nrrd", [sent(order)], segments), GRID, may_be_empty=True
    )
    for found in (got, same):
        assert np.array_equal(found.array, due.array)
        assert (found.named, found.voxels) == (due.named, due.voxels)


@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
@TYPICAL
def test_permuting_overlapping_segments_changes_nothing(
    tmp_path: Path, order: list[int], seed: int
) -> None:
    names = ["liver", "spleen", "liver_lesion", "gall_bladder"]
    masks = np.random.default_rng(seed).integers(0, 2, (4, *SHAPE), dtype=np.uint8)

    def sent(which: list[int]) -> Path:
        segments = [(names[i], 1, layer) for layer, i in enumerate(which)]
        return save_nrrd(tmp_path / "a.seg.nrrd", [masks[i] for i in which], segments)

    due = ingest(sent([0, 1, 2, 3]), GRID)
    got = ingest(sent(order), GRID)
    assert np.array_equal(got.array, due.array)
    assert np.array_equal(got.array > 0, masks.any(axis=0))  # no voxel is lost


def test_dicom_seg_made_by_the_converter_comes_back(tmp_path: Path) -> None:
    from tests.formats.dicom_kit import save_dicom_seg

    sent, grid = label(1, 2, 3), GRID
    names = [("liver", "10200004"), ("unnamed", "78961009"), ("left kidney cyst", "49755003")]
    path = save_dicom_seg(tmp_path, sent, grid, names)
    with pytest.raises(LabelNameError, match="kidney_left"):
        ingest(path, grid)
    kept = ingest(save_dicom_seg(tmp_path, np.where(sent < 3, sent, 0), grid, names[:2]), grid)
    assert kept.read_by == "codes"
    assert np.array_equal(kept.array, label(LIVER, SPLEEN))


def test_every_refusal_is_the_callers_fault() -> None:
    for kind in (LabelNameError, LabelValueError, EmptyVolumeError, GridMismatchError):
        assert issubclass(kind, VolumeError)
