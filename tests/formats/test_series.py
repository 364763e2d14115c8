"""Which series are CT volumes, where they lie, and why the others are refused."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileDataset
from tests.formats.kit import SHAPE, datasets, enhanced, oblique, spoilt, straight

from atlas8k.core.errors import VolumeError
from atlas8k.formats.dicom import Reason, Series, inspect


def judged(headers: list[Dataset]) -> Series:
    found = inspect(headers)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("grid", [straight(), oblique(), straight(0.625)])
def test_a_good_series_lies_where_it_was_written(grid):
    headers = datasets(grid)
    random.Random(3).shuffle(headers)
    one = judged(headers)
    assert one.refusal is None
    assert one.grid.same_as(grid, 1e-4)
    assert [int(i.header.InstanceNumber) for i in one.instances] == list(range(1, SHAPE[2] + 1))


def test_slices_are_ordered_by_place_not_by_number():
    def backwards(one, index):
        one.InstanceNumber = SHAPE[2] - index

    one = judged(spoilt(backwards))
    assert [int(i.header.InstanceNumber) for i in one.instances] == list(range(SHAPE[2], 0, -1))
    assert one.grid.same_as(straight(), 1e-6)


def test_series_of_two_studies_are_told_apart_and_sorted_by_number():
    headers = [*datasets(seed="b", study="s", number=7), *datasets(seed="a", study="s", number=2)]
    found = inspect(headers)
    assert [one.uid for one in found] == [
        headers[-1].SeriesInstanceUID,
        headers[0].SeriesInstanceUID,
    ]
    assert len({one.study_uid for one in found}) == 1
    assert all(one.refusal is None for one in found)


def test_headers_from_an_archive_are_judged_alike():
    headers = datasets(oblique())
    for one in headers:
        del one.PixelData
    from_json = [Dataset.from_json(one.to_json()) for one in headers]
    there, here = judged(from_json), judged(headers)
    assert there.refusal is None
    np.testing.assert_array_equal(there.grid.affine, here.grid.affine)
    assert [i.uid for i in there.instances] == [i.uid for i in here.instances]


def test_a_copy_of_a_file_is_no_second_phase():
    headers = datasets()
    assert judged([*headers, *copy.deepcopy(headers[2:5])]).refusal is None


def test_slices_that_share_a_uid_are_all_kept():
    """As anonymisers leave them: a copy is one at the same place with the same pixels."""
    headers = datasets()
    for one in headers[3:6]:
        one.SOPInstanceUID = headers[2].SOPInstanceUID
    for found in (headers, [*headers, *copy.deepcopy(headers[1:4])]):
        one = judged(found)
        assert one.refusal is None
        assert one.grid.same_as(straight())


def test_every_slice_of_one_uid():
    headers = datasets(oblique())
    for one in headers:
        one.SOPInstanceUID = "1.2.3"
    assert judged(headers).grid.shape == SHAPE


def test_a_slice_of_a_known_uid_between_the_others_is_kept():
    headers = datasets()
    other = copy.deepcopy(headers[3])
    x, y, z = map(float, other.ImagePositionPatient)
    other.ImagePositionPatient = [x, y, z + 0.7]
    refusal = judged([*headers, other]).refusal
    assert refusal is not None
    assert refusal.reason is Reason.UNEVEN


def test_positions_rounded_to_a_tenth_are_even():
    def rounded(one, index):
        one.ImagePositionPatient = [f"{float(v):.1f}" for v in one.ImagePositionPatient]

    assert judged(spoilt(rounded, straight(0.625, 40))).refusal is None


def _set(**words):
    def change(one, index):
        for keyword, value in words.items():
            setattr(one, keyword, value)

    return change


def _shear(one, index):
    x, y, z = map(float, one.ImagePositionPatient)
    one.ImagePositionPatient = [x, y + index * 2.0 * np.tan(np.radians(12)), z]


def _lean(one, index):
    """Planes that lean by 12 degrees, a table that moves straight: as scanners write it."""
    cos, sin = np.cos(np.radians(12)), np.sin(np.radians(12))
    one.ImageOrientationPatient = [1, 0, 0, 0, cos, sin]
    one.GantryDetectorTilt = 12


def _drop(which: list[int], grid=None):
    def make() -> list[Dataset]:
        return [one for index, one in enumerate(datasets(grid)) if index not in which]

    return make


def _other_picture():
    headers = datasets()
    other = copy.deepcopy(headers[3])
    other.PixelData = headers[4].PixelData
    return [*headers, other]


def _second_phase(shift: float = 0.0):
    def make() -> list[Dataset]:
        first, second = datasets(), datasets()
        for index, one in enumerate(second):
            one.SOPInstanceUID = f"1.2.3.{index + 1}"
            one.AcquisitionNumber = 2
            x, y, z = map(float, one.ImagePositionPatient)
            one.ImagePositionPatient = [x, y, z + shift]
        return [*first, *second]

    return make


def _at(index: int, **words):
    def change(one, place):
        if place == index:
            _set(**words)(one, place)

    return change


def _move(index: int, mm: float):
    def change(one, place):
        if place == index:
            x, y, z = map(float, one.ImagePositionPatient)
            one.ImagePositionPatient = [x, y, z + mm]

    return change


def _without(*keywords: str):
    def change(one, index):
        for keyword in keywords:
            delattr(one, keyword)

    return change


def _beside(one: FileDataset, index: int) -> None:
    if index == 3:
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x + 20, y, z]


FAULTS: list[tuple[str, Callable[[], list[Dataset]], Reason, str]] = [
    ("mr", lambda: spoilt(_set(Modality="MR")), Reason.NOT_CT, "modality is MR"),
    (
        "seg",
        lambda: spoilt(_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")),
        Reason.NOT_CT,
        "no CT",
    ),
    (
        "inverted",
        lambda: spoilt(_set(PhotometricInterpretation="MONOCHROME1")),
        Reason.NOT_HOUNSFIELD,
        "MONOCHROME1",
    ),
    ("beside", lambda: spoilt(_beside), Reason.MIXED, "beside the line of the others"),
    (
        "scout",
        lambda: spoilt(_set(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        Reason.LOCALIZER,
        "scout",
    ),
    (
        "one scout among them",
        lambda: spoilt(_at(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        Reason.LOCALIZER,
        "instance 1",
    ),
    (
        "screen save",
        lambda: spoilt(_set(ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])),
        Reason.SCREEN_SHOT,
        "screen shot",
    ),
    (
        "secondary capture",
        lambda: spoilt(_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")),
        Reason.SCREEN_SHOT,
        "secondary capture",
    ),
    ("colour", lambda: spoilt(_set(SamplesPerPixel=3)), Reason.SCREEN_SHOT, "colour"),
    (
        "mip",
        lambda: spoilt(_set(ImageType=["DERIVED", "SECONDARY", "MIP"])),
        Reason.PROJECTION,
        "MIP",
    ),
    ("iodine", lambda: spoilt(_set(RescaleType="MGML")), Reason.NOT_HOUNSFIELD, "MGML"),
    ("no slope", lambda: spoilt(_without("RescaleSlope")), Reason.NOT_HOUNSFIELD, "RescaleSlope"),
    (
        "no position",
        lambda: spoilt(_at(3, ImagePositionPatient=None)),
        Reason.NO_GEOMETRY,
        "instance 4",
    ),
    (
        "axes that are none",
        lambda: spoilt(_set(ImageOrientationPatient=[1, 0, 0, 1, 0, 0])),
        Reason.NO_GEOMETRY,
        "ImageOrientationPatient",
    ),
    ("spacing 0", lambda: spoilt(_set(PixelSpacing=[0, 1])), Reason.NO_GEOMETRY, "PixelSpacing"),
    ("two slices", _drop(list(range(2, SHAPE[2]))), Reason.TOO_FEW, "2 slices"),
    ("one slice", _drop(list(range(1, SHAPE[2]))), Reason.TOO_FEW, "1 slice;"),
    (
        "orientations",
        lambda: spoilt(_at(2, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])),
        Reason.MIXED,
        "2 orientations",
    ),
    ("spacings", lambda: spoilt(_at(2, PixelSpacing=[1.5, 1.6])), Reason.MIXED, "pixel distances"),
    ("sizes", lambda: spoilt(_at(2, Rows=4)), Reason.MIXED, "6×4, 6×5"),
    (
        "frames of reference",
        lambda: spoilt(_at(2, FrameOfReferenceUID="1.2")),
        Reason.MIXED,
        "frames",
    ),
    ("sheared", lambda: spoilt(_shear), Reason.TILTED, "12.0 degrees"),
    ("leaning", lambda: spoilt(_lean), Reason.TILTED, "12.0 degrees"),
    ("said to lean", lambda: spoilt(_set(GantryDetectorTilt=-17)), Reason.TILTED, "17.0 degrees"),
    ("far off", lambda: spoilt(_move(7, 9e8)), Reason.TOO_LARGE, "than any scanner"),
    (
        "many pixels",
        lambda: spoilt(_set(Rows=60_000, Columns=60_000)),
        Reason.TOO_LARGE,
        "60000 x 60000 x 8",
    ),
    ("one missing", _drop([3]), Reason.MISSING_SLICE, "lacks 1 slice at -94.0 mm"),
    ("two in a row missing", _drop([3, 4]), Reason.MISSING_SLICE, "2 slices at -94.0, -92.0 mm"),
    ("two missing", _drop([2, 5]), Reason.MISSING_SLICE, "2 slices at -96.0, -90.0 mm"),
    (
        "the last but one missing, of many",
        _drop([98], straight(2.0, 100)),
        Reason.MISSING_SLICE,
        "at 96.0 mm",
    ),
    ("one uid, two pictures", _other_picture, Reason.SHARED_UID, "different pixels"),
    ("one out of step", lambda: spoilt(_move(4, 0.7)), Reason.UNEVEN, "-91.3 mm"),
    ("two phases", _second_phase(), Reason.TWO_PHASES, "16 slices at 8 places"),
    ("two phases a little apart", _second_phase(0.3), Reason.TWO_PHASES, "acquisitions 1, 2"),
    ("one slice twice", lambda: spoilt(_move(4, 2.0)), Reason.TWO_PHASES, "8 slices at 7 places"),
    (
        "no uid",
        lambda: spoilt(_without("SeriesInstanceUID")),
        Reason.NO_GEOMETRY,
        "SeriesInstanceUID",
    ),
]


@pytest.mark.parametrize(
    ("make", "reason", "words"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_a_faulty_series_is_refused_by_name(make, reason, words):
    one = judged(make())
    assert one.refusal is not None
    assert one.refusal.reason is reason, one.refusal.message
    assert words in one.refusal.message
    if one.uid:
        assert one.uid in one.refusal.message
    assert one.place is None
    with pytest.raises(VolumeError, match="series"):
        _ = one.grid


def test_every_reason_is_tested():
    of_files = {Reason.SEVERAL_OBJECTS, Reason.DAMAGED}  # which headers alone do not show
    assert {row[2] for row in FAULTS} == set(Reason) - of_files


def test_what_is_harmless_is_no_fault():
    def harmless(one, index):
        one.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]
        one.GantryDetectorTilt = 15  # corrected since: derived, and stacked straight
        del one.RescaleType, one.AcquisitionNumber, one.InstanceNumber

    assert judged(spoilt(harmless)).refusal is None


def test_acquisitions_one_above_the_other_are_one_volume():
    def two(one, index):
        one.AcquisitionNumber = 1 + index // 4

    assert judged(spoilt(two)).refusal is None


def test_no_message_names_the_patient():
    def personal(one, index):
        one.PatientName, one.PatientID = "Doe^Jane", "4711-X"
        one.SeriesDescription = "Abdomen JANE venous"
        one.Modality = "MR"

    one = judged(spoilt(personal))
    assert one.refusal is not None
    for word in ("Doe", "Jane", "JANE", "4711", "2020"):
        assert word not in one.refusal.message


def test_an_enhanced_object_is_a_volume_whatever_the_order_of_its_frames():
    order = [3, 0, 7, 1, 2, 6, 5, 4]
    one = judged([enhanced(datasets(oblique()), order)])
    assert one.refusal is None
    assert one.grid.same_as(oblique(), 1e-4)
    assert [i.frame for i in one.instances] == list(np.argsort(order))


def test_two_enhanced_objects_in_one_series_are_refused():
    first, second = enhanced(datasets()), enhanced(datasets())
    second.SOPInstanceUID = "1.2.3"
    one = judged([first, second])
    assert one.refusal is not None
    assert one.refusal.reason is Reason.SEVERAL_OBJECTS


def test_frames_that_say_nothing_of_their_place_are_refused():
    one = datasets()[0]
    one.NumberOfFrames = 8
    refusal = judged([one]).refusal
    assert refusal is not None
    assert refusal.reason is Reason.NO_GEOMETRY


@example(keyword="Rows", values=["-1"])
@settings(max_examples=60, deadline=None)
@given(
    keyword=st.sampled_from(
        [
            *("Modality", "ImageType", "Rows", "PixelSpacing", "ImagePositionPatient"),
            *("ImageOrientationPatient", "RescaleSlope", "NumberOfFrames", "InstanceNumber"),
            *("SeriesNumber", "AcquisitionNumber", "SOPInstanceUID", "GantryDetectorTilt"),
        ]
    ),
    values=st.one_of(
        st.none(),
        st.just([]),
        st.lists(st.sampled_from(["", "x", "nan", "1e400", "-1", "0", "3"]), max_size=7),
    ),
)
def test_no_header_makes_it_raise(keyword, values):
    """A header as an archive may send it: any value, or none, in any element."""
    headers = []
    for one in datasets():
        row = one.group_dataset(0x0020).to_json_dict() | one.group_dataset(0x0028).to_json_dict()
        row |= one.group_dataset(0x0008).to_json_dict()
        element = one.get_item(keyword)
        tag = f"{element.tag:08X}" if element is not None else "00280008"
        row[tag] = {"vr": element.VR if element is not None else "IS"}
        if values is not None:
            row[tag]["Value"] = values
        try:
            headers.append(Dataset.from_json(row))
        except Exception:
            return  # pydicom itself refuses it
    for series in inspect(headers):
        assert (series.refusal is None) == (series.place is not None)
