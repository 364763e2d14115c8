"""A client's segmentation made into one map of organ ids on the CT's grid, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlas8k.grid import Grid

ReadBy = Literal["label_info", "segment names", "codes", "organ ids"]


@dataclass(frozen=True)
class SegmentOverlap:
    """Voxels that two organs' segments of one file share.

    ``kept`` is the organ that has them in the map, ``lost`` the other.
    """

    kept: str
    lost: str
    voxels: int


@dataclass(frozen=True, eq=False)
class Submitted:
    """A segmentation taken in.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the CT's own grid.
    grid
        The CT's own grid.
    named
        Organs the client named, with voxels or without. Organs that are not named: the
        submission says nothing about them, and `array` has no voxels of them. Without
        names (``read_by`` is ``organ ids``) these are the organs that have voxels.
    read_by
        What decided which voxels are which organ.
    voxels
        Voxels by organ, of the organs in `named`.
    overlaps
        Where segments of two organs overlapped; the organ with fewer voxels keeps them.
    ignored
        Names of empty segments that mean no organ.
    """

    array: npt.NDArray[np.uint8]
    grid: Grid
    named: frozenset[str]
    read_by: ReadBy
    voxels: Mapping[str, int]
    overlaps: tuple[SegmentOverlap, ...] = ()
    ignored: tuple[str, ...] = ()


def ingest(
    path: str | Path,
    grid: Grid,
    label_info: Sequence[Mapping[str, Any]] | None = None,
    *,
    absent: Sequence[str] = (),
    may_be_empty: bool = False,
) -> Submitted:
    """Read a client's file and bring it to organ ids on the CT's grid.

    Parameters
    ----------
    path
        NIfTI, NRRD, ``.seg.nrrd`` or DICOM SEG.
    grid
        The CT's own grid.
    label_info
        As 3D Slicer sends it, for files that name no segments themselves: the value of an
        entry is 1 + its *position* in the list, empty segments and a background entry
        included; ``idx`` is wrong after a skipped segment and is not looked at. Without it
        values are organ ids 1 to 9.
    absent
        Organs (name or alias) that the client says are not there; they count as named.
    may_be_empty
        Accept a file without a single organ voxel, although nothing is said to be absent:
        for a CT whose start label is empty too.

    Raises
    ------
    VolumeError
        The file cannot be read or does not lie on the CT's grid; see
        :func:`~atlas8k.labels.formats.read_segmentation`.
    LabelNameError
        A segment with voxels that means no organ, two segments of one name, names that
        are no list of names, an organ said to be absent that has voxels.
    LabelValueError
        A value that no name or organ id belongs to.
    EmptyVolumeError
        No organ voxel, unless `absent` or `may_be_empty` says that this is meant.
    """
    raise NotImplementedError
