"""DICOM SEG objects written by pydicom alone, with whatever a writer may get wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from atlas8k.core.grid import Grid

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
Change = Callable[[FileDataset], None]


def save_seg(
    path: Path,
    grid: Grid,
    frames: Sequence[tuple[int, int, npt.NDArray[Any]]],
    segments: dict[int, str],
    *,
    kind: str = "BINARY",
    full: int = 255,
    dtype: type = np.uint8,
    change: Change | None = None,
) -> Path:
    """Write frames of a segmentation.

    Parameters
    ----------
    grid
        Its third axis is the slices'.
    frames
        Number of the segment, slice, and ``(X, Y)`` voxels, in the order to store.
    segments
        Names by number.
    change
        Applied to the dataset before it is written.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = LABEL_MAP_STORAGE if kind == "LABELMAP" else SegmentationStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.is_little_endian, data.is_implicit_VR = True, False
    data.SOPClassUID, data.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    data.Modality, data.SegmentationType = "SEG", kind
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=_flat(lps, grid))]
    shared.PixelMeasuresSequence = [
        _item(
            PixelSpacing=[_ds(grid.spacing[1]), _ds(grid.spacing[0])],
            SliceThickness=_ds(grid.spacing[2]),
            SpacingBetweenSlices=_ds(grid.spacing[2]),
        )
    ]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [
        _frame(lps, z, number, kind) for number, z, _ in frames
    ]
    data.SegmentSequence = [_item(SegmentNumber=n, SegmentLabel=s) for n, s in segments.items()]
    data.Columns, data.Rows = grid.shape[:2]
    data.NumberOfFrames = len(frames)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.PixelRepresentation = 0
    stored = np.stack([voxels.T for *_, voxels in frames])
    if kind == "BINARY":
        data.BitsAllocated = data.BitsStored = 1
        raw = np.packbits(stored.ravel() > 0, bitorder="little").tobytes()
    else:
        data.BitsAllocated = data.BitsStored = 8 * np.dtype(dtype).itemsize
        raw = stored.astype(dtype).tobytes()
    data.HighBit = data.BitsStored - 1
    if kind == "FRACTIONAL":
        data.MaximumFractionalValue, data.SegmentationFractionalType = full, "OCCUPANCY"
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OW" if data.BitsAllocated > 8 else "OB"
    if change is not None:
        change(data)
    data.save_as(path, write_like_original=False)
    return path


def measures(**values: Any) -> Change:
    """Set values of the pixel measures; None takes one out."""

    def change(data: FileDataset) -> None:
        item = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        for key, value in values.items():
            if value is None:
                delattr(item, key)
            else:
                setattr(item, key, value)

    return change


def moved(frame: int, by: Sequence[float]) -> Change:
    """Move a frame, mm."""

    def change(data: FileDataset) -> None:
        item = data.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]
        at = np.array(item.ImagePositionPatient, dtype=float) + by
        item.ImagePositionPatient = [_ds(value) for value in at]

    return change


def _frame(lps: npt.NDArray[np.float64], z: int, number: int, kind: str) -> Dataset:
    group = Dataset()
    at = (lps @ [0, 0, z, 1])[:3]
    group.PlanePositionSequence = [_item(ImagePositionPatient=[_ds(v) for v in at])]
    if kind != "LABELMAP":
        group.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=number)]
    return group


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return item


def _flat(lps: npt.NDArray[np.float64], grid: Grid) -> list[str]:
    return [_ds(v) for v in (lps[:3, :2] / grid.spacing[:2]).T.ravel()]


def _ds(value: float) -> str:
    return f"{value + 0.0:.10f}"[:16]
