"""Decode stored pixels of DICOM files into HU, and compare them, to leave copies out.

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
    """Return the instances of a series without copies.

    Instances that share a UID and differ in place or pixels all stay: their geometry
    decides about them.
    """
    distinct: list[Dataset] = []
    by_uid: dict[str, list[Dataset]] = defaultdict(list)
    for header in group:
        uid = text(header, "SOPInstanceUID")
        if uid and any(_copies(header, other) for other in by_uid[uid]):
            continue
        by_uid[uid].append(header)
        distinct.append(header)
    return distinct


def _copies(header: Dataset, other: Dataset) -> bool:
    first, second = planes_of(header), planes_of(other)
    return (
        len(first) == len(second)
        and all(
            a.size == b.size
            and _alike(a.position, b.position)
            and _alike(a.axes, b.axes)
            and _alike(a.pixel_mm, b.pixel_mm)
            for a, b in zip(first, second, strict=True)
        )
        and _same_pixels(header, other)
    )


def _alike(value: npt.ArrayLike | None, other: npt.ArrayLike | None) -> bool:
    if value is None or other is None:
        return value is other
    return bool(np.abs(np.subtract(value, other)).max() < SAME_PLACE_MM)


def _same_pixels(header: Dataset, other: Dataset) -> bool:
    """Return whether two instances hold the same pixels, however they are packed.

    Headers without a file, as an archive sends them, have no pixels to compare: they count
    as equal.
    """
    if "PixelData" in header and "PixelData" in other:
        return bool(header.PixelData == other.PixelData)
    first_file, second_file = file_of(header), file_of(other)
    if not (first_file and second_file):
        return True
    try:
        if filecmp.cmp(first_file, second_file, shallow=False):
            return True
        first, second = (
            pydicom.dcmread(path, specific_tags=["PixelData"]) for path in (first_file, second_file)
        )
        if first.PixelData == second.PixelData:
            return True
        if first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID:
            return False
        return np.array_equal(decode(first_file), decode(second_file))
    except Exception as err:  # pydicom raises what its many parsers raise
        logger.info("%s and %s cannot be compared: %s", first_file, second_file, err)
        return False
