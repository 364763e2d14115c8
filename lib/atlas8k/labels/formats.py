"""Segmentation files as clients send them: NIfTI, NRRD, ``.seg.nrrd``, DICOM SEG.

What a file is, its first bytes say, not its name. The header comes first: voxels are
read only where they lie on the CT, and not more of them than the header claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.errors import LabelNameError, UnreadableVolumeError
from atlas8k.grid import Grid
from atlas8k.labels import dicom_seg, nrrd_file
from atlas8k.labels.grid_alignment import Start, find_placement
from atlas8k.labels.label_mapping import Terminology, from_tag
from atlas8k.volume import read_grid, read_label, whole_numbers

Format = Literal["nifti", "nrrd", "seg.nrrd", "dicom-seg"]
_Fits = Callable[[Grid, Start | None], object]


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
    """What a file holds, nothing interpreted yet.

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


def read_segmentation(path: str | Path, within: Grid | None = None) -> Segmentation:
    """Read a segmentation file, its header first.

    Parameters
    ----------
    path
        NIfTI (``.nii``, ``.nii.gz``), NRRD (``.nrrd``, ``.seg.nrrd``) or DICOM SEG.
    within
        The CT's grid; a file that does not lie on it voxel for voxel, as a whole or a
        block of it, is refused before its voxels are read.

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
    LabelNameError
        Segments without a name, or two for the same voxels.
    GridMismatchError
        Not on `within`.
    """
    path = Path(path)

    def fits(grid: Grid, start: Start | None = None) -> None:
        if within is not None:
            find_placement(grid, within, path, start=start)

    start = _first_bytes(path)
    if start.startswith(b"NRRD"):
        return _read_nrrd(path, fits)
    if start[128:132] == b"DICM":
        return _read_dicom(path, fits, within)
    fits(read_grid(path, block=True))
    label = read_label(path, block=True)
    return Segmentation(path, "nifti", label.grid, (label.array,))


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise UnreadableVolumeError(path, "no such file")
    try:
        with open(path, "rb") as stream:
            start = stream.read(132)
    except OSError as err:
        raise UnreadableVolumeError(path, f"cannot be read ({err})") from err
    if not start:
        raise UnreadableVolumeError(path, "the file is empty (0 bytes); send it again")
    return start


def _read_nrrd(path: Path, fits: _Fits) -> Segmentation:
    header = nrrd_file.read_header(path)
    fits(header.grid, header.start)
    segments = None if header.segments is None else _segments(path, header)
    layers = tuple(whole_numbers(part, path) for part in nrrd_file.read_layers(path, header))
    if segments is None and len(layers) > 1:
        raise UnreadableVolumeError(path, "it has several layers and names no segments")
    return Segmentation(
        path,
        "nrrd" if segments is None else "seg.nrrd",
        header.grid,
        layers,
        segments,
        start=header.start,
    )


def _segments(path: Path, header: nrrd_file.NrrdHeader) -> tuple[Segment, ...]:
    fields = header.segments or ()
    try:
        found = [_segment(number, entry, header.layers) for number, entry in enumerate(fields)]
    except KeyError as err:
        raise LabelNameError(path, f"a segment without {err} in the header; save it again") from err
    except ValueError as err:
        raise LabelNameError(path, f"a segment's field is no number ({err})") from err
    return _distinct(path, found, header.layers)


def _segment(number: int, fields: Mapping[str, str], layers: int) -> Segment:
    # Before 3D Slicer 4.11 every segment had a layer of its own, of value 1.
    old = "LabelValue" not in fields and "Layer" not in fields and layers > number
    value = 1 if old else int(fields["LabelValue"])
    layer = number if old else int(fields.get("Layer", "0"))
    return Segment(fields["Name"], value, layer, from_tag(fields.get("Tags", "")))


def _distinct(path: Path, segments: Iterable[Segment], layers: int) -> tuple[Segment, ...]:
    seen: dict[tuple[int, int], str] = {}
    for segment in segments:
        place = (segment.layer, segment.value)
        if not (0 <= segment.layer < layers and 1 <= segment.value <= 255):
            raise LabelNameError(
                path,
                f"segment {segment.name!r} is said to be value {segment.value} of layer "
                f"{segment.layer}, which cannot be; save it again",
            )
        if place in seen:
            raise LabelNameError(
                path,
                f"segments {seen[place]!r} and {segment.name!r} are both said to be value "
                f"{segment.value} of layer {segment.layer}; save it again",
            )
        seen[place] = segment.name
    return tuple(segments)


def _read_dicom(path: Path, fits: _Fits, within: Grid | None) -> Segmentation:
    found = dicom_seg.read_dicom_seg(path, lambda grid: fits(grid, None), within)
    segments = [Segment(one.name, one.value, one.layer, one.codes) for one in found.segments]
    return Segmentation(
        path, "dicom-seg", found.grid, found.layers, tuple(segments), notes=found.notes
    )
