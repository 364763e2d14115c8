"""What a segmentation file holds, nothing interpreted yet."""

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
"""More segments than this do not overlap in any file that somebody drew."""

Format = Literal["nifti", "nrrd", "seg.nrrd", "dicom-seg"]
Fits = Callable[[Grid, Start | None], object]
"""Called with where a file's voxels lie before they are read; raises where they are not wanted."""


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
    codes
        Of what it is and where, where the file has any.
    """

    name: str
    value: int
    layer: int = 0
    codes: Terminology | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a file holds.

    Attributes
    ----------
    layers
        One or more ``(X, Y, Z)`` uint8 on `grid`; segments of different layers may overlap.
    grid
        Where the voxels are, the file's own axes.
    segments
        In the file's order; ``None`` where the format names none (NIfTI, plain NRRD).
    start
        Index of the first voxel in the image it was drawn on, where the file says so.
    notes
        How the file was taken where it can be taken in more than one way, a sentence each.
    """

    path: Path
    format: Format
    grid: Grid
    layers: tuple[npt.NDArray[np.uint8], ...]
    segments: tuple[Segment, ...] | None = None
    start: Start | None = None
    notes: tuple[str, ...] = ()
