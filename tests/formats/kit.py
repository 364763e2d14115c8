"""DICOM series of a small body whose every voxel says where it is, and ways to spoil them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage

from atlas8k.core.grid import Grid
from atlas8k.formats.dicom import series_datasets
from atlas8k.formats.dicom.write import stable_uid

SHAPE = (6, 5, 8)


def oblique(spacing: tuple[float, float, float] = (0.8, 0.9, 2.5)) -> Grid:
    """An oblique right-handed grid whose axes all differ."""
    x, y, z = (np.array(part) for part in ([0.8, 0.6, 0], [-0.48, 0.64, 0.6], [0.36, -0.48, 0.8]))
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ np.column_stack([x, y, z]) * np.array(spacing)
    affine[:3, 3] = [-31.7, 12.9, -204.1]
    return Grid(SHAPE, affine)


def straight(step: float = 2.0, slices: int = SHAPE[2]) -> Grid:
    """Columns to the left, rows to the back, slices to the head, as a scanner writes them."""
    affine = np.diag([-1.5, -1.5, step, 1])
    affine[:3, 3] = [4, 5, -100]
    return Grid((*SHAPE[:2], slices), affine)


def ramp(shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.int16]:
    """Every voxel has another value, from air to bone."""
    return (np.arange(np.prod(shape), dtype=np.int16) * 7 - 1000).reshape(shape)


def datasets(grid: Grid | None = None, seed: str = "one", **words: Any) -> list[FileDataset]:
    grid = straight() if grid is None else grid
    return list(series_datasets(ramp(grid.shape), grid, seed=seed, **words))


def spoilt(change: Callable[[FileDataset, int], None], grid: Grid | None = None) -> list[Dataset]:
    """A good series of which `change(dataset, index)` has been made."""
    found = datasets(grid)
    for index, one in enumerate(found):
        change(one, index)
    return found


def save(folder: Path, found: list[FileDataset]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.dcm" for index in range(len(found))]
    for path, one in zip(paths, found, strict=True):
        one.save_as(path, write_like_original=False)
    return paths


def enhanced(found: list[FileDataset], order: list[int] | None = None) -> FileDataset:
    """The slices as one enhanced multi-frame CT, stored in `order`."""
    order = list(range(len(found))) if order is None else order
    one = copy.deepcopy(found[0])
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    uid = stable_uid("enhanced", str(found[0].SOPInstanceUID))
    one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = uid
    one.NumberOfFrames = len(order)
    one.PixelData = b"".join(found[index].PixelData for index in order)
    shared = Dataset()
    shared.PixelMeasuresSequence = _item(one, "PixelSpacing", "SliceThickness")
    shared.PlaneOrientationSequence = _item(one, "ImageOrientationPatient")
    one.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for index in order:
        group = Dataset()
        group.PlanePositionSequence = _item(found[index], "ImagePositionPatient")
        group.PixelValueTransformationSequence = _item(
            found[index], "RescaleSlope", "RescaleIntercept", "RescaleType"
        )
        groups.append(group)
    one.PerFrameFunctionalGroupsSequence = Sequence(groups)
    for keyword in (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
        *("RescaleSlope", "RescaleIntercept", "RescaleType"),
    ):
        delattr(one, keyword)
    return one


def _item(source: Dataset, *keywords: str) -> Sequence:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, source[keyword].value)
    return Sequence([item])
