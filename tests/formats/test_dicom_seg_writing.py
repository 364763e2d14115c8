"""DICOM SEG as written, read back by readers that share nothing with the writer."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pydicom_seg
import pytest
import SimpleITK as sitk
from pydicom.uid import SegmentationStorage
from skimage.color import rgb2lab
from tests.formats.dicom_kit import read_headers, save_series
from tests.labels.kit import Labels

from atlas8k.core.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelValueError,
    VolumeError,
)
from atlas8k.core.grid import Grid
from atlas8k.core.label_mapping import map_label
from atlas8k.core.structure_sets import built_in
from atlas8k.core.structures import ORGANS, using
from atlas8k.formats.dicom import inspect
from atlas8k.formats.dicom_seg_writing import ATTENTION_SCHEME, write_segmentation
from atlas8k.labels.ingest import (
    ingest,
    read_segmentation,
)

DCMQI = Path(__file__).parents[3] / "shared" / "data" / "dcmqi-seg"
SHAPE = (13, 10, 7)
WORDS = {"description": "Abdominal organs", "made": "MANUAL"}
NINE = frozenset(range(1, 10))


def oblique(degrees: float, *flips: int) -> Grid:
    """Anisotropic, turned about two axes, some array axes flipped."""
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 3)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([-0.8, -0.9, 2.5])
    affine[:3, flips] *= -1
    affine[:3, 3] = (31.5, -17.25, 402.125)
    return Grid(SHAPE, affine)


GRIDS = [oblique(0), oblique(20), oblique(0, 2), oblique(15, 0, 1), oblique(70), oblique(-8, 2)]


@pytest.fixture(scope="module", params=range(len(GRIDS)))
def grid(request: pytest.FixtureRequest) -> Grid:
    return GRIDS[request.param]


@pytest.fixture(scope="module")
def series(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_series(tmp_path_factory.mktemp("series"), grid)


def label_of(organs: frozenset[int] | set[int], seed: int = 0, shape: Any = SHAPE) -> Labels:
    """Noise, so that no flip and no swapped axis leaves it as it was."""
    rng = np.random.default_rng(seed)
    label = rng.choice([0, *sorted(organs)], size=shape).astype(np.uint8)
    label[0, 0, : len(organs)] = sorted(organs)[: shape[2]]
    label[1, 0, : max(0, len(organs) - shape[2])] = sorted(organs)[shape[2] :]
    return label


def voxels_by_name(path: Path, grid: Grid) -> dict[str, set[tuple[int, ...]]]:
    """By pydicom alone: indices on `grid` of each segment's voxels, frame by frame."""
    data = pydicom.dcmread(path)
    assert data.SOPClassUID == SegmentationStorage
    names = {int(one.SegmentNumber): str(one.SegmentLabel) for one in data.SegmentSequence}
    shared = data.SharedFunctionalGroupsSequence[0]
    to_index = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ grid.affine)
    found: dict[str, set[tuple[int, ...]]] = {name: set() for name in names.values()}
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        orientation = (
            group if "PlaneOrientationSequence" in group else shared
        ).PlaneOrientationSequence[0]
        spacing = (group if "PixelMeasuresSequence" in group else shared).PixelMeasuresSequence[0]
        across, down = np.reshape(orientation.ImageOrientationPatient, (2, 3)).astype(float)
        down_mm, across_mm = map(float, spacing.PixelSpacing)
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(frame)
        points = corner + rows[:, None] * down * down_mm + columns[:, None] * across * across_mm
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        assert np.abs(index - np.rint(index)).max(initial=0) < 0.01
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        found[names[number]] |= set(map(tuple, np.rint(index).astype(int).tolist()))
    return found


def expected(label: Labels, prefix: str = "") -> dict[str, set[tuple[int, ...]]]:
    return {
        f"{prefix}{organ.name}": set(map(tuple, np.argwhere(label == organ.id).tolist()))
        for organ in ORGANS
        if (label == organ.id).any()
    }


def test_every_subset_of_organs(tmp_path: Path) -> None:
    """9 of one organ, 36 of two, 1 of nine: names, codes, colours, numbers, voxels."""
    subsets = [set(one) for size in (1, 2, 9) for one in combinations(sorted(NINE), size)]
    assert len(subsets) == 9 + 36 + 1
    places = [(grid, tmp_path / str(number)) for number, grid in enumerate(GRIDS)]
    files = []
    for grid, folder in places:
        folder.mkdir()
        files.append(save_series(folder, grid))
    for number, subset in enumerate(subsets):
        grid, files_ = places[number % len(places)][0], files[number % len(places)]
        label = label_of(subset, number)
        path = tmp_path / f"{number}.dcm"
        assert write_segmentation(label, grid, read_headers(files_), path, **WORDS) == path
        organs = [organ for organ in ORGANS if organ.id in subset]
        data = pydicom.dcmread(path)
        assert [one.SegmentNumber for one in data.SegmentSequence] == list(
            range(1, len(subset) + 1)
        )
        for segment, organ in zip(data.SegmentSequence, organs, strict=True):
            code = segment.SegmentedPropertyTypeCodeSequence[0]
            assert (segment.SegmentLabel, code.CodeValue, code.CodingSchemeDesignator) == (
                organ.name,
                organ.snomed_code,
                "SCT",
            )
            assert code.CodeMeaning == organ.snomed_meaning
            category = segment.SegmentedPropertyCategoryCodeSequence[0]
            assert (category.CodeValue, category.CodingSchemeDesignator) == ("123037004", "SCT")
            assert _lab(segment) == pytest.approx(rgb2lab(np.array(organ.color) / 255), abs=1)
        assert voxels_by_name(path, grid) == expected(label), subset
        again = ingest(path, grid)
        assert np.array_equal(again.array, label)
        assert again.named == frozenset(organ.name for organ in organs)


def test_25_structures(tmp_path: Path) -> None:
    """By pydicom alone, and read back by name and by code; the side is the code's modifier."""
    grid = GRIDS[1]
    headers = read_headers(save_series(tmp_path, grid))
    path = tmp_path / "seg.dcm"
    with using(built_in("abdomenatlas-1.1")):
        label = np.random.default_rng(0).integers(0, 26, SHAPE).astype(np.uint8)
        assert len(np.unique(label)) == 26
        write_segmentation(label, grid, headers, path, **WORDS)
        assert voxels_by_name(path, grid) == expected(label)
        data = pydicom.dcmread(path)
        for segment, organ in zip(data.SegmentSequence, ORGANS, strict=True):
            (code,) = segment.SegmentedPropertyTypeCodeSequence
            assert (segment.SegmentLabel, code.CodeValue) == (organ.name, organ.snomed_code)
            sides = [
                one.CodeMeaning.casefold()
                for one in code.get("SegmentedPropertyTypeModifierCodeSequence", ())
            ]
            assert sides == ([organ.side] if organ.side and organ.name[:6] != "kidney" else [])
        taken = ingest(path, grid)
        assert np.array_equal(taken.array, label)
        for one, organ in zip(read_segmentation(path).segments or (), ORGANS, strict=True):
            assert map_label("", one.codes).organ == organ.name  # even where names are lost
    with pytest.raises(VolumeError):  # none of these is annotated elsewhere
        write_segmentation(label, grid, headers, tmp_path / "nine.dcm", **WORDS)


def test_25_structures_as_pydicom_seg_reads_them(tmp_path: Path) -> None:
    grid = GRIDS[1]
    series = save_series(tmp_path, grid)
    path = tmp_path / "seg.dcm"
    with using(built_in("abdomenatlas-1.1")):
        label = np.random.default_rng(1).integers(0, 26, SHAPE).astype(np.uint8)
        write_segmentation(label, grid, read_headers(series), path, **WORDS)
        read = pydicom_seg.SegmentReader().read(pydicom.dcmread(path))
        assert len(list(read.available_segments)) == 25
        check_as_read(read, label, grid)
        for number, organ in enumerate(highdicom.seg.segread(path).SegmentSequence, start=1):
            assert organ.SegmentLabel == ORGANS[number - 1].name


def _lab(segment: pydicom.Dataset) -> Any:
    """PS3.3 C.10.7.1.1."""
    light, a, b = segment.RecommendedDisplayCIELabValue
    return [light / 65535 * 100, a / 65535 * 255 - 128, b / 65535 * 255 - 128]


def test_simple_itk_agrees(grid: Grid, series: list[str], tmp_path: Path) -> None:
    label = label_of(NINE)
    path = tmp_path / "seg.dcm"
    write_segmentation(label, grid, read_headers(series), path, **WORDS)
    read = pydicom_seg.SegmentReader().read(pydicom.dcmread(path))
    check_as_read(read, label, grid)


def check_as_read(read: Any, label: Labels, grid: Grid) -> None:
    """Every segment's voxels are where the label has them."""
    for number in read.available_segments:
        image = read.segment_image(number)
        organ = next(o for o in ORGANS if o.name == read.segment_infos[number].SegmentLabel)
        inside = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1].tolist()
        points = np.array([image.TransformIndexToPhysicalPoint(one) for one in inside])
        points = points * (-1, -1, 1)
        linear = np.linalg.inv(grid.affine)
        index = np.rint(points @ linear[:3, :3].T + linear[:3, 3]).astype(int)
        assert set(map(tuple, index.tolist())) == set(
            map(tuple, np.argwhere(label == organ.id).tolist())
        )


def test_label_on_other_axes(grid: Grid, series: list[str], tmp_path: Path) -> None:
    """A label whose axes are permuted and flipped is the same label."""
    label = label_of(NINE, 3)
    turned = np.ascontiguousarray(label.transpose(2, 0, 1)[:, ::-1])
    # Turned index (k, i', j) is the label's (12 - i', j, k).
    to_label = np.array([[0.0, -1, 0, 12], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    other = Grid((7, 13, 10), grid.affine @ to_label)
    path = tmp_path / "seg.dcm"
    write_segmentation(turned, other, read_headers(series), path, **WORDS)
    assert voxels_by_name(path, grid) == expected(label)
    orientation = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0]
    ours = orientation.PlaneOrientationSequence[0].ImageOrientationPatient
    theirs = pydicom.dcmread(series[0]).ImageOrientationPatient
    assert np.allclose(np.array(ours, float), np.array(theirs, float), atol=1e-6)


@pytest.mark.filterwarnings("error:The string")  # a warning would show the patient's name
def test_headers_as_they_come_from_an_archive(tmp_path: Path) -> None:
    grid = GRIDS[1]
    files = save_series(tmp_path, grid)
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in reversed(files)]
    # DICOM JSON, without file meta information.
    headers = [pydicom.Dataset.from_json(header.to_json()) for header in headers]
    for header in headers:  # what ought to be there, and is not always
        for keyword in ("PatientSex", "StudyID", "AccessionNumber", "FrameOfReferenceUID"):
            del header[keyword]
        header.SpecificCharacterSet, header.PatientName = "ISO_IR 100", "Müller"
    label, path = label_of({2, 4}), tmp_path / "seg.dcm"
    write_segmentation(label, grid, headers, path, **WORDS)
    assert voxels_by_name(path, grid) == expected(label)
    assert pydicom.dcmread(path).PatientName == "Müller"


def test_belongs_to_its_study(tmp_path: Path) -> None:
    grid = GRIDS[0]
    files = save_series(tmp_path, grid)
    path = tmp_path / "seg.dcm"
    headers = read_headers(files)
    write_segmentation(label_of({5}), grid, headers, path, description="Abdominal organs")
    data, source = pydicom.dcmread(path), pydicom.dcmread(files[0])
    for key in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "StudyDate"):
        assert data[key].value == source[key].value
    assert data.SeriesInstanceUID != source.SeriesInstanceUID
    assert (data.SeriesDescription, data.Modality) == ("Abdominal organs", "SEG")
    assert data.ContentCreatorName == "atlas8k"
    referenced = data.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence} == {
        str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files
    }
    (segment,) = data.SegmentSequence
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == (
        "SEMIAUTOMATIC",
        "atlas8k",
    )


def test_attention_is_no_organ(tmp_path: Path) -> None:
    grid = GRIDS[3]
    files = save_series(tmp_path, grid)
    label, path = label_of(NINE), tmp_path / "attention.dcm"
    write_segmentation(
        label, grid, read_headers(files), path, description="Regions to look at", kind="attention"
    )
    assert voxels_by_name(path, grid) == expected(label, "attention_")
    codes = {organ.snomed_code for organ in ORGANS}
    for segment in pydicom.dcmread(path).SegmentSequence:
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        assert code.CodingSchemeDesignator == ATTENTION_SCHEME
        assert code.CodeValue not in codes
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue != "123037004"
        assert "AnatomicRegionSequence" not in segment
    for one in read_segmentation(path).segments or ():
        assert map_label(one.name, one.codes).kind == "attention"
        assert map_label("", one.codes).kind == "unknown"  # even where names are lost
    with pytest.raises(VolumeError):  # and nobody can submit it for organs
        ingest(path, grid)


@pytest.mark.parametrize(
    "wrong",
    [
        Grid((12, 10, 7), GRIDS[0].affine),
        Grid((5, 5, 5), GRIDS[0].affine),
        Grid(SHAPE, GRIDS[1].affine),
        Grid(SHAPE, GRIDS[0].affine + np.diag([0, 0, 0.1, 0])),
        Grid(SHAPE, GRIDS[0].affine @ np.array([[1, 0, 0, 0.3], *np.eye(4)[1:]])),
        Grid((13, 10, 8), GRIDS[0].affine),
    ],
    ids=["a column less", "a block", "turned", "thicker", "a third of a voxel off", "a slice more"],
)
def test_label_of_another_series_is_refused(wrong: Grid, tmp_path: Path) -> None:
    files = save_series(tmp_path, GRIDS[0])
    path = tmp_path / "out" / "seg.dcm"
    with pytest.raises(GridMismatchError, match=r"seg\.dcm"):
        write_segmentation(
            label_of({1}, shape=wrong.shape), wrong, read_headers(files), path, **WORDS
        )
    assert not path.parent.exists()


def test_what_else_is_refused(tmp_path: Path) -> None:
    grid = GRIDS[0]
    headers = read_headers(save_series(tmp_path, grid))
    path, other = tmp_path / "out" / "seg.dcm", tmp_path / "other"
    other.mkdir()

    def refuses(error: type[Exception], array: Any, series: Any = None, **words: Any) -> None:
        with pytest.raises(error):
            write_segmentation(
                array, grid, headers if series is None else series, path, **{**WORDS, **words}
            )
        assert not path.parent.exists()

    refuses(EmptyVolumeError, np.zeros(SHAPE, np.uint8))
    refuses(LabelValueError, np.full(SHAPE, 10, np.uint8))
    refuses(LabelValueError, label_of({1}).astype(np.int16))
    refuses(GridMismatchError, label_of({1})[:-1])
    refuses(VolumeError, label_of({1}), headers[:3] + headers[4:])
    refuses(GridMismatchError, label_of({1}), headers + headers[:1])
    refuses(GridMismatchError, label_of({1}), headers + read_headers(save_series(other, grid)))
    refuses(VolumeError, label_of({1}), [])
    for text in ("", "x" * 65, "one\\two", "one\ntwo"):
        refuses(ValueError, label_of({1}), description=text)


@pytest.mark.skipif(not DCMQI.is_dir(), reason=f"{DCMQI} is not there")
def test_real_object_again(tmp_path: Path) -> None:
    """The liver that dcmqi's authors wrote, written anew from what we read of it."""
    files = sorted((DCMQI / "ct-3slice").glob("*.dcm"))
    (series,) = inspect(pydicom.dcmread(file) for file in files)
    grid = series.grid
    taken = ingest(DCMQI / "liver.dcm", grid)
    assert taken.named == {"liver"}
    path = tmp_path / "seg.dcm"
    write_segmentation(taken.array, grid, read_headers(files), path, **WORDS)
    (theirs,) = voxels_by_name(DCMQI / "liver.dcm", grid).values()
    assert voxels_by_name(path, grid) == {"liver": theirs}
    assert len(theirs) > 1000
