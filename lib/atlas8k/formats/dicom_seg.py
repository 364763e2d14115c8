"""Read DICOM SEG, its frames decoded by pydicom: binary, label map and fractional.

A frame is one plane of one segment (of all, in a label map) and has a position; planes
without voxels are often left out. The header is checked before voxels are decoded.

Sources: DICOM PS3.3, C.8.20 (segmentation), C.7.6.16 (functional groups).
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_pixel_data_frame
from pydicom.pixel_data_handlers.util import get_expected_length, pixel_dtype
from pydicom.uid import SegmentationStorage

from atlas8k.core.claims import MAX_LAYER_BYTES
from atlas8k.core.errors import LabelValueError, UnreadableVolumeError, VolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.label_mapping import from_dicom
from atlas8k.formats.dicom.inflated import check_inflated
from atlas8k.formats.dicom.planes import frame_count, planes_of, raw
from atlas8k.formats.dicom_seg_stack import Stack, stack
from atlas8k.formats.segmentation import MAX_LAYERS, Fits, Segment, Segmentation

_LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"  # younger than pydicom 2's dictionary
_MAX_SEGMENTS = 255
_LISTED = 5
_OVERHEAD = 1024
"""Bytes that an encoder may add to a frame, beside twice its size."""
_PIXEL_KEYWORDS = (
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PhotometricInterpretation", "PlanarConfiguration"),
)

Labels = npt.NDArray[np.uint8]


def read_dicom_seg(path: Path, fits: Fits, within: Grid | None) -> Segmentation:
    """Read a DICOM SEG object; segments in its order, those without a frame included.

    Parameters
    ----------
    fits
        Called with the grid before voxels are decoded. Its axes are columns, rows, and planes
        along their normal.
    within
        The CT's grid, where it is known: planes with empty ones left out between them count
        as planes of the CT, unless the object states otherwise.

    Raises
    ------
    UnreadableVolumeError
        No DICOM SEG object, its geometry or frames are not clear, or its pixels cannot be
        decoded.
    LabelValueError
        A label map has values of no described segment.
    """
    header = _read(path, pixels=False)
    try:
        described = _described(path, header, within)
    except VolumeError:
        raise
    except Exception as err:  # pydicom converts on access, and raises what its converters raise
        raise UnreadableVolumeError(path, f"its DICOM header is damaged ({err})") from err
    grid = described.where.grid
    fits(grid, None)
    pixels = _Frames(path, described.where)
    if described.numbers is None:
        layers: tuple[Labels, ...] = (_label_map(path, described, pixels),)
        segments = tuple(described.segments.values())
    else:
        layers, segments = _layers(path, described, pixels)
    return Segmentation(path, "dicom-seg", grid, layers, segments, notes=described.notes)


@dataclass(frozen=True)
class _Described:
    """The parts of a header that reading needs.

    Attributes
    ----------
    segments
        By the number that frames refer to, which may have gaps; values are 1 and so on in the
        object's list. Without the background of a label map.
    numbers
        Segment of each frame; None where the voxels hold it (label map).
    """

    where: Stack
    segments: dict[int, Segment]
    numbers: tuple[int, ...] | None
    background: int
    threshold: float
    notes: tuple[str, ...]


def _described(path: Path, header: Dataset, within: Grid | None) -> _Described:
    kind = str(header.get("SegmentationType", "")).upper()
    padding = int(raw(header, "PixelPaddingValue") or 0)
    segments = _segments(path, header)
    if kind == "LABELMAP" and "PixelPaddingValue" in header:
        segments.pop(padding, None)
    if not segments:
        raise UnreadableVolumeError(path, "the DICOM SEG object has no segment")
    groups = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    if not groups or len(groups) != frame_count(header):
        raise UnreadableVolumeError(
            path, f"it has {frame_count(header)} frames and says where {len(groups)} of them are"
        )
    where = stack(path, planes_of(header), header, within)
    threshold, notes = _threshold(path, header, kind)
    numbers = None if kind == "LABELMAP" else _numbers(path, header, groups)
    if numbers and (odd := sorted({*numbers} - segments.keys())):
        raise UnreadableVolumeError(
            path, f"frames are of segment {odd[0]}, which the object does not describe"
        )
    _check_once(path, where, numbers)
    return _Described(where, segments, numbers, padding, threshold, notes)


def _read(path: Path, *, pixels: bool) -> Dataset:
    try:
        check_inflated(path)
        data = pydicom.dcmread(path, stop_before_pixels=not pixels)
        kind = data.SOPClassUID
    except UnreadableVolumeError:
        raise
    except Exception as err:  # pydicom raises what its many parsers raise
        raise UnreadableVolumeError(path, f"not a readable DICOM object ({err})") from err
    if kind not in (SegmentationStorage, _LABEL_MAP_STORAGE):
        raise UnreadableVolumeError(path, f"a DICOM object, but no segmentation: {kind.name}")
    return data


def _segments(path: Path, header: Dataset) -> dict[int, Segment]:
    segments: dict[int, Segment] = {}
    for value, item in enumerate(header.get("SegmentSequence") or (), start=1):
        number = int(item.SegmentNumber)
        if number in segments:
            raise UnreadableVolumeError(
                path, f"it describes segment {number} twice; export it again"
            )
        kind = (item.get("SegmentedPropertyTypeCodeSequence") or [Dataset()])[0]
        name = item.get("SegmentLabel") or item.get("SegmentDescription") or kind.get("CodeMeaning")
        segments[number] = Segment(str(name or ""), value, codes=from_dicom(item))
    if len(segments) > _MAX_SEGMENTS:
        raise UnreadableVolumeError(
            path, f"it has {len(segments)} segments; at most {_MAX_SEGMENTS} are read"
        )
    return segments


def _numbers(path: Path, header: Dataset, groups: Sequence[Dataset]) -> tuple[int, ...]:
    """Read the number of each frame's segment."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    numbers = []
    for frame, group in enumerate(groups, start=1):
        items = group.get("SegmentIdentificationSequence") or shared.get(
            "SegmentIdentificationSequence"
        )
        number = items[0].get("ReferencedSegmentNumber") if items else None
        if number is None:
            raise UnreadableVolumeError(
                path, f"frame {frame} of {len(groups)} does not say which segment it is of"
            )
        numbers.append(int(number))
    return tuple(numbers)


def _check_once(path: Path, where: Stack, numbers: Sequence[int] | None) -> None:
    """Refuse two frames of one segment at one place, since neither is preferred."""
    segment_of_frame = numbers or [0] * len(where.places)
    keys = Counter(zip(segment_of_frame, where.places, strict=True))
    if twice := [key for key, n in keys.items() if n > 1]:
        number, place = twice[0]
        what = "of the label map" if numbers is None else f"of segment {number}"
        raise UnreadableVolumeError(
            path,
            f"two frames {what} lie at one place (slice {place + 1} of {where.grid.shape[2]}; "
            f"{len(twice)} such places); export it again",
        )


def _threshold(path: Path, header: Dataset, kind: str) -> tuple[float, tuple[str, ...]]:
    """Return the stored value from which on a voxel is in its segment, and a note about it."""
    if kind in ("BINARY", "LABELMAP"):
        return 1, ()
    if kind != "FRACTIONAL":
        raise UnreadableVolumeError(
            path, f"segmentation type {kind or 'not given'}; BINARY, LABELMAP, FRACTIONAL are read"
        )
    full = int(raw(header, "MaximumFractionalValue") or 0)
    if full < 1:
        raise UnreadableVolumeError(
            path, "it is fractional and does not say its MaximumFractionalValue; export it again"
        )
    what = str(header.get("SegmentationFractionalType", "")).lower() or "fraction"
    return full / 2, (
        f"fractional ({what}, 0 to {full}): cut at {full / 2:g}, half of "
        "MaximumFractionalValue; voxels below are not in the segment",
    )


class _Frames:
    """Stored values of the frames, decoded one at a time: many segments take much together.

    Parameters
    ----------
    where
        Says how many frames there are, and their size.
    """

    def __init__(self, path: Path, where: Stack) -> None:
        self._path, self._count = path, len(where.places)
        self._columns, self._rows, _ = where.grid.shape
        self._data = _read(path, pixels=True)
        _check_length(path, self._data)
        with self._decoding():
            if self._data.SamplesPerPixel != 1:
                raise ValueError("more than one value a pixel")
            self._stored: Sequence[bytes] = (
                list(generate_pixel_data_frame(self._data.PixelData, self._count))
                if self._data.file_meta.TransferSyntaxUID.is_compressed
                else ()
            )
            self.dtype = np.dtype(np.uint8) if self._bits == 1 else pixel_dtype(self._data)

    @property
    def _bits(self) -> int:
        return int(self._data.BitsAllocated)

    def __getitem__(self, frame: int) -> npt.NDArray[Any]:
        """Return ``(X, Y)``."""
        with self._decoding():
            values = self._packed(frame) if self._stored else self._plain(frame)
            return values.reshape(self._rows, self._columns).T

    def _plain(self, frame: int) -> npt.NDArray[Any]:
        plane, data = self._columns * self._rows, self._data.PixelData
        if self._bits != 1:
            return np.frombuffer(data, self.dtype, plane, frame * plane * self.dtype.itemsize)
        start, more = divmod(frame * plane, 8)
        part = np.frombuffer(data[start : start + (more + plane + 7) // 8], np.uint8)
        return np.unpackbits(part, bitorder="little")[more : more + plane]

    def _packed(self, frame: int) -> npt.NDArray[Any]:
        stored, size = self._stored[frame], self._columns * self._rows * self.dtype.itemsize
        if len(stored) > 2 * size + _OVERHEAD:  # decoders unpack all of it before they look
            raise ValueError(f"frame {frame + 1} has {len(stored):,} bytes for {size:,}")
        one = Dataset()
        one.file_meta = self._data.file_meta
        one.is_little_endian, one.is_implicit_VR = True, False
        for keyword in _PIXEL_KEYWORDS:
            if keyword in self._data:
                setattr(one, keyword, self._data[keyword].value)
        one.NumberOfFrames = 1
        one.PixelData = encapsulate([stored])
        one["PixelData"].is_undefined_length = True
        return np.asarray(one.pixel_array)

    @contextlib.contextmanager
    def _decoding(self) -> Iterator[None]:
        try:
            yield
        except Exception as err:  # pydicom and its decoders raise what they please
            last = str(err).strip().splitlines()[-1][:200] if str(err).strip() else repr(err)
            raise UnreadableVolumeError(
                self._path, f"its pixels cannot be decoded ({last})"
            ) from err


def _check_length(path: Path, data: Dataset) -> None:
    """Refuse unpacked pixels that are more than the sizes need."""
    if data.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in data:
        return
    needed, stored = get_expected_length(data), len(data.PixelData)
    if stored > needed + needed % 2:
        raise UnreadableVolumeError(
            path,
            f"it has {stored:,} bytes of pixels where NumberOfFrames, Rows, Columns and "
            f"BitsAllocated say {needed:,}; export it again",
        )


def _label_map(path: Path, described: _Described, pixels: _Frames) -> Labels:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableVolumeError(path, f"a label map of {pixels.dtype}; 8 or 16 bits are read")
    table = np.zeros(np.iinfo(pixels.dtype).max + 1, dtype=np.uint8)
    known = np.zeros(table.shape, dtype=bool)
    known[0] = True
    if 0 <= described.background < len(known):
        known[described.background] = True
    for number, segment in described.segments.items():
        if number < len(table):
            table[number], known[number] = segment.value, True
    layer = np.zeros(described.where.grid.shape, dtype=np.uint8, order="F")
    undescribed: set[int] = set()
    for number, place in enumerate(described.where.places):
        frame = pixels[number]
        undescribed.update(np.unique(frame[~known[frame]]).tolist())
        layer[:, :, place] = table[frame]
    if undescribed:
        values = ", ".join(map(str, sorted(undescribed)[:_LISTED]))
        raise LabelValueError(path, f"label values {values}: no segment is described for them")
    return layer


def _layers(
    path: Path, described: _Described, pixels: _Frames
) -> tuple[tuple[Labels, ...], tuple[Segment, ...]]:
    """Put each segment into the first layer in which it covers no other."""
    planes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for frame, (number, place) in enumerate(
        zip(described.numbers or (), described.where.places, strict=True)
    ):
        planes[number].append((place, frame))
    threshold, most = described.threshold, _most_layers(described.where.grid)
    layers: list[Labels] = []
    segments = []
    for number, segment in described.segments.items():
        frames = [(place, pixels[frame] >= threshold) for place, frame in planes[number]]
        free = (
            index
            for index, layer in enumerate(layers)
            if not any(layer[:, :, place][drawn].any() for place, drawn in frames)
        )
        index = next(free, len(layers))
        if index == most:
            raise UnreadableVolumeError(path, f"more than {most} segments overlap; export fewer")
        if index == len(layers):
            layers.append(np.zeros(described.where.grid.shape, dtype=np.uint8, order="F"))
        for place, drawn in frames:
            layers[index][:, :, place][drawn] = segment.value
        segments.append(replace(segment, layer=index))
    return tuple(layers), tuple(segments)


def _most_layers(grid: Grid) -> int:
    """Return how many layers of this grid are held, one at least."""
    return max(1, min(MAX_LAYERS, MAX_LAYER_BYTES // math.prod(grid.shape)))
