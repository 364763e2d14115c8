"""Open a NIfTI file: its header, bounded before it is paid for, and its voxels in parts.

The first bytes decide whether a file is packed: ``.nii`` that is gzip and ``.NII.GZ`` exist.
"""

from __future__ import annotations

import contextlib
import math
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import SpatialImage

from atlas8k.core.claims import MAX_EXTENSION_BYTES, too_many
from atlas8k.core.errors import (
    NotFiniteError,
    NotThreeDimensionalError,
    UnreadableVolumeError,
    VolumeError,
)
from atlas8k.core.grid import Grid
from atlas8k.core.nifti_geometry import Geometry, find_geometry

_EXTENSION_STEP = 16
"""Sizes of extensions are multiples of this; less than it at the end is filling."""

PART_BYTES = 1 << 24
"""Read at once as they are stored; most CTs take four times that while they are scaled."""
READ_DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, zlib.error, MemoryError),
    cast(type[Exception], IsalError),
)
"""Exceptions raised by reading the compressed voxels of a damaged file."""
_FILL = 4096
"""Most zeros that may follow the voxels: some writers fill up a block."""
_GZIP = b"\x1f\x8b"
_SINGLE = {
    (348, 344, b"n+1\0"): (nib.Nifti1Image, nib.Nifti1Header),
    (540, 4, b"n+2\0"): (nib.Nifti2Image, nib.Nifti2Header),
}
"""Size of the header, place and value of its mark: a header and voxels in one file."""
_PAIRED = ((344, b"ni1\0"), (4, b"ni2\0"))
"""Place and value of the mark of a header whose voxels are in another file."""


def is_packed(path: Path) -> bool:
    """Return whether a file is gzip, whatever its name."""
    with open(path, "rb") as stream:
        return stream.read(2) == _GZIP


def open_bytes(path: Path) -> Any:
    """Open a file as a stream of bytes, unpacked where it is gzip."""
    return igzip.open(path, "rb") if is_packed(path) else open(path, "rb")


def load_header(path: Path) -> tuple[Any, Any]:
    """Read an image without its voxels, and its header as it is in the file.

    Returns
    -------
    image, header
        nibabel's image, and its NIfTI or Analyze header *unchecked* (nibabel's checks repair
        errors silently); ``None`` for other formats.

    Raises
    ------
    UnreadableVolumeError
        What lies between header and voxels is too much, or not what it says it is.
    Exception
        Any that nibabel's many parsers raise.
    """
    with open_bytes(path) as stream:
        start = stream.read(max(size for size, _, _ in _SINGLE))
        for (size, at, mark), (image_class, header_class) in _SINGLE.items():
            if start[at : at + len(mark)] == mark and len(start) >= size:
                header = header_class(start[:size], check=False)
                stream.seek(size)
                _check_extensions(path, stream, header)
                stream.seek(0)
                return image_class.from_file_map({"image": FileHolder(fileobj=stream)}), header
    if any(start[at : at + len(mark)] == mark for at, mark in _PAIRED):
        raise UnreadableVolumeError(path, "its voxels are in another file; save it as one file")
    image: Any = nib.load(path)
    header = image.header
    return image, header if isinstance(header, nib.analyze.AnalyzeHeader) else None


def _check_extensions(path: Path, stream: Any, header: Any) -> None:
    """Refuse extensions that do not end before the voxels: nibabel reads whatever they claim.

    Parameters
    ----------
    stream
        At the end of the header.
    """
    offset = float(header["vox_offset"])
    between = offset - header.sizeof_hdr
    if not between <= MAX_EXTENSION_BYTES:
        raise UnreadableVolumeError(
            path,
            f"its header is followed by {between:,.0f} bytes before the voxels, at most "
            f"{MAX_EXTENSION_BYTES:,} are read; save it again without its extensions",
        )
    left = int(between) - len(stream.read(4))
    order: Literal["little", "big"] = "little" if header.endianness == "<" else "big"
    while left >= _EXTENSION_STEP:
        size = int.from_bytes(stream.read(4), order, signed=True)
        if not 8 <= size <= left:
            raise UnreadableVolumeError(
                path,
                f"a header extension claims {size:,} bytes where {left:,} are left before the "
                "voxels; save it again without its extensions",
            )
        stream.seek(size - 4, os.SEEK_CUR)
        left -= size


@contextlib.contextmanager
def open_voxels(path: Path, image: Any) -> Iterator[Any]:
    """Yield the image's data proxy, read through the fast gzip of `isal` where compressed.

    Raises
    ------
    UnreadableVolumeError
        The file ends too early, or its checksum is wrong.
    """
    try:
        if not isinstance(image, nib.Nifti1Image):  # of which Nifti2Image is one
            yield image.dataobj
            return
        with open_bytes(path) as stream:
            proxy = type(image).from_file_map({"image": FileHolder(fileobj=stream)}).dataobj
            yield proxy
            size = math.prod(proxy.shape) * proxy.dtype.itemsize
            stream.seek(proxy.offset + size)
            beyond = stream.read(_FILL + 1)  # past the voxels lies gzip's checksum, too
    except VolumeError:
        raise
    except READ_DAMAGE as err:
        raise UnreadableVolumeError(path, f"the voxel data is damaged ({err})") from err
    if len(beyond) > _FILL or any(beyond):
        raise UnreadableVolumeError(
            path,
            f"it holds more voxels than its header says ({'x'.join(map(str, proxy.shape))} of "
            f"{proxy.dtype}): sizes, type or start of the voxels in the header are wrong",
        )


def read_voxels(
    path: Path,
    image: Any,
    shape: tuple[int, int, int],
    dtype: npt.DTypeLike,
    convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] | None = None,
) -> npt.NDArray[Any]:
    """Read all voxels in Fortran order, scaled by the header's factors, as one type.

    nibabel holds a second copy, in float64 while it scales: so some planes are read at a time.

    Parameters
    ----------
    convert
        Called with some planes, returns them as `dtype`.

    Raises
    ------
    UnreadableVolumeError
        As :func:`open_voxels`.
    """
    plane = shape[0] * shape[1] * image.get_data_dtype().itemsize
    step = max(1, PART_BYTES // plane)
    with open_voxels(path, image) as proxy:
        array = np.empty(shape, dtype=dtype, order="F")
        beyond = (0,) * (len(proxy.shape) - 3)  # further axes of one voxel
        for k in range(0, shape[2], step):
            part = proxy[(..., slice(k, k + step), *beyond)]
            array[..., k : k + step] = part if convert is None else convert(part)
    return array


def open_nifti(path: Path, least: int = 2, stated: str | None = None) -> tuple[Any, Geometry]:
    """Open an image of at least `least` voxels an axis, voxels on disk; return its geometry too."""
    if not path.is_file():
        raise UnreadableVolumeError(path, "no such file")
    if path.stat().st_size == 0:
        raise UnreadableVolumeError(path, "the file is empty (0 bytes); copy it again")
    try:
        image, header = load_header(path)
    except UnreadableVolumeError:
        raise
    except EOFError as err:
        raise UnreadableVolumeError(path, f"the file is damaged ({err}); copy it again") from err
    except Exception as err:  # nibabel raises what its many parsers raise
        raise UnreadableVolumeError(path, f"not a readable NIfTI image ({err})") from err
    if not isinstance(image, SpatialImage) or image.affine is None:
        raise UnreadableVolumeError(path, "not an image with a position in space")
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < least:
        raise NotThreeDimensionalError(
            path, f"shape {image.shape} is not one 3D volume; give one CT phase per file"
        )
    if (why := too_many(shape)) is not None:
        raise UnreadableVolumeError(path, why)
    if image.get_data_dtype().names is not None:
        raise NotThreeDimensionalError(path, "a colour image; one value per voxel is needed")
    voxels = (shape[0], shape[1], shape[2])
    try:
        if header is not None:
            return image, find_geometry(header, voxels, path, stated)
        return image, Geometry(Grid(voxels, image.affine), "affine", plain=False)
    except (NotFiniteError, NotThreeDimensionalError) as err:
        raise type(err)(path, err.reason) from err
