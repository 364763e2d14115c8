"""Segmentation files as clients send them: NIfTI, NRRD, ``.seg.nrrd``, DICOM SEG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.grid import Grid

Format = Literal["nifti", "nrrd", "seg.nrrd", "dicom-seg"]


@dataclass(frozen=True)
class Segment:
    """One segment that a file names.

    Attributes
    ----------
    name
        As written in the file.
    value
        Voxel value, 1 to 255, within its layer.
    layer
        Position in :attr:`Segmentation.layers`.
    code
        SNOMED CT or SRT code of what it is, where the file has one.
    """

    name: str
    value: int
    layer: int = 0
    code: str | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a file holds, nothing interpreted yet.

    Attributes
    ----------
    layers
        One or more ``(X, Y, Z)`` uint8 on `grid`; segments of different layers may overlap.
    grid
        Where the voxels are, the file's own axes.
    segments
        In the file's order; ``None`` where the format names none (NIfTI, plain NRRD).
    """

    path: Path
    format: Format
    grid: Grid
    layers: tuple[npt.NDArray[np.uint8], ...]
    segments: tuple[Segment, ...] | None = None


def read_segmentation(path: str | Path, within: Grid | None = None) -> Segmentation:
    """Read a segmentation file, its header first.

    Parameters
    ----------
    path
        ``.nii``, ``.nii.gz``, ``.nrrd``, ``.seg.nrrd`` or ``.dcm``.
    within
        The CT's grid; a file that claims more voxels a layer than it has is refused before
        its voxels are read.

    Raises
    ------
    UnreadableVolumeError
        Missing, empty, truncated, of another format, a broken or too large header.
    NotThreeDimensionalError
        Not a volume (or layers of one).
    NotFiniteError
        NaN or infinity in voxels, affine or directions.
    LabelValueError
        Values that are negative, not whole, or above 255.
    GridMismatchError
        More voxels than `within`.
    """
    raise NotImplementedError
