"""NIfTI files whose headers say whatever a test wants, and how other programs read them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

CASES = Path(__file__).parents[2] / "shared" / "cases"
"""Small inputs that were got wrong; not part of the project."""

SHAPE = (7, 6, 5)
LPS = np.array([[-2.0, 0, 0, 60], [0, -2.5, 0, 40], [0, 0, 3, -90], [0, 0, 0, 1]])
"""Axes to the left, to the back, to the head."""


def voxels(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Every voxel another value."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - 1000


def write_header(
    path: Path,
    sform: np.ndarray | None = LPS,
    qform: np.ndarray | None = LPS,
    codes: tuple[int, int] = (1, 1),
    array: np.ndarray | None = None,
    fields: Mapping[str, Any] | None = None,
    unit: str = "mm",
    packed: bool | None = None,
    kind: type = nib.Nifti1Image,
) -> Path:
    """Write a file with these forms; `codes` are those of sform and qform.

    Parameters
    ----------
    sform, qform
        Affines, ``None``: nothing is written there.
    fields
        Of the header, set last.
    packed
        Whether it is gzip; else as the name says.
    """
    image = kind(voxels() if array is None else array, np.eye(4))
    header = image.header
    size = qform if qform is not None else sform
    if size is not None:
        header["pixdim"][1:4] = np.linalg.norm(size[:3, :3], axis=0)
    header["pixdim"][0] = 1
    header.set_qform(qform, code=codes[1] if qform is not None else 0, strip_shears=True)
    header["qform_code"] = codes[1]
    if sform is not None:
        header.set_sform(sform, code=codes[0])
    else:
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row] = 0
    header["sform_code"] = codes[0]
    header.set_xyzt_units(unit)
    for name, value in (fields or {}).items():
        if name == "pixdim":
            header["pixdim"][1:4] = value
        else:
            header[name] = value
    header["magic"] = b"n+1" if kind is nib.Nifti1Image else header["magic"]
    header["vox_offset"] = header.sizeof_hdr + 4
    data = (
        header.binaryblock
        + bytes(4)
        + image.get_fdata().astype(header.get_data_dtype()).tobytes(order="F")
    )
    if packed if packed is not None else path.name.lower().endswith(".gz"):
        data = gzip.compress(data, 1, mtime=0)
    path.write_bytes(data)
    return path


def itk_affine(path: Path) -> np.ndarray:
    """Where ITK, and with it 3D Slicer, says that a file's voxels lie; RAS.

    Raises
    ------
    RuntimeError
        It does not open the file.
    """
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1, 1, 1]) @ affine


def itk_voxels(path: Path) -> np.ndarray:
    """Voxels as ITK reads them, ``(X, Y, Z)``."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
