"""Stored pixels of DICOM files: decoded into HU, and compared, to leave copies out.

Files are decoded by GDCM through SimpleITK, which knows the compressed transfer syntaxes
(JPEG, JPEG-LS, JPEG 2000, RLE) and turns stored values into HU.

A SOPInstanceUID ought to name one instance. Anonymisers and exports are known to give one
to several slices: a copy is one at the same place, with the same pixels.
"""

from __future__ import annotations

import filecmp
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom import Dataset

from atlas8k.core.errors import UnreadableVolumeError
from atlas8k.formats.dicom.planes import file_of, planes_of, text
from atlas8k.formats.dicom.refusals import SAME_PLACE_MM

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


def without_copies(group: Sequence[Dataset]) -> list[Dataset]:
    """Return the instances of a series, each copy left out.

    Instances that share a UID and differ in place or pixels are all kept: what they are is
    judged by their geometry.
    """
    kept: list[Dataset] = []
    seen: dict[str, list[Dataset]] = defaultdict(list)
    for header in group:
        uid = text(header, "SOPInstanceUID")
        if uid and any(_copies(header, one) for one in seen[uid]):
            continue
        seen[uid].append(header)
        kept.append(header)
    return kept


def _copies(one: Dataset, other: Dataset) -> bool:
    first, second = planes_of(one), planes_of(other)
    return (
        len(first) == len(second)
        and all(
            a.size == b.size
            and _alike(a.position, b.position)
            and _alike(a.axes, b.axes)
            and _alike(a.pixel_mm, b.pixel_mm)
            for a, b in zip(first, second, strict=True)
        )
        and _same_pixels(one, other)
    )


def _alike(one: npt.ArrayLike | None, other: npt.ArrayLike | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.abs(np.subtract(one, other)).max() < SAME_PLACE_MM)


def _same_pixels(one: Dataset, other: Dataset) -> bool:
    """Return whether two instances hold the same picture, however it is packed.

    Headers without a file behind them, as an archive sends them, cannot be looked into:
    they count as alike.
    """
    if "PixelData" in one and "PixelData" in other:
        return bool(one.PixelData == other.PixelData)
    here, there = file_of(one), file_of(other)
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
        return np.array_equal(decode(here), decode(there))
    except Exception as err:  # pydicom raises what its many parsers raise
        logger.info("%s and %s cannot be compared: %s", here, there, err)
        return False
