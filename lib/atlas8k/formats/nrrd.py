"""Read NRRD and 3D Slicer's ``.seg.nrrd``: the header first, then voxels within bounds.

The library reads headers; voxels are read here, because it inflates a file whatever size its
header claims, and follows a header to any other file, as ITK does.
Space is turned from the file's (LPS, RAS or LAS) to RAS.

Sources: https://teem.sourceforge.net/nrrd/format.html and, for the ``Segment`` fields,
3D Slicer's ``vtkMRMLSegmentationStorageNode``.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import numpy.typing as npt
from isal import igzip
from nrrd.reader import _determine_datatype

from atlas8k.core.claims import MAX_LAYER_BYTES, too_many
from atlas8k.core.errors import (
    LabelNameError,
    NotFiniteError,
    NotThreeDimensionalError,
    UnreadableVolumeError,
    VolumeError,
)
from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Start
from atlas8k.core.label_mapping import from_tag
from atlas8k.core.nifti_file import PART_BYTES, READ_DAMAGE
from atlas8k.core.volume import whole_numbers
from atlas8k.core.voxels import in_file_order
from atlas8k.formats.segmentation import MAX_LAYERS, Fits, Segment, Segmentation

_TO_RAS: Mapping[str, tuple[int, int, int]] = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
}
_SEGMENT = re.compile(r"Segment(\d+)_(\w+)")
_MARK = b"NRRD"
_HEADER_BYTES = 1 << 24
"""A header of 255 segments has some 200 kB."""
_SegmentFields = tuple[Mapping[str, str], ...]


@dataclass(frozen=True, eq=False)
class _Header:
    """A header that has been checked.

    Attributes
    ----------
    sizes
        Voxels along the file's axes, the first the fastest.
    layer_axis
        The file's axis that is no axis of space, ``None`` where all three are.
    segments
        By number in the file, the ``Segment{n}_…`` fields; ``None`` for plain NRRD.
    data_at
        Position of the voxels in the file.
    start
        Index of the first voxel in the image that the segments were drawn on, where the
        header has it.
    """

    grid: Grid
    sizes: tuple[int, ...]
    layer_axis: int | None
    dtype: np.dtype[Any]
    gzipped: bool
    segments: _SegmentFields | None
    data_at: int
    start: Start | None

    @property
    def layers(self) -> int:
        return 1 if self.layer_axis is None else self.sizes[self.layer_axis]

    @property
    def stored_bytes(self) -> int:
        """Bytes of all voxels, as the header claims them."""
        return math.prod(self.sizes) * self.dtype.itemsize


def read_nrrd(path: Path, fits: Fits) -> Segmentation:
    """Read a NRRD file.

    Parameters
    ----------
    fits
        Called with the grid before voxels are read.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError
        The header is broken, claims too much, or the file ends too early or is damaged.
    LabelValueError
        Values are not whole numbers from 0 to 255.
    LabelNameError
        Segments without a name, or two for the same voxels.
    """
    header = _read_header(path)
    fits(header.grid, header.start)
    segments = None if header.segments is None else _segments(path, header)
    if segments is None and header.layers > 1:
        raise UnreadableVolumeError(path, "it has several layers and names no segments")
    layers = tuple(_read_layers(path, header))
    kind = "nrrd" if segments is None else "seg.nrrd"
    return Segmentation(path, kind, header.grid, layers, segments, start=header.start)  # type: ignore[arg-type]


def starts_as_nrrd(path: Path) -> bool:
    """Return whether a file begins as NRRD files do, whatever its name."""
    with open(path, "rb") as stream:
        return stream.read(len(_MARK)) == _MARK


def claimed_bytes(path: Path) -> int:
    """Return the bytes of all voxels as a NRRD file's header claims them, unpacked.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError
        As :func:`read_nrrd`, as far as the header shows it.
    """
    return _read_header(path).stored_bytes


def _read_header(path: Path) -> _Header:
    try:
        with open(path, "rb") as stream:
            fields = nrrd.read_header(list(_header_lines(stream)))
            data_at = stream.tell()
    except Exception as err:  # the parser raises what its many field types raise
        raise UnreadableVolumeError(path, f"not a readable NRRD header ({err})") from err
    try:
        return _checked(path, fields, data_at)
    except VolumeError:
        raise
    except (KeyError, TypeError, ValueError, nrrd.NRRDError) as err:
        raise UnreadableVolumeError(path, f"the NRRD header is broken ({err})") from err


def _header_lines(stream: Any) -> Iterator[str]:
    """Yield lines up to the empty one; 3D Slicer writes UTF-8, the library takes ASCII."""
    while line := stream.readline(_HEADER_BYTES):
        if stream.tell() > _HEADER_BYTES:
            raise ValueError(f"it does not end within {_HEADER_BYTES:,} bytes")
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            yield line.decode("latin-1")
        if not line.strip():
            break


def _checked(path: Path, fields: Mapping[str, Any], data_at: int) -> _Header:
    if "data file" in fields or "datafile" in fields:
        raise UnreadableVolumeError(
            path, "its voxels are in another file; save it as one file (.nrrd, not .nhdr)"
        )
    if any(int(fields.get(key, 0)) for key in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise UnreadableVolumeError(path, "skipped lines or bytes are not read; save it again")
    encoding = str(fields["encoding"]).lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise UnreadableVolumeError(path, f"encoding {encoding}; save it as raw or gzip")
    sizes = tuple(int(n) for n in fields["sizes"])
    if int(fields["dimension"]) != len(sizes) or len(sizes) not in (3, 4) or min(sizes) < 1:
        raise NotThreeDimensionalError(path, f"sizes {sizes} are not those of one 3D volume")
    layer_axis = _layer_axis(path, fields, len(sizes))
    space = [axis for axis in range(len(sizes)) if axis != layer_axis]
    shape = (sizes[space[0]], sizes[space[1]], sizes[space[2]])
    layers = 1 if layer_axis is None else sizes[layer_axis]
    if layers > MAX_LAYERS:
        raise UnreadableVolumeError(
            path, f"the header claims {layers} layers, at most {MAX_LAYERS} are read; it is broken"
        )
    if (why := too_many(shape)) is not None:
        raise UnreadableVolumeError(path, why)
    dtype = np.dtype(_determine_datatype(fields))
    if dtype.kind not in "iuf":
        raise UnreadableVolumeError(path, f"the NRRD header is broken (type {dtype})")
    if (stored := math.prod(sizes) * dtype.itemsize) > MAX_LAYER_BYTES:
        raise UnreadableVolumeError(
            path,
            f"the header claims {stored:,} bytes of voxels ({layers} layers of {dtype}), at most "
            f"{MAX_LAYER_BYTES:,} are read; save it in one layer of whole numbers",
        )
    try:
        grid = Grid(shape, _affine(path, fields, space))
    except NotFiniteError as err:
        raise NotFiniteError(path, err.reason) from err
    segments = _segment_fields(fields)
    start = _read_start(fields, segments, shape)
    return _Header(grid, sizes, layer_axis, dtype, encoding != "raw", segments, data_at, start)


def _read_start(
    fields: Mapping[str, Any], segments: _SegmentFields | None, shape: tuple[int, int, int]
) -> Start | None:
    """Read where 3D Slicer cut the block out of the image.

    Newer releases write the offset, older ones the extents of segments, whose hull is the block.
    """
    offset = str(fields.get("Segmentation_ReferenceImageExtentOffset", "")).split()
    if len(offset) == 3:
        return int(offset[0]), int(offset[1]), int(offset[2])
    extents = [[int(n) for n in s["Extent"].split()] for s in segments or () if "Extent" in s]
    if not extents or any(len(extent) != 6 for extent in extents):
        return None
    low, high = np.array(extents)[:, ::2].min(axis=0), np.array(extents)[:, 1::2].max(axis=0)
    if (high - low + 1 != shape).any():
        return None
    return int(low[0]), int(low[1]), int(low[2])


def _layer_axis(path: Path, fields: Mapping[str, Any], dimension: int) -> int | None:
    if dimension == 3:
        return None
    kinds = [str(kind).lower() for kind in fields.get("kinds") or []]
    other = [i for i, kind in enumerate(kinds) if kind not in ("domain", "space")]
    if len(kinds) != 4 or len(other) != 1 or other[0] not in (0, 3):
        raise NotThreeDimensionalError(
            path, "four axes, of which not exactly one holds layers; give one volume a file"
        )
    return other[0]


def _affine(path: Path, fields: Mapping[str, Any], space: list[int]) -> npt.NDArray[np.float64]:
    name = str(fields.get("space", "")).lower()
    if name not in _TO_RAS or "space directions" not in fields:
        raise UnreadableVolumeError(
            path,
            f"its space {name!r} does not say where it lies in the patient; save it from the "
            "segmentation with the CT as reference volume",
        )
    affine = np.eye(4)
    for column, axis in enumerate(space):
        affine[:3, column] = np.asarray(fields["space directions"][axis], dtype=np.float64)
    affine[:3, 3] = np.asarray(fields["space origin"], dtype=np.float64)
    return np.diag([*_TO_RAS[name], 1.0]) @ affine


def _segment_fields(fields: Mapping[str, Any]) -> _SegmentFields | None:
    segments: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        if match := _SEGMENT.fullmatch(key):
            segments.setdefault(int(match[1]), {})[match[2]] = str(value)
    if not segments and not any(key.startswith("Segmentation_") for key in fields):
        return None
    return tuple(segments[number] for number in sorted(segments))


def _segments(path: Path, header: _Header) -> tuple[Segment, ...]:
    by_place: dict[tuple[int, int], Segment] = {}
    for number, fields in enumerate(header.segments or ()):
        try:
            segment = _segment(number, fields, header.layers)
        except KeyError as err:
            raise LabelNameError(
                path, f"a segment without {err} in the header; save it again"
            ) from err
        except ValueError as err:
            raise LabelNameError(path, f"a segment's field is no number ({err})") from err
        place = (segment.layer, segment.value)
        if not (0 <= segment.layer < header.layers and 1 <= segment.value <= 255):
            raise LabelNameError(
                path,
                f"segment {segment.name!r} has value {segment.value} of layer {segment.layer}, "
                "which is out of range; save it again",
            )
        if place in by_place:
            raise LabelNameError(
                path,
                f"segments {by_place[place].name!r} and {segment.name!r} both have value "
                f"{segment.value} of layer {segment.layer}; save it again",
            )
        by_place[place] = segment
    return tuple(by_place.values())


def _segment(number: int, fields: Mapping[str, str], layers: int) -> Segment:
    # Before 3D Slicer 4.11 every segment had a layer of its own, of value 1.
    old = "LabelValue" not in fields and "Layer" not in fields and layers > number
    value = 1 if old else int(fields["LabelValue"])
    layer = number if old else int(fields.get("Layer", "0"))
    return Segment(fields["Name"], value, layer, from_tag(fields.get("Tags", "")))


def _read_layers(path: Path, header: _Header) -> list[npt.NDArray[np.uint8]]:
    """Read voxels, one ``(X, Y, Z)`` array a layer, some planes at a time.

    Not more bytes than the header claims are read, and only the labels are held.
    """
    try:
        with contextlib.ExitStack() as stack:
            stream: Any = stack.enter_context(open(path, "rb"))
            stream.seek(header.data_at)
            if header.gzipped:
                stream = stack.enter_context(igzip.IGzipFile(fileobj=stream, mode="rb"))
            layers = _fill_layers(path, stream, header)
            beyond = stream.read(1)  # past the voxels lies the checksum, too
    except VolumeError:
        raise
    except READ_DAMAGE as err:
        raise UnreadableVolumeError(path, f"the voxel data is damaged ({err})") from err
    if beyond:
        raise UnreadableVolumeError(
            path,
            f"it holds more voxels than its header says ({header.sizes} of {header.dtype}): sizes "
            "or type in the header are wrong; save it again",
        )
    return layers


def _fill_layers(path: Path, stream: Any, header: _Header) -> list[npt.NDArray[np.uint8]]:
    shape, together = header.grid.shape, header.layers if header.layer_axis == 0 else 1
    layers = [np.empty(shape, dtype=np.uint8, order="F") for _ in range(header.layers)]
    plane = together * shape[0] * shape[1]
    step = max(1, PART_BYTES // (plane * header.dtype.itemsize))
    found = 0
    for first in range(0, header.layers, together):
        for k in range(0, shape[2], step):
            planes = min(step, shape[2] - k)
            data = stream.read(planes * plane * header.dtype.itemsize)
            found += len(data)
            if len(data) < planes * plane * header.dtype.itemsize:
                raise UnreadableVolumeError(
                    path,
                    f"the voxel data ends after {found:,} of {header.stored_bytes:,} bytes; "
                    "send it again",
                )
            part = np.frombuffer(data, header.dtype)
            part = part.reshape((together, *shape[:2], planes), order="F")
            for layer, values in zip(layers[first : first + together], part, strict=True):
                layer[..., k : k + planes] = whole_numbers(values, path)
    return layers


def write_nrrd(path: Path, array: npt.NDArray[np.uint8], grid: Grid) -> Path:
    """Write ``(X, Y, Z)`` unpacked, in LPS; for a temporary file, since it is not atomic."""
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    fields = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "raw",
    }
    nrrd.write(str(path), in_file_order(array), fields, index_order="F")
    return path
