"""Read and write NIfTI, through a fast gzip, voxels in parts.

The first bytes decide whether a file is packed: ``.nii`` that is gzip and ``.NII.GZ`` exist.
The words for where an array lies, :class:`Grid` and :class:`Volume`, are those of
:mod:`atlas8k.core.grid`, and the ways from one grid to another those of
:mod:`atlas8k.core.resample`; both can be imported from here.
"""

from __future__ import annotations

import contextlib
import math
import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.fileholders import FileHolder
from nibabel.nifti1 import Nifti1Extension
from nibabel.spatialimages import SpatialImage

from atlas8k.core.claims import MAX_EXTENSION_BYTES, excess, too_many
from atlas8k.core.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelValueError,
    NotFiniteError,
    NotThreeDimensionalError,
    UnreadableVolumeError,
    VolumeError,
)
from atlas8k.core.files import publishing
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.nifti_geometry import Geometry, find_geometry
from atlas8k.core.resample import resample, to_canonical
from atlas8k.core.stated_geometry import stated_for

__all__ = ["Grid", "Volume", "resample", "to_canonical"]

NIFTI_SUFFIXES = (".nii.gz", ".nii", ".NII.GZ", ".NII")
DUST = 1e-3
"""Largest distance of a label's value from a whole number: rounding, or a scale factor."""

_EXTENSION_STEP = 16
"""Sizes of extensions are multiples of this; less than it at the end is filling."""
_COMMENT = 6
"""NIfTI extension code "comment": plain ASCII text, which other tools show or ignore."""

GZIP_LEVEL = 1
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


class Plane(NamedTuple):
    """One plane of a volume: ``array``, its two axes; ``grid`` of the whole volume."""

    array: npt.NDArray[Any]
    grid: Grid


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


def _open_nifti(path: Path, least: int = 2, stated: str | None = None) -> tuple[Any, Geometry]:
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


def _open_ct(path: Path, stated: str | None) -> tuple[Any, Geometry]:
    """Open a CT as :func:`_open_nifti`, of a size that scanners make and networks can take."""
    image, geometry = _open_nifti(path, 2, stated or stated_for(path))
    if (why := excess(geometry.grid.shape, geometry.grid.spacing)) is not None:
        raise UnreadableVolumeError(path, why)
    return image, geometry


def read_geometry(path: str | os.PathLike[str], *, stated: str | None = None) -> Geometry:
    """Read a CT's geometry, with remarks on what is odd about it, from the header alone.

    Parameters
    ----------
    stated
        Orientation stated beside the file, see
        :func:`~atlas8k.core.nifti_geometry.check_stated`; else that in ``orientation.yaml``,
        see :mod:`atlas8k.core.stated_geometry`.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError, GeometryError
        As :func:`read_ct`, as far as the header shows it.
    """
    path = Path(path)
    return _open_ct(path, stated)[1]


def read_grid(
    path: str | os.PathLike[str], *, block: bool = False, stated: str | None = None
) -> Grid:
    """Read a NIfTI file's grid, from its header alone.

    Parameters
    ----------
    block
        It is a label, which may be a piece of a volume, one voxel thick;
        ``orientation.yaml`` does not count for it.
    stated
        As :func:`read_geometry`.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError, GeometryError
        As :func:`read_ct`, as far as the header shows it.
    """
    if block:
        return _open_nifti(Path(path), 1, stated)[1].grid
    return read_geometry(path, stated=stated).grid


def read_ct(path: str | Path, *, stated: str | None = None) -> Volume:
    """Read a CT.

    Parameters
    ----------
    stated
        As :func:`read_geometry`.

    Returns
    -------
    Volume
        ``array``: ``(X, Y, Z)`` float32, HU, the file's own axes.

    Raises
    ------
    UnreadableVolumeError
        Missing, truncated, or not NIfTI.
    NotThreeDimensionalError
        2D, 4D or colour.
    GeometryError
        Its header has no geometry, and none is stated.
    EmptyVolumeError
        Every voxel has one value.
    NotFiniteError
        NaN or infinity in voxels or affine.
    """
    path = Path(path)
    image, geometry = _open_ct(path, stated)
    array = read_voxels(path, image, geometry.grid.shape, np.float32)
    volume = Volume(array, geometry.grid, path)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NotFiniteError(path, "the image holds NaN or infinity; export the CT again")
    if low == high:
        raise EmptyVolumeError(path, f"every voxel has the value {low:g}; this is no CT")
    return volume


def read_label(path: str | Path, *, block: bool = False, stated: str | None = None) -> Volume:
    """Read a label map; ``array``: ``(X, Y, Z)`` uint8, the file's own axes.

    Parameters
    ----------
    block
        It may be a piece of a volume, one voxel thick.
    stated
        See :func:`~atlas8k.core.nifti_geometry.check_stated`.

    Raises
    ------
    UnreadableVolumeError, GeometryError
        As :func:`read_ct`.
    LabelValueError
        Values are not whole numbers from 0 to 255.
    """
    path = Path(path)
    image, geometry = _open_nifti(path, 1 if block else 2, stated)
    grid = geometry.grid
    array = read_voxels(path, image, grid.shape, np.uint8, partial(whole_numbers, path=path))
    return Volume(array, grid, path)


def read_plane(path: str | Path, axis: int, index: int, *, label: bool = False) -> Plane:
    """Read one plane of a CT or a label, holding no more than some planes in memory.

    Parameters
    ----------
    axis, index
        The plane: its array axis, 0 to 2, and the index along that, from 0.
    label
        Whole numbers from 0 to 255, as uint8; else HU, float32.

    Returns
    -------
    Plane
        ``array``: the other two axes in their order; ``grid``: of the whole volume.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError, GeometryError
        As :func:`read_ct`, as far as the plane shows it.
    LabelValueError
        As :func:`read_label`.
    IndexError
        There is no such plane.
    """
    path = Path(path)
    image, geometry = _open_nifti(path, 1) if label else _open_ct(path, None)
    shape = geometry.grid.shape
    if not 0 <= index < shape[axis]:
        raise IndexError(f"{path}: axis {axis} has {shape[axis]} planes, there is no {index}")
    step = 1 if axis == 2 else max(1, PART_BYTES // (shape[0] * shape[1] * 8))
    starts = [index] if axis == 2 else list(range(0, shape[2], step))
    with open_voxels(path, image) as proxy:
        beyond = (0,) * (len(proxy.shape) - 3)
        parts = []
        for k in starts:
            part = np.asarray(proxy[(..., slice(k, k + step), *beyond)])
            parts.append(part[..., 0] if axis == 2 else np.take(part, index, axis=axis).copy())
    array = parts[0] if axis == 2 else np.concatenate(parts, axis=-1)
    return Plane(whole_numbers(array, path) if label else array.astype(np.float32), geometry.grid)


def label_parts(path: str | Path) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield a label some planes at a time: the index of the first along axis 2, and the planes.

    ``(X, Y, n)`` uint8, the file's own axes; no more than a part is in memory.

    Raises
    ------
    UnreadableVolumeError, GeometryError, LabelValueError
        As :func:`read_label`.
    """
    path = Path(path)
    image, geometry = _open_nifti(path, 1)
    shape = geometry.grid.shape
    step = max(1, PART_BYTES // (shape[0] * shape[1] * image.get_data_dtype().itemsize))
    with open_voxels(path, image) as proxy:
        beyond = (0,) * (len(proxy.shape) - 3)
        for k in range(0, shape[2], step):
            part = np.asarray(proxy[(..., slice(k, k + step), *beyond)])
            yield k, whole_numbers(part, path)


def whole_numbers(array: npt.NDArray[Any], path: str | Path) -> npt.NDArray[np.uint8]:
    """Return label values of any number type as uint8, the same memory order.

    Fractions up to :data:`DUST` come from arithmetic and are rounded off.

    Raises
    ------
    NotFiniteError
        NaN or infinity.
    LabelValueError
        Values are not whole numbers from 0 to 255.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "biuf":
        raise LabelValueError(path, f"values of type {array.dtype} are no label values")
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NotFiniteError(path, "the label map holds NaN or infinity")
    if low >= -DUST and high <= 255 + DUST:
        if array.dtype.kind != "f":
            return array.astype(np.uint8)
        rounded: npt.NDArray[Any] = np.rint(array)
        if np.abs(rounded - array).max() <= DUST:
            return rounded.astype(np.uint8)
    raise LabelValueError(
        path,
        f"label values must be whole numbers from 0 to 255; these go from {low:g} to {high:g}"
        + (" with fractions between" if low >= -DUST and high <= 255 + DUST else ""),
    )


def write_nifti(
    path: str | Path, array: npt.NDArray[Any], grid: Grid, comment: str | None = None
) -> Path:
    """Write ``array`` with its grid; complete or not at all.

    The file is written under a temporary name beside ``path``, synced, then renamed.

    Parameters
    ----------
    comment
        ASCII text for a header extension of code 6 ("comment"); see :func:`read_comments`.

    Raises
    ------
    GridMismatchError
        Where the array does not have the grid's shape.
    """
    path = Path(path)
    if tuple(array.shape) != grid.shape:
        raise GridMismatchError(path, f"array {array.shape} does not fit grid {grid.shape}")
    suffix = next((s for s in NIFTI_SUFFIXES if path.name.endswith(s)), None)
    if suffix is None:
        raise UnreadableVolumeError(path, f"the name must end in {' or '.join(NIFTI_SUFFIXES)}")
    image = nib.Nifti1Image(array, grid.affine)
    image.set_qform(grid.affine, code=1)
    image.set_sform(grid.affine, code=1)
    image.header.set_xyzt_units("mm")
    if comment is not None:
        image.header.extensions.append(Nifti1Extension(_COMMENT, comment.encode("ascii")))
    with publishing(path) as temporary, open(temporary, "wb") as stream:
        _save(image, stream, compress=suffix.lower() == ".nii.gz")
    return path


def _save(image: Any, stream: Any, *, compress: bool) -> None:
    if not compress:
        image.to_file_map({"image": FileHolder(fileobj=stream)})
        return
    # Neither name nor time goes into the file: the same voxels make the same bytes.
    with igzip.IGzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as packed:
        image.to_file_map({"image": FileHolder(fileobj=packed)})


def read_comments(path: str | Path) -> list[str]:
    """Read the texts of the header extensions of code 6 ("comment") of a NIfTI file.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError
        As :func:`read_grid`.
    """
    header = _open_nifti(Path(path))[0].header
    return [
        bytes(extension.content).rstrip(b"\0").decode("ascii", "replace")
        for extension in getattr(header, "extensions", ())
        if extension.get_code() == _COMMENT
    ]
