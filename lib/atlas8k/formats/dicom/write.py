"""Write a CT volume as a DICOM series of one file a slice."""

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
    """Yield valid CT Image Storage instances of a volume, slice by slice.

    Parameters
    ----------
    array
        ``(X, Y, Z)``, HU; rounded to whole numbers, cut to 16 bits.
    grid
        Grid of the array. The third axis steps along the normal of the first two, in either
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
        instance = _empty_file(uid)
        instance.SOPClassUID, instance.SOPInstanceUID = CTImageStorage, uid
        instance.StudyInstanceUID = stable_uid("study", study)
        instance.SeriesInstanceUID = stable_uid("series", study, seed)
        instance.FrameOfReferenceUID = stable_uid("frame", study)
        _describe(instance, study, description, number)
        instance.AcquisitionNumber, instance.InstanceNumber = 1, z + 1
        instance.ImagePositionPatient = _decimals(lps[:3, 3] + z * lps[:3, 2])
        instance.ImageOrientationPatient = _decimals(unit[:, :2].T.ravel())
        instance.PixelSpacing = _decimals(np.array([grid.spacing[1], grid.spacing[0]]))
        instance.SliceThickness = _decimals(np.array(grid.spacing[2:]))[0]
        instance.Columns, instance.Rows = grid.shape[:2]
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.BitsAllocated = instance.BitsStored = 16
        instance.HighBit, instance.PixelRepresentation = 15, 1
        instance.RescaleSlope, instance.RescaleIntercept, instance.RescaleType = 1, _INTERCEPT, "HU"
        stored = np.clip(np.rint(array[:, :, z].T), _LOW, _HIGH).astype(np.int32) - _INTERCEPT
        instance.PixelData = stored.astype("<i2").tobytes()
        yield instance


def write_series(
    folder: str | os.PathLike[str], array: npt.NDArray[Any], grid: Grid, **words: Any
) -> list[Path]:
    """Write a volume as ``0001.dcm``, ``0002.dcm``, … into `folder`, which is made if missing.

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
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.is_little_endian, file.is_implicit_VR = True, False
    return file


def _describe(instance: Dataset, study: str, description: str, number: int) -> None:
    instance.Modality, instance.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    instance.PatientName, instance.PatientID = "Phantom", study[:64]
    instance.PatientBirthDate = instance.PatientSex = instance.AccessionNumber = (
        instance.StudyID
    ) = ""
    instance.ReferringPhysicianName = instance.Manufacturer = (
        instance.PositionReferenceIndicator
    ) = ""
    instance.StudyDate = instance.SeriesDate = instance.AcquisitionDate = instance.ContentDate = (
        _DATE
    )
    instance.StudyTime = instance.SeriesTime = instance.AcquisitionTime = instance.ContentTime = (
        _TIME
    )
    instance.SeriesDescription, instance.SeriesNumber = description[:64], number
    instance.StudyDescription, instance.PatientPosition, instance.KVP = "CT abdomen", "HFS", "120"


def _decimals(values: npt.NDArray[np.float64]) -> list[str]:
    """Return numbers as DICOM's decimal strings: at most 16 characters, no exponent."""
    return [f"{value:.10f}"[:16] for value in (np.asarray(values, dtype=np.float64) + 0.0)]
