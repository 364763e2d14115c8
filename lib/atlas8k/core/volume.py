"""Read and write the volumes of NIfTI files; :mod:`atlas8k.core.nifti_file` opens these.

The words for where an array lies, :class:`Grid` and :class:`Volume`, are those of
:mod:`atlas8k.core.grid`, and the ways from one grid to another those of
:mod:`atlas8k.core.resample`; both can be imported from here.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from nibabel.fileholders import FileHolder
from nibabel.nifti1 import Nifti1Extension

from atlas8k.core.claims import excess
from atlas8k.core.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelValueError,
    NotFiniteError,
    UnreadableVolumeError,
)
from atlas8k.core.files import publishing
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.nifti_file import PART_BYTES, open_nifti, open_voxels, read_voxels
from atlas8k.core.nifti_geometry import Geometry
from atlas8k.core.resample import resample, to_canonical
from atlas8k.core.stated_geometry import stated_for
from atlas8k.core.voxels import in_file_order

__all__ = ["Grid", "Volume", "resample", "to_canonical"]

NIFTI_SUFFIXES = (".nii.gz", ".nii", ".NII.GZ", ".NII")
DUST = 1e-3
"""Largest distance of a label's value from a whole number: rounding, or a scale factor."""

_COMMENT = 6
"""NIfTI extension code "comment": plain ASCII text, which other tools show or ignore."""

GZIP_LEVEL = 1


class Plane(NamedTuple):
    """One plane of a volume: ``array``, its two axes; ``grid`` of the whole volume."""

    array: npt.NDArray[Any]
    grid: Grid


def _open_ct(path: Path, stated: str | None) -> tuple[Any, Geometry]:
    """Open a CT as :func:`open_nifti`, of a size that scanners make and networks can take."""
    image, geometry = open_nifti(path, 2, stated or stated_for(path))
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
        return open_nifti(Path(path), 1, stated)[1].grid
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
    image, geometry = open_nifti(path, 1 if block else 2, stated)
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
    return read_planes(path, {axis: index}, label=label)[axis]


def read_planes(
    path: str | Path, places: Mapping[int, int], *, label: bool = False
) -> dict[int, Plane]:
    """Read planes of a CT or a label in one pass, by axis; otherwise as :func:`read_plane`.

    Parameters
    ----------
    places
        The index by axis, one plane of each.
    """
    path = Path(path)
    image, geometry = open_nifti(path, 1) if label else _open_ct(path, None)
    shape = geometry.grid.shape
    for axis, index in places.items():
        if not 0 <= index < shape[axis]:
            raise IndexError(f"{path}: axis {axis} has {shape[axis]} planes, there is no {index}")
    step = max(1, PART_BYTES // (shape[0] * shape[1] * 8))
    starts = list(range(0, shape[2], step))
    if set(places) == {2}:
        starts, step = [places[2]], 1
    parts: dict[int, list[npt.NDArray[Any]]] = {axis: [] for axis in places}
    with open_voxels(path, image) as proxy:
        beyond = (0,) * (len(proxy.shape) - 3)
        for k in starts:
            part = np.asarray(proxy[(..., slice(k, k + step), *beyond)])
            for axis, index in places.items():
                if axis < 2:
                    # np.take copies the whole part where that lies in Fortran order
                    parts[axis].append(part[(slice(None),) * axis + (index,)].copy())
                elif k <= index < k + step:
                    parts[axis].append(part[..., index - k].copy())
    return {
        axis: Plane(
            whole_numbers(array, path) if label else array.astype(np.float32), geometry.grid
        )
        for axis, found in parts.items()
        for array in [found[0] if axis == 2 else np.concatenate(found, axis=-1)]
    }


def label_parts(path: str | Path) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield a label some planes at a time: the index of the first along axis 2, and the planes.

    ``(X, Y, n)`` uint8, the file's own axes; no more than a part is in memory.

    Raises
    ------
    UnreadableVolumeError, GeometryError, LabelValueError
        As :func:`read_label`.
    """
    path = Path(path)
    image, geometry = open_nifti(path, 1)
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
    path: str | Path,
    array: npt.NDArray[Any],
    grid: Grid,
    comment: str | None = None,
    *,
    sync: bool = True,
) -> Path:
    """Write ``array`` with its grid; complete or not at all.

    The file is written under a temporary name beside ``path``, synced, then renamed.

    Parameters
    ----------
    comment
        ASCII text for a header extension of code 6 ("comment"); see :func:`read_comments`.
    sync
        See :func:`~atlas8k.core.files.publish`.

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
    image = _image(in_file_order(array), grid)
    if comment is not None:
        image.header.extensions.append(Nifti1Extension(_COMMENT, comment.encode("ascii")))
    with publishing(path, sync=sync) as temporary, open(temporary, "wb") as stream:
        _save(image, stream, compress=suffix.lower() == ".nii.gz")
    return path


def _image(array: npt.NDArray[Any], grid: Grid) -> Any:
    image = nib.Nifti1Image(array, grid.affine)
    image.set_qform(grid.affine, code=1)
    image.set_sform(grid.affine, code=1)
    image.header.set_xyzt_units("mm")
    return image


def _save(image: Any, stream: Any, *, compress: bool) -> None:
    if not compress:
        image.to_file_map({"image": FileHolder(fileobj=stream)})
        return
    # Neither name nor time goes into the file: the same voxels make the same bytes.
    with igzip.IGzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as packed:
        image.to_file_map({"image": FileHolder(fileobj=packed)})


class LabelWriter:
    """Writes many label maps of one grid: the header is made once, nothing is read again.

    What is written is what :func:`write_nifti` writes, with less of it around each file; a file
    is not whole before the call has returned.

    Parameters
    ----------
    grid
        Of all of them.
    """

    def __init__(self, grid: Grid) -> None:
        self._shape = grid.shape
        header = _image(np.broadcast_to(np.uint8(0), grid.shape), grid).header
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1.0, 0.0)  # as nibabel writes it with the voxels
        stream = io.BytesIO()
        header.write_to(stream)
        self._header = stream.getvalue().ljust(int(header.get_data_offset()), b"\0")

    def write(self, path: Path, array: npt.NDArray[np.uint8]) -> str:
        """Write ``array``, ``(X, Y, Z)`` uint8, as ``.nii.gz``; return the file's SHA-256, hex."""
        if array.shape != self._shape or array.dtype != np.uint8:
            raise GridMismatchError(path, f"array {array.shape} does not fit grid {self._shape}")
        packed = igzip.compress(
            self._header + in_file_order(array).tobytes(order="F"),
            compresslevel=GZIP_LEVEL,
            mtime=0,
        )
        path.write_bytes(packed)
        return hashlib.sha256(packed).hexdigest()


def read_comments(path: str | Path) -> list[str]:
    """Read the texts of the header extensions of code 6 ("comment") of a NIfTI file.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError
        As :func:`read_grid`.
    """
    header = open_nifti(Path(path))[0].header
    return [
        bytes(extension.content).rstrip(b"\0").decode("ascii", "replace")
        for extension in getattr(header, "extensions", ())
        if extension.get_code() == _COMMENT
    ]
