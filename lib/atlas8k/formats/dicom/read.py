"""Read a CT volume from a folder of DICOM files.

Headers are read first and judged (:mod:`atlas8k.formats.dicom.series`); only then are the voxels
of one series decoded, each file by GDCM through SimpleITK, which knows the compressed
transfer syntaxes (JPEG, JPEG-LS, JPEG 2000, RLE) and turns stored values into HU.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from atlas8k.core.errors import EmptyVolumeError, NotFiniteError, UnreadableVolumeError
from atlas8k.core.remarks import Remark
from atlas8k.core.volume import Volume
from atlas8k.formats.dicom.inflated import check_inflated
from atlas8k.formats.dicom.pixels import decode
from atlas8k.formats.dicom.planes import HEADER_KEYWORDS, text
from atlas8k.formats.dicom.refusals import (
    NoVolumeError,
    Reason,
    SeriesRefusedError,
    SeveralVolumesError,
)
from atlas8k.formats.dicom.series import Series, inspect

_PREAMBLE, _MARK, _SUFFIX = 128, b"DICM", ".dcm"
_UNDEFINED = 0xFFFFFFFF  # length of packed pixels
_LISTED = 12  # series that a message lists

Source = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Return whether `path` is a folder, or a file that begins as a DICOM file does."""
    path = Path(path)
    if path.is_dir():
        return True
    try:
        with open(path, "rb") as stream:
            return stream.read(_PREAMBLE + len(_MARK))[_PREAMBLE:] == _MARK
    except OSError:
        return False


def read_headers(source: Source) -> list[Dataset]:
    """Read the headers of the DICOM files in a folder and its subfolders, or of the given files.

    Files that are no DICOM are skipped, as are hidden ones and directories of media
    (DICOMDIR). A file named ``.dcm`` that is none is an error, since it may be a slice.

    Raises
    ------
    UnreadableVolumeError
        There is no such folder or file, or a DICOM file is damaged.
    """
    headers: list[Dataset] = []
    for path in _files(source):
        if not is_dicom(path):
            if path.suffix.lower() == _SUFFIX:
                raise UnreadableVolumeError(path, "named as DICOM, but it is none; copy it again")
            continue
        try:
            check_inflated(path)
            with open(path, "rb") as stream:
                header = pydicom.dcmread(
                    stream, stop_before_pixels=True, specific_tags=list(HEADER_KEYWORDS)
                )
                header.filename = str(path)
                header.pixel_bytes = _pixel_bytes(stream, header)
        except InvalidDicomError:
            continue
        except UnreadableVolumeError:
            raise
        except Exception as err:  # pydicom raises what its many parsers raise
            raise UnreadableVolumeError(path, f"its DICOM header is damaged ({err})") from err
        if header.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            continue
        if not (text(header, "SOPInstanceUID") and text(header, "SeriesInstanceUID")):
            raise UnreadableVolumeError(path, "its DICOM header is cut short; copy it again")
        headers.append(header)
    return headers


def _pixel_bytes(stream: BinaryIO, header: Dataset) -> int | None:
    """Read the length of unpacked pixels, at the end of the header; ``None`` if not given."""
    order: Literal["little", "big"] = "little" if header.is_little_endian else "big"
    start = stream.read(12)
    words = [int.from_bytes(start[i : i + 2], order) for i in (0, 2)]
    packed = header.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if words != [0x7FE0, 0x0010] or packed:
        return None
    length = int.from_bytes(start[4:8] if header.is_implicit_VR else start[8:12], order)
    return None if length == _UNDEFINED else length


def _files(source: Source) -> list[Path]:
    if not isinstance(source, str | os.PathLike):
        return [Path(path) for path in source]
    path = Path(source)
    if path.is_dir():
        paths = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
        return sorted(file for file in paths if not file.name.startswith(".") and file.is_file())
    if not path.is_file():
        raise UnreadableVolumeError(path, "no such file or folder")
    return [path]


def choose(series: Sequence[Series], name: str | Path, uid: str | None = None) -> Series:
    """Choose the one CT volume among series, or that of a UID.

    Parameters
    ----------
    name
        Name of the folder or study in messages.
    uid
        SeriesInstanceUID of the series to choose.

    Raises
    ------
    SeriesRefusedError
        The series of that UID, or every series, is no CT volume.
    SeveralVolumesError
        There are several, and `uid` is not given.
    NoVolumeError
        There is no series, or none of that UID.
    """
    if uid is not None:
        matching = [candidate for candidate in series if candidate.uid == uid]
        if not matching:
            raise NoVolumeError(name, f"no series {uid}; {_there_is(series)}")
        if matching[0].refusal is not None:
            others = [candidate for candidate in series if candidate is not matching[0]]
            more = f"; {_there_is(others)}" if others else ""
            raise SeriesRefusedError(name, f"{matching[0].refusal.message}{more}")
        return matching[0]
    volumes = [candidate for candidate in series if candidate.refusal is None]
    if len(volumes) > 1:
        raise SeveralVolumesError(
            name, f"{len(volumes)} CT volumes; name one with --series UID: {_listed(volumes)}"
        )
    if volumes:
        return volumes[0]
    if not series:
        raise NoVolumeError(name, "no DICOM images here")
    raise SeriesRefusedError(
        name, "no CT volume here: " + "; ".join(_line(candidate) for candidate in series[:_LISTED])
    )


_INCOMPLETE = frozenset(
    {Reason.DAMAGED, Reason.MIXED, Reason.TILTED, Reason.SHARED_UID, Reason.TWO_PHASES}
    | {Reason.MISSING_SLICE, Reason.UNEVEN}
)
"""Reasons for which the CT that the user wants may have been refused."""


def other_series(series: Sequence[Series]) -> tuple[Remark, ...]:
    """Remark on CT series beside the one to read that cannot be read."""
    messages = [
        candidate.refusal.message
        for candidate in series
        if candidate.refusal and candidate.refusal.reason in _INCOMPLETE
    ]
    if not messages:
        return ()
    more = f" and {len(messages) - _LISTED} more" if len(messages) > _LISTED else ""
    text = (
        f"beside the series that is read lies what cannot be: {'; '.join(messages[:_LISTED])}{more}"
    )
    return (Remark("other_series", f"{text}."),)


def _there_is(series: Sequence[Series]) -> str:
    return f"there is: {_listed(series)}" if series else "there are no DICOM images"


def _listed(series: Sequence[Series]) -> str:
    more = f" and {len(series) - _LISTED} more" if len(series) > _LISTED else ""
    return "; ".join(_line(item) for item in series[:_LISTED]) + more


def _line(series: Series) -> str:
    return (
        series.refusal.message
        if series.refusal
        else f"{series.name}, {len(series.instances)} slices"
    )


def read_volume(source: Source, series_uid: str | None = None) -> Volume:
    """Read the CT volume in a folder of DICOM files, on the series' own geometry.

    Parameters
    ----------
    source
        A folder, read with its subfolders, or files.
    series_uid
        The series to read, where there are several.

    Returns
    -------
    Volume
        ``array``: ``(X, Y, Z)`` float32, HU; axes are columns, rows and slices.

    Raises
    ------
    NoVolumeError, SeriesRefusedError, SeveralVolumesError
        As :func:`choose`.
    UnreadableVolumeError, EmptyVolumeError, NotFiniteError
        As :func:`read_series`; as :func:`read_headers`.
    """
    name = source if isinstance(source, str | os.PathLike) else "the files given"
    series = choose(inspect(read_headers(source)), os.fspath(name), series_uid)
    return read_series(series)


def read_series(series: Series) -> Volume:
    """Read the voxels of a series whose headers were read from files.

    Returns
    -------
    Volume
        ``array``: ``(X, Y, Z)`` float32, HU, on ``series.grid``, in Fortran order.
        ``path``: the folder of its first file.

    Raises
    ------
    VolumeError
        It is no CT volume; its refusal has the reason.
    UnreadableVolumeError
        A file is gone, or its pixels cannot be decoded.
    EmptyVolumeError
        Every voxel has one value.
    NotFiniteError
        NaN or infinity.
    """
    grid = series.grid
    paths = [instance.path for instance in series.instances]
    first = paths[0]
    if first is None or None in paths:
        raise UnreadableVolumeError(series.name, "its headers were not read from files")
    array = np.empty(grid.shape, dtype=np.float32, order="F")
    if len(set(paths)) == 1:
        frames = decode(first)
        for z, instance in enumerate(series.instances):
            array[:, :, z] = _fitting(frames[instance.frame], array, first)
    else:
        for z, path in enumerate(paths):
            array[:, :, z] = _fitting(decode(path or first)[0], array, path or first)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NotFiniteError(series.name, "it holds NaN or infinity; export it again")
    if low == high:
        raise EmptyVolumeError(series.name, f"every voxel has the value {low:g}; this is no CT")
    return Volume(array, grid, first.parent)


def _fitting(
    pixels: npt.NDArray[np.float32], array: npt.NDArray[np.float32], path: Path
) -> npt.NDArray[np.float32]:
    if pixels.T.shape != array.shape[:2]:
        raise UnreadableVolumeError(path, "its pixels are not as many as its header says")
    return pixels.T
