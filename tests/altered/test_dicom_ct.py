from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, MRImageStorage
from tests.altered.kit import (
    OTHER,
    REFUSED,
    SAME,
    Kind,
    Read,
    Rng,
    as_meant,
    patient,
    rotation,
    run,
)
from tests.altered.nifti import cut

from atlas8k.cli.predict import read_input
from atlas8k.content import inspect_content
from atlas8k.core.grid import Grid, Volume
from atlas8k.formats.dicom import series_datasets
from atlas8k.formats.dicom.write import stable_uid

DICOM = Kind("CT, DICOM series, a file a slice")
NOT_HU = ("not_hu", "label_map", "damaged")
HARMLESS = ("StudyDescription", "Manufacturer", "BodyPartExamined", "ProtocolName", "StationName")
_STEP = 8.0


@dataclass
class Draft:
    """A series about to be written."""

    truth: Volume
    slices: list[FileDataset]
    names: list[str]
    after: dict[int, Callable[[bytes], bytes]] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        for number, (one, name) in enumerate(zip(self.slices, self.names, strict=True)):
            path = folder / name
            one.save_as(path, write_like_original=False)
            if number in self.after:
                path.write_bytes(self.after[number](path.read_bytes()))
        return folder

    def set(self, keyword: str, value: object, only: int | None = None) -> None:
        """Say something in all slices or in one; None takes it out."""
        for one in self.slices if only is None else [self.slices[only]]:
            if value is None:
                delattr(one, keyword)
            else:
                setattr(one, keyword, value)

    def any_slice(self, rng: Rng) -> int:
        """One that is not the first or last."""
        return int(rng.integers(2, len(self.slices) - 2))


def make(rng: Rng) -> Draft:
    """Columns to the left, rows to the back, slices to the head or feet; one in three tilted."""
    ct = patient()[0]
    flip = np.diag([-1.0, -1.0, rng.choice([-1.0, 1.0]), 1.0])
    n = np.array(ct.grid.shape)
    flip[:3, 3] = np.where(np.diag(flip)[:3] < 0, n - 1, 0)
    steps = tuple(slice(None, None, int(d)) for d in np.diag(flip)[:3])
    affine = ct.grid.affine @ flip
    if rng.random() < 1 / 3:
        affine = rotation(rng) @ affine
    truth = Volume(ct.array[steps], Grid(ct.grid.shape, affine))
    slices = list(series_datasets(truth.array, truth.grid, seed=str(rng.integers(1 << 30))))
    return Draft(truth, slices, [f"{i:03d}.dcm" for i in range(len(slices))])


def read(draft: Draft, path: Path) -> Read:
    volume, _, remarks = read_input(path)
    kinds = {one.kind for one in (*remarks, *inspect_content(volume))}
    return Read(as_meant(volume, draft.truth), frozenset(kinds))


def stored(one: FileDataset) -> np.ndarray:
    return np.frombuffer(one.PixelData, "<i2").reshape(one.Rows, one.Columns)


def store(
    draft: Draft, change: Callable[[np.ndarray], np.ndarray], only: int | None = None
) -> None:
    """Other stored values, of the type that the header says."""
    for one in draft.slices if only is None else [draft.slices[only]]:
        one.PixelData = np.asarray(change(stored(one).astype(int)), "<i2").tobytes()


# --- files -------------------------------------------------------------------------------------


@DICOM.altered(SAME)
def nothing(draft: Draft, rng: Rng) -> None:
    pass


@DICOM.altered(SAME)
def fields_of_no_meaning(draft: Draft, rng: Rng) -> None:
    for keyword in rng.choice(HARMLESS, 2, replace=False):
        draft.set(str(keyword), "anything")
    draft.set("SliceThickness", 99)
    draft.set("SliceLocation", 7, only=draft.any_slice(rng))


@DICOM.altered(SAME)
def names_and_numbers_in_any_order(draft: Draft, rng: Rng) -> None:
    order = rng.permutation(len(draft.slices))
    draft.names = [f"IM{n}" for n in order]
    for one, n in zip(draft.slices, rng.permutation(len(order)), strict=True):
        one.InstanceNumber = int(n) + 1


@DICOM.altered(SAME)
def numbers_missing(draft: Draft, rng: Rng) -> None:
    for _ in range(5):
        draft.set("InstanceNumber", "", only=draft.any_slice(rng))


@DICOM.altered(REFUSED)
def a_slice_missing(draft: Draft, rng: Rng) -> None:
    at = draft.any_slice(rng)
    del draft.slices[at], draft.names[at]


@DICOM.altered(SAME)
def a_copy_of_a_slice(draft: Draft, rng: Rng) -> None:
    draft.slices.append(copy.deepcopy(draft.slices[draft.any_slice(rng)]))
    draft.names.append("copy.dcm")


@DICOM.altered(REFUSED)
def two_slices_at_one_place(draft: Draft, rng: Rng) -> None:
    one = copy.deepcopy(draft.slices[draft.any_slice(rng)])
    if rng.random() < 0.5:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = stable_uid("other")
    one.PixelData = (stored(one) + np.int16(9)).tobytes()
    draft.slices.append(one)
    draft.names.append("more.dcm")


@DICOM.altered(SAME)
def slices_that_share_a_uid(draft: Draft, rng: Rng) -> None:
    draft.set("SOPInstanceUID", draft.slices[0].SOPInstanceUID)


@DICOM.altered(REFUSED)
def a_file_cut_off(draft: Draft, rng: Rng) -> None:
    draft.after[draft.any_slice(rng)] = cut(rng)


@DICOM.altered(REFUSED)
def a_file_of_zeros(draft: Draft, rng: Rng) -> None:
    draft.after[draft.any_slice(rng)] = lambda data: bytes(len(data))


@DICOM.altered(REFUSED, "blank_slices", *NOT_HU)
def the_end_of_a_file_lost_and_filled_with_zeros(draft: Draft, rng: Rng) -> None:
    """Zero is -1024 HU there, as air is: more than half of a slice shows."""
    n = int(rng.uniform(0.75, 0.95) * len(draft.slices[0].PixelData))
    at = draft.any_slice(rng)
    draft.after[at] = lambda data: data[:-n] + bytes(n)
    draft.set("RescaleIntercept", 0)
    store(draft, lambda array: array - 1024)


@DICOM.altered(SAME)
def files_that_are_no_slices(draft: Draft, rng: Rng) -> None:
    for number in range(2):
        draft.slices.append(copy.deepcopy(draft.slices[0]))
        draft.names.append(["notes.txt", ".hidden.dcm"][number])
        draft.after[len(draft.slices) - 1] = lambda _: b"no image"


# --- geometry ----------------------------------------------------------------------------------


@DICOM.altered(REFUSED)
def no_geometry(draft: Draft, rng: Rng) -> None:
    keywords = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
    value = None if rng.random() < 0.5 else ""
    only = draft.any_slice(rng) if rng.random() < 0.5 else None
    draft.set(str(rng.choice(keywords)), value, only)


@DICOM.altered(REFUSED)
def a_slice_moved(draft: Draft, rng: Rng) -> None:
    one = draft.slices[draft.any_slice(rng)]
    at = np.array(one.ImagePositionPatient, float)
    normal = np.cross(*np.array(one.ImageOrientationPatient, float).reshape(2, 3))
    if rng.random() < 0.5:
        at += normal * rng.uniform(0.3, 0.45) * _STEP
    else:
        at += normal * _STEP
    one.ImagePositionPatient = [f"{v:.6f}" for v in at]


@DICOM.altered(SAME)
def places_rounded(draft: Draft, rng: Rng) -> None:
    for one in draft.slices:
        one.ImagePositionPatient = [f"{float(v):.1f}" for v in one.ImagePositionPatient]


@DICOM.altered(REFUSED)
def a_slice_moved_sideways(draft: Draft, rng: Rng) -> None:
    one = draft.slices[draft.any_slice(rng)]
    at = np.array(one.ImagePositionPatient, float)
    row = np.array(one.ImageOrientationPatient, float)[:3]
    one.ImagePositionPatient = [f"{v:.6f}" for v in at + row * rng.uniform(20, 90)]


@DICOM.altered(REFUSED)
def gantry_tilt(draft: Draft, rng: Rng) -> None:
    step = np.array([0, rng.uniform(1, 4), 0])
    for z, one in enumerate(draft.slices):
        at = np.array(one.ImagePositionPatient, float) + z * step
        one.ImagePositionPatient = [f"{v:.6f}" for v in at]


@DICOM.altered(REFUSED)
def a_slice_of_another_orientation(draft: Draft, rng: Rng) -> None:
    one = draft.slices[draft.any_slice(rng)]
    axes = np.array(one.ImageOrientationPatient, float)
    turned = [axes[[3, 4, 5, 0, 1, 2]], -axes, axes * 0, axes * 2][rng.integers(4)]
    one.ImageOrientationPatient = [f"{v:.6f}" for v in turned]


@DICOM.altered(REFUSED)
def a_slice_of_other_pixels(draft: Draft, rng: Rng) -> None:
    draft.set("PixelSpacing", [8.0, 7.0] if rng.random() < 0.5 else [0, 8], draft.any_slice(rng))


@DICOM.altered(REFUSED)
def a_slice_of_another_frame_of_reference(draft: Draft, rng: Rng) -> None:
    draft.set("FrameOfReferenceUID", stable_uid("another"), draft.any_slice(rng))


@DICOM.altered(REFUSED)
def a_slice_of_another_series(draft: Draft, rng: Rng) -> None:
    draft.set("SeriesInstanceUID", stable_uid("another"), draft.any_slice(rng))


@DICOM.altered(REFUSED, "other_series")
def half_of_another_series(draft: Draft, rng: Rng) -> None:
    for at in range(10, 22):
        draft.set("SeriesInstanceUID", stable_uid("another"), at)


@DICOM.altered(REFUSED, *NOT_HU)
def sizes_exchanged(draft: Draft, rng: Rng) -> None:
    rows, columns = draft.slices[0].Rows, draft.slices[0].Columns
    only = draft.any_slice(rng) if rng.random() < 0.3 else None
    draft.set("Rows", columns, only)
    draft.set("Columns", rows, only)


@DICOM.altered(REFUSED)
def fewer_or_more_rows_said(draft: Draft, rng: Rng) -> None:
    only = draft.any_slice(rng) if rng.random() < 0.3 else None
    draft.set("Rows", draft.slices[0].Rows + int(rng.choice([-9, -1, 1, 9])), only)


@DICOM.altered(REFUSED)
def fewer_or_more_columns_said(draft: Draft, rng: Rng) -> None:
    draft.set("Columns", draft.slices[0].Columns + int(rng.choice([-9, -1, 1, 9])))


# --- what it is, types, values -----------------------------------------------------------------


@DICOM.altered(REFUSED)
def what_it_is(draft: Draft, rng: Rng) -> None:
    only = draft.any_slice(rng) if rng.random() < 0.5 else None
    what = [("Modality", "MR"), ("SOPClassUID", MRImageStorage), ("SamplesPerPixel", 3),
            ("ImageType", ["DERIVED", "SECONDARY", "MIP"]), ("RescaleType", "US"),
            ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])]  # fmt: skip
    draft.set(*what[rng.integers(len(what))], only=only)


@DICOM.altered(SAME, REFUSED)
def monochrome_1(draft: Draft, rng: Rng) -> None:
    """How it is shown, not what the values are."""
    draft.set("PhotometricInterpretation", "MONOCHROME1")


@DICOM.altered(REFUSED)
def another_photometric_interpretation(draft: Draft, rng: Rng) -> None:
    draft.set("PhotometricInterpretation", str(rng.choice(["RGB", "PALETTE COLOR", "YBR_FULL"])))


@DICOM.altered(REFUSED)
def no_rescale(draft: Draft, rng: Rng) -> None:
    keyword = str(rng.choice(["RescaleSlope", "RescaleIntercept"]))
    draft.set(keyword, None, draft.any_slice(rng) if rng.random() < 0.5 else None)


@DICOM.altered(REFUSED, *NOT_HU)
def rescale_slope(draft: Draft, rng: Rng) -> None:
    draft.set("RescaleSlope", float(rng.choice([0, 0.1, 2, 10, -1])))


@DICOM.altered(REFUSED, *NOT_HU)
def rescale_intercept(draft: Draft, rng: Rng) -> None:
    draft.set("RescaleIntercept", float(rng.choice([0, -2048, 1024, 32768])))


@DICOM.altered(*NOT_HU)
def rescale_of_one_slice(draft: Draft, rng: Rng) -> None:
    draft.set("RescaleIntercept", float(rng.choice([0, -2048])), draft.any_slice(rng))


@DICOM.altered(SAME)
def rescale_of_some_slices_made_up_for(draft: Draft, rng: Rng) -> None:
    for at in range(5, 20):
        draft.set("RescaleIntercept", -1000, at)
        store(draft, lambda array: array - 24, at)


@DICOM.altered(SAME)
def sign_of_values_above_0(draft: Draft, rng: Rng) -> None:
    draft.set("PixelRepresentation", 0)


@DICOM.altered(REFUSED, *NOT_HU)
def sign_of_values_below_0(draft: Draft, rng: Rng) -> None:
    """Stored as HU, read as unsigned."""
    draft.set("RescaleIntercept", 0)
    store(draft, lambda array: array - 1024)
    draft.set("PixelRepresentation", 0, draft.any_slice(rng) if rng.random() < 0.5 else None)


@DICOM.altered(SAME, REFUSED, *NOT_HU)
def bits_stored(draft: Draft, rng: Rng) -> None:
    bits = int(rng.choice([8, 10, 11, 12, 13, 15]))
    draft.set("BitsStored", bits)
    draft.set("HighBit", bits - 1)


@DICOM.altered(SAME, REFUSED, *NOT_HU)
def bits_stored_unsigned(draft: Draft, rng: Rng) -> None:
    draft.set("PixelRepresentation", 0)
    bits_stored(draft, rng)


@DICOM.altered(SAME, REFUSED, *NOT_HU)
def high_bit(draft: Draft, rng: Rng) -> None:
    draft.set("HighBit", int(rng.choice([7, 11, 14])))


@DICOM.altered(REFUSED)
def bits_allocated(draft: Draft, rng: Rng) -> None:
    bits = int(rng.choice([8, 32]))
    draft.set("BitsAllocated", bits)
    draft.set("BitsStored", bits)
    draft.set("HighBit", bits - 1)


@DICOM.altered(REFUSED, SAME, *NOT_HU)
def transfer_syntax(draft: Draft, rng: Rng) -> None:
    """Said, not used: the file meta is no longer true."""
    syntax = [ImplicitVRLittleEndian, ExplicitVRBigEndian][rng.integers(2)]
    old, new = b"1.2.840.10008.1.2.1\0", str(syntax).encode().ljust(20, b"\0")[:20]
    only = [draft.any_slice(rng)] if rng.random() < 0.5 else range(len(draft.slices))
    for at in only:
        draft.after[at] = lambda data: data.replace(old, new, 1)


@DICOM.altered(REFUSED, *NOT_HU)
def bytes_of_the_values_swapped(draft: Draft, rng: Rng) -> None:
    for one in draft.slices:
        one.PixelData = stored(one).astype(">i2").tobytes()


@DICOM.altered(REFUSED)
def one_value(draft: Draft, rng: Rng) -> None:
    store(draft, lambda array: np.full_like(array, 24))


@DICOM.altered(*NOT_HU)
def windowed(draft: Draft, rng: Rng) -> None:
    store(draft, lambda array: np.clip((array - 1024 + 160) / 400, 0, 1) * 255)
    draft.set("RescaleIntercept", 0)


@DICOM.altered("blank_slices")
def slices_without_pixels(draft: Draft, rng: Rng) -> None:
    for at in range(4, 4 + int(rng.integers(1, 5))):
        store(draft, np.zeros_like, at)


@DICOM.altered(*NOT_HU)
def a_slice_stored_otherwise(draft: Draft, rng: Rng) -> None:
    store(draft, lambda array: array + 1024, draft.any_slice(rng))


# --- consistent files of another meaning -------------------------------------------------------


@DICOM.altered(OTHER)
def spacing_a_little_off(draft: Draft, rng: Rng) -> None:
    mm = 8 * rng.uniform(1.03, 1.08)
    draft.set("PixelSpacing", [f"{mm:.4f}", 8.0] if rng.random() < 0.5 else [8.0, f"{mm:.4f}"])


@DICOM.altered(OTHER)
def orientation_of_all_slices(draft: Draft, rng: Rng) -> None:
    """Rows or columns run the other way; positions stay."""
    for one in draft.slices:
        axes = np.array(one.ImageOrientationPatient, float).reshape(2, 3)
        axes[0] *= -1
        axes[1] *= -1
        one.ImageOrientationPatient = [f"{v:.6f}" for v in axes.ravel()]


@DICOM.altered(OTHER)
def slices_in_reversed_order(draft: Draft, rng: Rng) -> None:
    places = [one.ImagePositionPatient for one in draft.slices][::-1]
    for one, place in zip(draft.slices, places, strict=True):
        one.ImagePositionPatient = place


@DICOM.altered(OTHER)
def two_slices_exchanged(draft: Draft, rng: Rng) -> None:
    a, b = rng.choice(np.arange(len(draft.slices)), 2, replace=False)
    one, other = draft.slices[a], draft.slices[b]
    one.ImagePositionPatient, other.ImagePositionPatient = (
        other.ImagePositionPatient,
        one.ImagePositionPatient,
    )


@DICOM.altered(OTHER)
def end_slices_missing(draft: Draft, rng: Rng) -> None:
    n = int(rng.integers(1, 5))
    del draft.slices[-n:], draft.names[-n:]


@DICOM.altered(OTHER)
def values_a_little_off(draft: Draft, rng: Rng) -> None:
    draft.set("RescaleSlope", 1.04)


def test_each_is_read_as_meant_or_refused_or_marked(tmp_path: Path) -> None:
    run(DICOM, make, read, tmp_path)
