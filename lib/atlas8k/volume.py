"""NIfTI in and out, and arrays from one grid to another.

The words for where an array lies, :class:`Grid` and :class:`Volume`, are those of
:mod:`atlas8k.grid` and can be imported from here.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from nibabel.spatialimages import SpatialImage

from atlas8k.errors import (
    EmptyVolumeError,
    GridMismatchError,
    NotFiniteError,
    NotThreeDimensionalError,
    UnreadableVolumeError,
)
from atlas8k.grid import Grid, Volume

__all__ = [
    "MAX_VOXELS",
    "NIFTI_SUFFIXES",
    "Grid",
    "Volume",
    "publish",
    "read_ct",
    "read_grid",
    "read_label",
    "resample",
    "to_canonical",
    "write_nifti",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
MAX_VOXELS = 1 << 31
"""Larger claims are taken for a broken header: 2,147,483,648 voxels, 8 GiB as float32."""


def _open_nifti(path: Path) -> tuple[Any, Grid]:
    """The image with its voxels still on disk, and its grid."""
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
    if len(shape) != 3 or min(shape) < 2:
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
    try:
        array = np.asarray(image.dataobj, dtype=dtype).reshape(grid.shape)
    except (OSError, EOFError, ValueError, zlib.error, MemoryError) as err:
        raise UnreadableVolumeError(path, f"the voxel data is damaged ({err})") from err
    return Volume(array, grid, path)


def read_grid(path: str | os.PathLike[str]) -> Grid:
    """Where a NIfTI file's voxels are, from its header alone.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError
        As :func:`read_ct`, as far as the header shows it.
    """
    return _open_nifti(Path(path))[1]


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


def read_label(path: str | Path) -> Volume:
    """Read a label map; ``array``: ``(X, Y, Z)`` uint8, the file's own axes.

    Raises
    ------
    UnreadableVolumeError
        As :func:`read_ct`, and where values are not whole numbers from 0 to 255.
    """
    volume = _read_nifti(Path(path), np.float32)
    array = volume.array
    if not np.isfinite(array).all():
        raise NotFiniteError(path, "the label map holds NaN or infinity")
    if array.min() < 0 or array.max() > 255 or not np.array_equal(array, np.rint(array)):
        raise UnreadableVolumeError(path, "label values must be whole numbers from 0 to 255")
    return Volume(array.astype(np.uint8), volume.grid, volume.path)


def write_nifti(path: str | Path, array: npt.NDArray[Any], grid: Grid) -> Path:
    """Write ``array`` with its grid; complete or not at all.

    The file is written under a temporary name beside ``path``, synced, then renamed.

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
    handle, name = tempfile.mkstemp(prefix=".", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        nib.save(image, temporary)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def publish(temporary: Path, path: Path) -> None:
    """Make a finished temporary file the file at ``path``: sync, rename, sync the folder."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)
    with open(temporary, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def to_canonical(volume: Volume) -> Volume:
    """The same voxels with axes nearest RAS+; only a view is made where possible."""
    transform = nib.orientations.io_orientation(volume.grid.affine)
    array = nib.orientations.apply_orientation(volume.array, transform)
    return Volume(array, volume.grid.canonical(), volume.path)


def resample(
    array: npt.NDArray[Any], source: Grid, target: Grid, *, linear: bool, fill: float = 0.0
) -> npt.NDArray[Any]:
    """Sample ``array`` at the voxel centres of another grid.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` on ``source``; any orientation, spacing and handedness.
    linear
        Linear interpolation for intensities and probabilities, nearest neighbour for
        labels.
    fill
        Value outside the source's extent. Within half a voxel of the edge, the edge
        voxel's value is used.

    Returns
    -------
    ndarray
        ``target.shape``, dtype of ``array``.
    """
    if tuple(array.shape) != source.shape:
        raise GridMismatchError("array", f"shape {array.shape} does not fit grid {source.shape}")
    # Both grids are described to ITK in the source's index space, so that neither needs
    # a direction matrix (ITK wants orthonormal ones and sheared affines have none).
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    index_map = np.linalg.solve(source.affine, target.affine)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(index_map[:3, :3].ravel().tolist())
    transform.SetTranslation(index_map[:3, 3].tolist())
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in target.shape])
    filter_.SetInterpolator(sitk.sitkLinear if linear else sitk.sitkNearestNeighbor)
    filter_.SetDefaultPixelValue(float(fill))
    filter_.SetTransform(transform)
    out = sitk.GetArrayFromImage(filter_.Execute(image))
    return np.asarray(out.T, dtype=array.dtype)
