"""Content of a segmentation file, before interpretation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Start
from atlas8k.core.label_mapping import Terminology

MAX_LAYERS = 64
"""Most layers: no drawn file has more segments that overlap."""

Format = Literal["nifti", "nrrd", "seg.nrrd", "dicom-seg"]
Fits = Callable[[Grid, Start | None], object]
"""Called with a file's grid before its voxels are read; raises where it does not fit the CT."""


@dataclass(frozen=True)
class Segment:
    """A segment of a file.

    Attributes
    ----------
    name
        Name as written in the file.
    value
        Voxel value, 1 to 255, within its layer.
    layer
        Position in :attr:`Segmentation.layers`.
    codes
        Codes of the structure and its region, where the file has any.
    """

    name: str
    value: int
    layer: int = 0
    codes: Terminology | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The layers and segments of a file.

    Attributes
    ----------
    layers
        One or more ``(X, Y, Z)`` uint8 on `grid`; segments of different layers may overlap.
    grid
        Grid of the voxels, the file's own axes.
    segments
        In the file's order; ``None`` where the format names none (NIfTI, plain NRRD).
    start
        Index of the first voxel in the image it was drawn on, where the file has it.
    notes
        How the file was read where there are several ways, a sentence each.
    """

    path: Path
    format: Format
    grid: Grid
    layers: tuple[npt.NDArray[np.uint8], ...]
    segments: tuple[Segment, ...] | None = None
    start: Start | None = None
    notes: tuple[str, ...] = ()
