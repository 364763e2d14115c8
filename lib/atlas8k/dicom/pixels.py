"""Stored pixels of DICOM files: decoded into HU, and compared.

Files are decoded by GDCM through SimpleITK, which knows the compressed transfer syntaxes
(JPEG, JPEG-LS, JPEG 2000, RLE) and turns stored values into HU.
"""

from __future__ import annotations

import filecmp
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom import Dataset

from atlas8k.errors import UnreadableVolumeError

logger = logging.getLogger(__name__)


def decode(path: Path) -> npt.NDArray[np.float32]:
    """Read a file's HU, ``(frames, rows, columns)``.

    Raises
    ------
    UnreadableVolumeError
        The file is gone, or its pixels cannot be decoded.
    """
    try:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError as err:
        last = str(err).strip().splitlines()[-1][:200] if str(err).strip() else "no reason given"
        logger.info("%s: %s", path, err)
        raise UnreadableVolumeError(path, f"its pixels cannot be decoded ({last})") from err
    pixels: npt.NDArray[np.float32] = sitk.GetArrayFromImage(image)
    return pixels if pixels.ndim == 3 else pixels[np.newaxis]


def same_pixels(one: Dataset, other: Dataset) -> bool:
    """Whether two instances hold the same picture, however it is packed.

    Headers without a file behind them, as an archive sends them, cannot be looked into:
    they count as alike.
    """
    if "PixelData" in one and "PixelData" in other:
        return bool(one.PixelData == other.PixelData)
    here, there = _filename(one), _filename(other)
    if not (here and there):
        return True
    try:
        if filecmp.cmp(here, there, shallow=False):
            return True
        first, second = (
            pydicom.dcmread(path, specific_tags=["PixelData"]) for path in (here, there)
        )
        if first.PixelData == second.PixelData:
            return True
        if first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID:
            return False
        return np.array_equal(decode(Path(here)), decode(Path(there)))
    except Exception as err:  # pydicom raises what its many parsers raise
        logger.info("%s and %s cannot be compared: %s", here, there, err)
        return False


def _filename(header: Dataset) -> str:
    name = getattr(header, "filename", None)
    return str(name) if isinstance(name, str | Path) else ""
