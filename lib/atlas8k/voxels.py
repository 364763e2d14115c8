"""A NIfTI file opened: by its first bytes, through a fast gzip, and voxels in parts.

Whether a file is packed, its first bytes say: ``.nii`` that is gzip and ``.NII.GZ`` are met.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.fileholders import FileHolder

from atlas8k.errors import UnreadableVolumeError

PART_VOXELS = 1 << 23
"""Read at once: 16 MiB as most CTs are stored, 64 MiB while they are scaled."""
READ_DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, EOFError, ValueError, zlib.error, MemoryError),
    cast(type[Exception], IsalError),
)
"""What reading the compressed voxels of a damaged file raises."""


_FILL = 4096
"""Zeros that may follow the voxels: some writers fill up a block."""
_GZIP = b"\x1f\x8b"
_SINGLE = {
    (348, 344, b"n+1\0"): (nib.Nifti1Image, nib.Nifti1Header),
    (540, 4, b"n+2\0"): (nib.Nifti2Image, nib.Nifti2Header),
}
"""Size of the header, place and value of its mark: a header and voxels in one file."""


def is_packed(path: Path) -> bool:
    """Whether a file is gzip, whatever its name."""
    with open(path, "rb") as stream:
        return stream.read(2) == _GZIP


def open_bytes(path: Path) -> Any:
    """The file's content as a stream, unpacked where it is gzip."""
    return igzip.open(path, "rb") if is_packed(path) else open(path, "rb")


def load_header(path: Path) -> tuple[Any, Any]:
    """The image, its voxels not read, and its header as it lies in the file.

    Returns
    -------
    image, header
        nibabel's image, and its NIfTI or Analyze header *unchecked* (nibabel's checks mend
        what they find without a word); ``None`` for other formats.

    Raises
    ------
    Exception
        What nibabel's many parsers raise.
    """
    with open_bytes(path) as stream:
        start = stream.read(max(size for size, _, _ in _SINGLE))
        for (size, at, mark), (image_class, header_class) in _SINGLE.items():
            if start[at : at + len(mark)] == mark and len(start) >= size:
                header = header_class(start[:size], check=False)
                stream.seek(0)
                return image_class.from_file_map({"image": FileHolder(fileobj=stream)}), header
    image: Any = nib.load(path)
    header = image.header
    return image, header if isinstance(header, nib.analyze.AnalyzeHeader) else None


@contextlib.contextmanager
def open_voxels(path: Path, image: Any) -> Iterator[Any]:
    """The image's data proxy, read through the fast gzip of `isal` where it is compressed.

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
            size = int(np.prod(proxy.shape, dtype=np.int64)) * proxy.dtype.itemsize
            stream.seek(proxy.offset + size)
            beyond = stream.read(_FILL + 1)  # past the voxels lies gzip's checksum, too
    except READ_DAMAGE as err:
        raise UnreadableVolumeError(path, f"the voxel data is damaged ({err})") from err
    if len(beyond) > _FILL or any(beyond):
        raise UnreadableVolumeError(
            path,
            f"it holds more voxels than its header says ({'x'.join(map(str, proxy.shape))} of "
            f"{proxy.dtype}): sizes, type or start of the voxels in the header are wrong",
        )


def read_voxels(
    path: Path, image: Any, shape: tuple[int, int, int], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """All voxels in Fortran order, scaled as the header says, as one type.

    nibabel holds what it reads once more, and as float64 while it scales it: so it is asked
    for some planes at a time.

    Raises
    ------
    UnreadableVolumeError
        As :func:`open_voxels`.
    """
    step = max(1, PART_VOXELS // (shape[0] * shape[1]))
    with open_voxels(path, image) as proxy:
        array = np.empty(shape, dtype=dtype, order="F")
        beyond = (0,) * (len(proxy.shape) - 3)  # further axes of one voxel
        for k in range(0, shape[2], step):
            array[..., k : k + step] = proxy[(..., slice(k, k + step), *beyond)]
    return array
