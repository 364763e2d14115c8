"""NRRD and 3D Slicer's ``.seg.nrrd``: the header first, then voxels within bounds.

The library reads headers; voxels are read here, because it inflates a file without
looking at how much its header claims, and follows a header to any other file. Space is
turned from the file's (LPS, RAS or LAS) to RAS.

Sources: https://teem.sourceforge.net/nrrd/format.html and, for the ``Segment`` fields,
3D Slicer's ``vtkMRMLSegmentationStorageNode``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import numpy.typing as npt
from isal import igzip

from atlas8k.errors import NotFiniteError, NotThreeDimensionalError, UnreadableVolumeError
from atlas8k.grid import Grid
from atlas8k.volume import MAX_VOXELS, READ_DAMAGE

_TO_RAS: Mapping[str, tuple[int, int, int]] = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_MAX_LAYERS = 64
_SEGMENT = re.compile(r"Segment(\d+)_(\w+)")


@dataclass(frozen=True, eq=False)
class NrrdHeader:
    """A header that has been looked through.

    Attributes
    ----------
    sizes
        Voxels along the file's axes, the first the fastest.
    layers
        Along `layer_axis`; 1 where there is none.
    layer_axis
        The file's axis that is no axis of space, ``None`` where all three are.
    segments
        By number in the file, the ``Segment{n}_…`` fields; ``None`` for plain NRRD.
    data_at
        Position of the voxels in the file.
    start
        Index of the first voxel in the image that the segments were drawn on, where the
        header says so.
    """

    grid: Grid
    sizes: tuple[int, ...]
    layers: int
    layer_axis: int | None
    dtype: np.dtype[Any]
    gzipped: bool
    segments: tuple[Mapping[str, str], ...] | None
    data_at: int
    start: tuple[int, int, int] | None = None


def read_header(path: Path) -> NrrdHeader:
    """Read and check a header.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError
        What is wrong with it.
    """
    try:
        with open(path, "rb") as stream:
            fields = nrrd.read_header(_header_lines(stream))
            data_at = stream.tell()
    except Exception as err:  # the parser raises what its many field types raise
        raise UnreadableVolumeError(path, f"not a readable NRRD header ({err})") from err
    try:
        return _checked(path, fields, data_at)
    except (KeyError, TypeError, ValueError) as err:
        if isinstance(err, UnreadableVolumeError | NotThreeDimensionalError | NotFiniteError):
            raise
        raise UnreadableVolumeError(path, f"the NRRD header is broken ({err})") from err


def _header_lines(stream: Any) -> list[str]:
    """Lines up to the empty one; 3D Slicer writes names in UTF-8, the library takes ASCII."""
    lines = []
    for line in iter(stream.readline, b""):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("latin-1"))
        if not line.strip():
            break
    return lines


def _checked(path: Path, fields: Mapping[str, Any], data_at: int) -> NrrdHeader:
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
    if layers > _MAX_LAYERS or shape[0] * shape[1] * shape[2] > MAX_VOXELS:
        raise UnreadableVolumeError(path, f"the header claims {sizes} voxels; it is broken")
    dtype = np.dtype(_TYPES[str(fields["type"]).lower()])
    if dtype.itemsize > 1:
        big = {"little": False, "big": True}[str(fields["endian"]).lower()]
        dtype = dtype.newbyteorder(">" if big else "<")
    try:
        grid = Grid(shape, _affine(path, fields, space))
    except NotFiniteError as err:
        raise NotFiniteError(path, err.reason) from err
    segments = _segment_fields(fields)
    return NrrdHeader(
        grid,
        sizes,
        layers,
        layer_axis,
        dtype,
        encoding != "raw",
        segments,
        data_at,
        _start(fields, segments, shape),
    )


def _start(
    fields: Mapping[str, Any],
    segments: tuple[Mapping[str, str], ...] | None,
    shape: tuple[int, int, int],
) -> tuple[int, int, int] | None:
    """Where 3D Slicer cut the block out of the image: newer releases say the offset, older ones
    the extents within the image, of which the block is the hull.
    """
    offset = [
        int(n) for n in str(fields.get("Segmentation_ReferenceImageExtentOffset", "")).split()
    ]
    if len(offset) == 3:
        return offset[0], offset[1], offset[2]
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
    directions = fields["space directions"]
    affine = np.eye(4)
    columns = [np.asarray(directions[axis], dtype=np.float64) for axis in space]
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = np.asarray(fields["space origin"], dtype=np.float64)
    return np.diag([*_TO_RAS[name], 1.0]) @ affine


def _segment_fields(fields: Mapping[str, Any]) -> tuple[Mapping[str, str], ...] | None:
    found: dict[int, dict[str, str]] = {}
    for key, value in fields.items():
        if match := _SEGMENT.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = str(value)
    if not found and not any(key.startswith("Segmentation_") for key in fields):
        return None
    return tuple(found[number] for number in sorted(found))


def read_layers(path: Path, header: NrrdHeader) -> list[npt.NDArray[Any]]:
    """Voxels, one ``(X, Y, Z)`` array a layer; not more bytes than the header says.

    Raises
    ------
    UnreadableVolumeError
        The file ends too early or is damaged.
    """
    wanted = int(np.prod(header.sizes, dtype=np.int64)) * header.dtype.itemsize
    data = np.empty(wanted, dtype=np.uint8)
    try:
        with open(path, "rb") as stream:
            stream.seek(header.data_at)
            if header.gzipped:
                with igzip.IGzipFile(fileobj=stream, mode="rb") as unpacked:
                    got = _fill(unpacked, data)
                    beyond = unpacked.read(1)  # past the voxels lies the checksum, too
            else:
                got = _fill(stream, data)
                beyond = stream.read(1)
    except READ_DAMAGE as err:
        raise UnreadableVolumeError(path, f"the voxel data is damaged ({err})") from err
    if got < wanted:
        raise UnreadableVolumeError(
            path, f"the voxel data ends after {got:,} of {wanted:,} bytes; send it again"
        )
    if beyond:
        raise UnreadableVolumeError(
            path,
            f"it holds more voxels than its header says ({header.sizes} of {header.dtype}): sizes "
            "or type in the header are wrong; save it again",
        )
    array = data.view(header.dtype).reshape(header.sizes, order="F")
    if header.layer_axis is None:
        return [array]
    return [np.asfortranarray(part) for part in np.moveaxis(array, header.layer_axis, 0)]


def _fill(stream: Any, data: npt.NDArray[np.uint8]) -> int:
    view, got = data.data, 0
    while got < len(view) and (n := stream.readinto(view[got:])):
        got += n
    return got


def write_nrrd(path: Path, array: npt.NDArray[np.uint8], grid: Grid) -> Path:
    """Write ``(X, Y, Z)`` unpacked, in LPS; for a file of one's own, not published."""
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    fields = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "raw",
    }
    nrrd.write(str(path), np.asfortranarray(array), fields, index_order="F")
    return path
