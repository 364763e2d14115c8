"""The voxels of a NIfTI file: through a fast gzip, and in parts, so that one copy is held."""

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


@contextlib.contextmanager
def open_voxels(path: Path, image: Any) -> Iterator[Any]:
    """The image's data proxy, read through the fast gzip of `isal` where it is compressed.

    Raises
    ------
    UnreadableVolumeError
        The file ends too early, or its checksum is wrong.
    """
    try:
        if path.suffix != ".gz" or not isinstance(image, nib.Nifti1Image):
            yield image.dataobj
            return
        with igzip.open(path, "rb") as stream:
            yield type(image).from_file_map({"image": FileHolder(fileobj=stream)}).dataobj
            stream.read(1)  # past the voxels lies the checksum
    except READ_DAMAGE as err:
        raise UnreadableVolumeError(path, f"the voxel data is damaged ({err})") from err


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
