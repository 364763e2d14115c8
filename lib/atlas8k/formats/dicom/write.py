"""A CT volume as a DICOM series of one file a slice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Grid

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_INTERCEPT = -1024
_DATE, _TIME = "20200101", "120000"
_LOW, _HIGH = -32768 + _INTERCEPT, 32767 + _INTERCEPT


def series_datasets(
    array: npt.NDArray[Any],
    grid: Grid,
    *,
    seed: str,
    study: str | None = None,
    description: str = "CT",
    number: int = 1,
) -> Iterator[FileDataset]:
    """Valid CT Image Storage instances of a volume, slice by slice.

    Parameters
    ----------
    array
        ``(X, Y, Z)``, HU; rounded to whole numbers, cut to 16 bits.
    grid
        Where it lies. The third axis steps along the normal of the first two, in either
        direction: a reader that stacks along the normal may find it turned around.
    seed
        Same seed, same UIDs, in any run: of series, instances and, without `study`, of study.
    study
        Series of one study and frame of reference share it.
    number
        SeriesNumber.

    Raises
    ------
    GridMismatchError
        The array has another shape, or the grid is sheared.
    """
    if tuple(array.shape) != grid.shape:
        raise GridMismatchError(seed, f"array {array.shape} does not fit grid {grid.shape}")
    lps = _RAS_TO_LPS @ grid.affine
    unit = lps[:3, :3] / np.asarray(grid.spacing)
    if not np.allclose(unit.T @ unit, np.eye(3), atol=1e-4):
        raise GridMismatchError(seed, "a sheared grid cannot be written as a CT series")
    study = seed if study is None else study
    for z in range(grid.shape[2]):
        uid = stable_uid("instance", study, seed, str(z))
        one = _empty_file(uid)
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, uid
        one.StudyInstanceUID = stable_uid("study", study)
        one.SeriesInstanceUID = stable_uid("series", study, seed)
        one.FrameOfReferenceUID = stable_uid("frame", study)
        _describe(one, study, description, number)
        one.AcquisitionNumber, one.InstanceNumber = 1, z + 1
        one.ImagePositionPatient = _decimals(lps[:3, 3] + z * lps[:3, 2])
        one.ImageOrientationPatient = _decimals(unit[:, :2].T.ravel())
        one.PixelSpacing = _decimals(np.array([grid.spacing[1], grid.spacing[0]]))
        one.SliceThickness = _decimals(np.array(grid.spacing[2:]))[0]
        one.Columns, one.Rows = grid.shape[:2]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 1
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, _INTERCEPT, "HU"
        stored = np.clip(np.rint(array[:, :, z].T), _LOW, _HIGH).astype(np.int32) - _INTERCEPT
        one.PixelData = stored.astype("<i2").tobytes()
        yield one


def write_series(
    folder: str | os.PathLike[str], array: npt.NDArray[Any], grid: Grid, **words: Any
) -> list[Path]:
    """Write a volume as ``0001.dcm``, ``0002.dcm``, … into `folder`, made if need be.

    Parameters and errors are those of :func:`series_datasets`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for z, dataset in enumerate(series_datasets(array, grid, **words)):
        paths.append(folder / f"{z + 1:04d}.dcm")
        dataset.save_as(paths[-1], write_like_original=False)
    return paths


def stable_uid(*words: str) -> UID:
    """Return a UID that is the same for the same words, and another for others."""
    return generate_uid(entropy_srcs=["\x1f".join(words)])


def _empty_file(uid: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    one.is_little_endian, one.is_implicit_VR = True, False
    return one


def _describe(one: Dataset, study: str, description: str, number: int) -> None:
    one.Modality, one.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    one.PatientName, one.PatientID = "Phantom", study[:64]
    one.PatientBirthDate = one.PatientSex = one.AccessionNumber = one.StudyID = ""
    one.ReferringPhysicianName = one.Manufacturer = one.PositionReferenceIndicator = ""
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = _DATE
    one.StudyTime = one.SeriesTime = one.AcquisitionTime = one.ContentTime = _TIME
    one.SeriesDescription, one.SeriesNumber = description[:64], number
    one.StudyDescription, one.PatientPosition, one.KVP = "CT abdomen", "HFS", "120"


def _decimals(values: npt.NDArray[np.float64]) -> list[str]:
    """As DICOM's decimal strings, of at most 16 characters, without an exponent."""
    return [f"{value:.10f}"[:16] for value in (np.asarray(values, dtype=np.float64) + 0.0)]
