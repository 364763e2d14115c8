"""Write a volume of a dataset as DICOM: its CT as a new series, its label as DICOM SEG of it.

Both hold voxels and geometry alone, so that nothing of the headers that a CT came with can be in
them: the Basic Application Level Confidentiality Profile by making objects anew (DICOM PS3.15,
Annex E; what a value must have is empty or a dummy). UIDs follow from the dataset, the volume and
the CT's hash: the same volume makes the same bytes. Voxels are as they are, a face included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileDataset

from atlas8k.core.files import sha256_of
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.formats.dicom import series_datasets
from atlas8k.formats.dicom.write import stable_uid
from atlas8k.formats.dicom_seg_writing import write_segmentation

PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")
"""PS3.16, CID 7050."""
METHOD = "Made anew of voxels and geometry alone"
DUMMY_DATE, DUMMY_TIME = "19000101", "000000"
_NO_DATES = (
    *("SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"),
    *("InstanceCreationDate", "InstanceCreationTime", "TimezoneOffsetFromUTC"),
)


class Identity(NamedTuple):
    """What a volume is called in the dataset, and what its UIDs follow from."""

    dataset: str
    name: str
    ct_sha256: str

    @property
    def seed(self) -> str:
        """Words that make the UIDs."""
        return "\x1f".join(self)

    @property
    def series(self) -> str:
        """SeriesInstanceUID of the CT."""
        return str(stable_uid("series", self.seed, self.seed))


def write_ct(folder: Path, ct: Volume, identity: Identity) -> int:
    """Write a CT as ``0001.dcm`` and so on into `folder`; return how many slices it has.

    HU are rounded to whole numbers.

    Raises
    ------
    GridMismatchError
        Its grid is sheared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, instance in enumerate(_instances(ct.array, ct.grid, identity), start=1):
        instance.save_as(folder / f"{count:04d}.dcm", write_like_original=False)
    return count


def write_seg(
    path: Path, array: npt.NDArray[np.uint8], grid: Grid, identity: Identity
) -> tuple[str, dict[str, int]]:
    """Write a label as DICOM SEG of the series of :func:`write_ct`.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids.

    Returns
    -------
    tuple
        SHA-256 of the file, hex, and the segment's number by organ; organs without voxels have
        none.

    Raises
    ------
    EmptyVolumeError
        No organ has a voxel.
    GridMismatchError
        The grid is sheared.
    """
    nothing = np.broadcast_to(np.int16(0), grid.shape)
    headers = [_without_pixels(one) for one in _instances(nothing, grid, identity)]
    with tempfile.TemporaryDirectory(prefix="atlas8k-seg-") as scratch:
        made = write_segmentation(
            array, grid, headers, Path(scratch) / "seg.dcm", description="Organs"
        )
        segmentation = pydicom.dcmread(made)
    _make_stable(segmentation, identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path, write_like_original=False)
    numbers = {
        str(one.SegmentLabel): int(one.SegmentNumber) for one in segmentation.SegmentSequence
    }
    return sha256_of(path), {organ: n for organ, n in numbers.items() if organ in ORGAN_IDS}


def series_files(folder: str, slices: int) -> list[str]:
    """Return the files of a series of so many slices."""
    return [f"{folder}/{number:04d}.dcm" for number in range(1, slices + 1)]


def _instances(array: npt.NDArray[Any], grid: Grid, identity: Identity) -> Iterator[FileDataset]:
    for instance in series_datasets(array, grid, seed=identity.seed, description="CT"):
        instance.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
        instance.StudyDescription = identity.dataset[:64]
        instance.PatientPosition = instance.KVP = ""
        _mark(instance, identity)
        yield instance


def _mark(instance: Dataset, identity: Identity) -> None:
    """Take off dates, and say whose it is and how it was made."""
    for keyword in _NO_DATES:
        if keyword in instance:
            delattr(instance, keyword)
    instance.StudyDate = instance.StudyTime = ""
    instance.ContentDate, instance.ContentTime = DUMMY_DATE, DUMMY_TIME
    instance.PatientName = instance.PatientID = identity.name[:64]
    instance.PatientIdentityRemoved = "YES"
    instance.DeidentificationMethod = METHOD
    instance.LongitudinalTemporalInformationModified = "REMOVED"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = PROFILE
    instance.DeidentificationMethodCodeSequence = pydicom.Sequence([code])


def _without_pixels(instance: Dataset) -> Dataset:
    del instance.PixelData
    return instance


def _make_stable(segmentation: Dataset, identity: Identity) -> None:
    """Give an object UIDs that follow from the volume, and no time."""
    _mark(segmentation, identity)
    segmentation.SeriesInstanceUID = stable_uid("seg series", identity.seed)
    segmentation.SOPInstanceUID = stable_uid("seg", identity.seed)
    segmentation.file_meta.MediaStorageSOPInstanceUID = segmentation.SOPInstanceUID
    organization = stable_uid("dimensions", identity.seed)
    for sequence in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in segmentation.get(sequence, ()):
            item.DimensionOrganizationUID = organization
