"""NIfTI in and out.

The words for where an array lies, :class:`Grid` and :class:`Volume`, are those of
:mod:`atlas8k.grid`, and the ways from one grid to another those of
:mod:`atlas8k.resampling`; both can be imported from here.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip
from nibabel.fileholders import FileHolder
from nibabel.nifti1 import Nifti1Extension
from nibabel.spatialimages import SpatialImage

from atlas8k.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelValueError,
    NotFiniteError,
    NotThreeDimensionalError,
    UnreadableVolumeError,
)
from atlas8k.grid import Grid, Volume
from atlas8k.resampling import resample, to_canonical
from atlas8k.voxels import READ_DAMAGE, open_voxels, read_voxels

__all__ = [
    "MAX_VOXELS",
    "NIFTI_SUFFIXES",
    "READ_DAMAGE",
    "Grid",
    "Volume",
    "publish",
    "read_comments",
    "read_ct",
    "read_grid",
    "read_label",
    "resample",
    "to_canonical",
    "whole_numbers",
    "write_nifti",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
MAX_VOXELS = 1 << 31
"""Larger claims are taken for a broken header: 2,147,483,648 voxels, 8 GiB as float32."""

_COMMENT = 6
"""NIfTI extension code "comment": plain ASCII text, which other tools show or pass over."""

_GZIP_LEVEL = 1


def _open_nifti(path: Path, least: int = 2) -> tuple[Any, Grid]:
    """The image with its voxels still on disk, and its grid; `least` voxels along each axis."""
    if not path.is_file():
        raise UnreadableVolumeError(path, "no such file")
    if path.stat().st_size == 0:
        raise UnreadableVolumeError(path, "the file is empty (0 bytes); copy it again")
    try:
        image = nib.load(path)
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
    if int(np.prod(shape, dtype=np.int64)) > MAX_VOXELS:
        raise UnreadableVolumeError(path, f"the header claims {shape} voxels; it is broken")
    if image.get_data_dtype().names is not None:
        raise NotThreeDimensionalError(path, "a colour image; one value per voxel is needed")
    try:
        grid = Grid((shape[0], shape[1], shape[2]), image.affine)
    except (NotFiniteError, NotThreeDimensionalError) as err:
        raise type(err)(path, err.reason) from err
    return image, grid


def _read_nifti(path: Path, dtype: npt.DTypeLike) -> Volume:
    image, grid = _open_nifti(path)
    array = read_voxels(path, image, grid.shape, dtype)
    return Volume(array, grid, path)


def read_grid(path: str | os.PathLike[str], *, block: bool = False) -> Grid:
    """Where a NIfTI file's voxels are, from its header alone.

    Parameters
    ----------
    block
        It may be a piece of a volume, one voxel thick.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError
        As :func:`read_ct`, as far as the header shows it.
    """
    return _open_nifti(Path(path), 1 if block else 2)[1]


def read_ct(path: str | Path) -> Volume:
    """Read a CT.

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
    EmptyVolumeError
        Every voxel has one value.
    NotFiniteError
        NaN or infinity in voxels or affine.
    """
    volume = _read_nifti(Path(path), np.float32)
    low, high = float(volume.array.min()), float(volume.array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NotFiniteError(path, "the image holds NaN or infinity; export the CT again")
    if low == high:
        raise EmptyVolumeError(path, f"every voxel has the value {low:g}; this is no CT")
    return volume


def read_label(path: str | Path, *, block: bool = False) -> Volume:
    """Read a label map; ``array``: ``(X, Y, Z)`` uint8, the file's own axes.

    Parameters
    ----------
    block
        It may be a piece of a volume, one voxel thick.

    Raises
    ------
    UnreadableVolumeError
        As :func:`read_ct`.
    LabelValueError
        Values are not whole numbers from 0 to 255.
    """
    path = Path(path)
    image, grid = _open_nifti(path, 1 if block else 2)
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1, 0)
    with open_voxels(path, image) as proxy:
        array = np.asarray(proxy, dtype=np.float32) if scaled else proxy.get_unscaled()
    return Volume(whole_numbers(array.reshape(grid.shape, order="F"), path), grid, path)


def whole_numbers(array: npt.NDArray[Any], path: str | Path) -> npt.NDArray[np.uint8]:
    """Label values of any number type as uint8, the same memory order.

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
    if low >= 0 and high <= 255:
        values = array.astype(np.uint8)
        if array.dtype.kind != "f" or np.array_equal(values, array):
            return values
    raise LabelValueError(
        path,
        f"label values must be whole numbers from 0 to 255; these go from {low:g} to {high:g}"
        + (" with fractions between" if low >= 0 and high <= 255 else ""),
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
    handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)
    temporary = Path(name)
    try:
        with open(handle, "wb") as stream:
            _save(image, stream, compress=suffix == ".nii.gz")
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _save(image: Any, stream: Any, *, compress: bool) -> None:
    if not compress:
        image.to_file_map({"image": FileHolder(fileobj=stream)})
        return
    # Neither name nor time goes into the file: the same voxels make the same bytes.
    with igzip.IGzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed:
        image.to_file_map({"image": FileHolder(fileobj=packed)})


def read_comments(path: str | Path) -> list[str]:
    """Texts of the header extensions of code 6 ("comment") of a NIfTI file.

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


def _file_mode() -> int:
    """Permissions of a new file as the process was started to give them."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


# Asked once, on import: the question sets the mask for a moment, for every thread.
FILE_MODE = _file_mode()


def publish(temporary: Path, path: Path) -> None:
    """Make a finished temporary file the file at ``path``: sync, rename, sync the folder."""
    os.chmod(temporary, FILE_MODE)
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
