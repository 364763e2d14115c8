"""A DICOM CT series and a DICOM SEG of it, the latter made by dcmqi."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import dcmqi
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from tests.labels.kit import Labels

from atlas8k.core.grid import Grid


def save_series(folder: Path, grid: Grid) -> list[str]:
    """One slice a plane of the grid, whose first axis runs along the rows; air everywhere."""
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    ids = [generate_uid() for _ in range(3)]
    paths = []
    for z in range(grid.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{z}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = ids
        data.Modality, data.PatientName, data.PatientID = "CT", "Phantom", "P"
        data.StudyDate = data.ContentDate = "20200101"
        data.StudyTime = data.ContentTime = "120000"
        data.PatientBirthDate = data.PatientSex = data.AccessionNumber = data.StudyID = ""
        data.ReferringPhysicianName = ""
        data.SeriesNumber, data.InstanceNumber = 1, z + 1
        data.ImagePositionPatient = (lps @ [0, 0, z, 1])[:3].tolist()
        data.ImageOrientationPatient = (lps[:3, :2] / grid.spacing[:2]).T.ravel().tolist()
        data.PixelSpacing = [grid.spacing[1], grid.spacing[0]]
        data.SliceThickness = grid.spacing[2]
        data.Columns, data.Rows = grid.shape[:2]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.RescaleSlope, data.RescaleIntercept = 1, 0
        data.PixelData = np.full(grid.shape[:2], -1000, dtype="<i2").tobytes()
        data.save_as(path, write_like_original=False)
        paths.append(str(path))
    return paths


def read_headers(paths: Sequence[str | Path]) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]


def _code(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def save_dicom_seg(
    folder: Path, array: Labels, grid: Grid, segments: Sequence[tuple[str, str]]
) -> Path:
    """Segments by name and SNOMED CT code; values 1, 2, ... in `array`."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    image.SetSpacing(grid.spacing)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / grid.spacing).ravel().tolist())
    sitk.WriteImage(image, str(folder / "segments.nrrd"))
    attributes = [
        {
            "labelID": value,
            "SegmentLabel": name,
            "SegmentDescription": name,
            "SegmentAlgorithmType": "MANUAL",
            "SegmentedPropertyCategoryCodeSequence": _code("123037004", "Anatomical Structure"),
            "SegmentedPropertyTypeCodeSequence": _code(code, name),
            "recommendedDisplayRGBValue": [200, 100, 50],
        }
        for value, (name, code) in enumerate(segments, start=1)
    ]
    meta = {
        "ContentCreatorName": "Nobody",
        "SeriesDescription": "Segmentation",
        "SeriesNumber": "2",
        "InstanceNumber": "1",
        "segmentAttributes": [attributes],
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    path = folder / "segments.dcm"
    tool = Path(dcmqi.__file__).parent / "bin" / "itkimage2segimage"
    subprocess.run(
        [
            str(tool),
            *("--inputImageList", str(folder / "segments.nrrd")),
            *("--inputDICOMList", ",".join(save_series(folder, grid))),
            *("--inputMetadata", str(folder / "meta.json"), "--outputDICOM", str(path)),
        ],
        check=True,
        capture_output=True,
    )
    return path
