"""Read image planes from a DICOM header: of a slice, or of a frame of many.

A header may lack anything, and hold anything. What cannot be read is ``None`` here and a
refusal in :mod:`atlas8k.formats.dicom.refusals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

HEADER_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("FrameOfReferenceUID", "SeriesDescription", "SeriesNumber", "InstanceNumber"),
    *("Modality", "ImageType", "AcquisitionNumber", "TemporalPositionIdentifier"),
    *("TemporalPositionIndex", "GantryDetectorTilt", "BurnedInAnnotation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PixelRepresentation"),
    *("BitsAllocated", "PhotometricInterpretation"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("PatientName", "PatientID"),  # so that a description that repeats them is not shown
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""Elements of a header that are read; ``includefield`` of a query, ``specific_tags`` of a read."""


@dataclass(frozen=True)
class Plane:
    """One image plane; ``None`` where the header lacks a value or holds nonsense.

    Parameters
    ----------
    header
        Header of its instance.
    frame
        Its place in a multi-frame instance, from 0.
    position
        ``(3,)`` float64, centre of the first voxel, mm, LPS as DICOM has it.
    axes
        ``(2, 3)`` float64, directions in which column and row index grow, LPS.
    pixel_mm
        Distance of columns, distance of rows.
    size
        Columns, rows; ``None`` where the header lacks one or it is not positive.
    image_type
        Upper case.
    slope, intercept
        Factors from stored value to ``unit``.
    unit
        "HU" where the header names none.
    acquisition
        Number of the acquisition and of the phase; empty where it has none.
    """

    header: Dataset
    frame: int
    position: npt.NDArray[np.float64] | None
    axes: npt.NDArray[np.float64] | None
    pixel_mm: tuple[float, float] | None
    size: tuple[int, int] | None
    image_type: tuple[str, ...]
    slope: float | None
    intercept: float | None
    unit: str
    acquisition: str

    @property
    def uid(self) -> str:
        """SOPInstanceUID; every frame of a multi-frame object has the same."""
        return text(self.header, "SOPInstanceUID")

    @property
    def path(self) -> Path | None:
        """The file it was read from, if it was."""
        return file_of(self.header)


def text(header: Dataset, keyword: str) -> str:
    """Read an element's value as text; empty where it is missing or unreadable."""
    value = raw(header, keyword)
    return "" if value is None else str(value).strip()


def file_of(header: Dataset) -> Path | None:
    """Return the file that a header was read from, if it was."""
    name = getattr(header, "filename", None)
    return Path(name) if isinstance(name, str | Path) and str(name) else None


def raw(header: Dataset, keyword: str) -> Any:
    """Read an element's value; ``None`` where it is missing, empty or unreadable."""
    try:
        value = header.get(keyword)
    except Exception:  # pydicom converts on access, and raises what its converters raise
        return None
    return None if value is None or value == "" else value


def numbers(header: Dataset, keyword: str, count: int) -> npt.NDArray[np.float64] | None:
    """Read an element's value as `count` finite numbers, else ``None``."""
    value = raw(header, keyword)
    if value is None:
        return None
    try:
        array = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        return None
    return array if array.shape == (count,) and bool(np.isfinite(array).all()) else None


def number(header: Dataset, keyword: str) -> float | None:
    """Read an element's value as one finite number, else ``None``."""
    array = numbers(header, keyword, 1)
    return None if array is None else float(array[0])


def frame_count(header: Dataset) -> int:
    """Return the number of frames of an instance; 1 where the header has none."""
    return max(1, int(number(header, "NumberOfFrames") or 1))


def pixel_bytes(header: Dataset) -> tuple[int, int] | None:
    """Return the bytes of unpacked pixels in a file, and the bytes that its header needs.

    ``None`` where either is not known: packed pixels, a header that an archive sent.
    """
    stored = getattr(header, "pixel_bytes", None)
    sizes = [number(header, keyword) for keyword in ("Rows", "Columns", "BitsAllocated")]
    if stored is None or None in sizes:
        return None
    samples = number(header, "SamplesPerPixel") or 1
    bits = float(np.prod([size for size in sizes if size is not None])) * samples
    return stored, int(np.ceil(bits * frame_count(header) / 8))


def planes_of(header: Dataset) -> list[Plane]:
    """Return the planes of an instance, in the order in which they are stored."""
    per_frame = raw(header, "PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return [_plane(header, 0, (header,))]
    shared = tuple(raw(header, "SharedFunctionalGroupsSequence") or ())[:1]
    return [
        _plane(header, index, (header, *_macros(shared), *_macros((group,))))
        for index, group in enumerate(per_frame)
    ]


def lacking(planes: Sequence[Plane]) -> tuple[str, list[Plane]] | None:
    """Return the geometry element that planes lack, and these planes; ``None`` if complete."""
    for what, attribute in (
        ("position (ImagePositionPatient)", "position"),
        ("orientation (ImageOrientationPatient)", "axes"),
        ("pixel distances (PixelSpacing)", "pixel_mm"),
        ("size (Rows, Columns)", "size"),
    ):
        incomplete = [plane for plane in planes if getattr(plane, attribute) is None]
        if incomplete:
            return what, incomplete
    return None


_MACROS = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    *("PixelValueTransformationSequence", "CTImageFrameTypeSequence", "FrameContentSequence"),
    "CTAcquisitionDetailsSequence",
)


def _macros(groups: Sequence[Dataset]) -> list[Dataset]:
    return [item for group in groups for name in _MACROS for item in (raw(group, name) or ())[:1]]


def _plane(header: Dataset, frame: int, parts: Sequence[Dataset]) -> Plane:
    """Read a plane from the datasets that describe it, the most specific last."""

    def values(keyword: str, count: int) -> npt.NDArray[np.float64] | None:
        stated = (numbers(part, keyword, count) for part in reversed(parts) if keyword in part)
        return next(stated, None)

    def words(keyword: str) -> str:
        return next((word for part in reversed(parts) if (word := text(part, keyword))), "")

    spacing = values("PixelSpacing", 2)
    columns, rows = (number(header, keyword) or 0 for keyword in ("Columns", "Rows"))
    slope, intercept = values("RescaleSlope", 1), values("RescaleIntercept", 1)
    acquisition = words("FrameAcquisitionNumber") or words("AcquisitionNumber")
    phase = words("TemporalPositionIndex") or words("TemporalPositionIdentifier")
    return Plane(
        header,
        frame,
        values("ImagePositionPatient", 3),
        _directions(values("ImageOrientationPatient", 6)),
        None if spacing is None or spacing.min() <= 0 else (float(spacing[1]), float(spacing[0])),
        (int(columns), int(rows)) if columns >= 1 and rows >= 1 else None,
        _image_type(parts),
        None if slope is None else float(slope[0]),
        None if intercept is None else float(intercept[0]),
        words("RescaleType").upper() or "HU",
        "/".join(word for word in (acquisition, phase) if word),
    )


def _directions(cosines: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
    """Return two unit vectors at right angles; ``None`` where the header's are not."""
    if cosines is None:
        return None
    axes = cosines.reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-3):
        return None
    # Cosines are written with few digits: made exact, so that a long axis does not drift.
    first = axes[0] / np.linalg.norm(axes[0])
    second = axes[1] - (axes[1] @ first) * first
    return np.array([first, second / np.linalg.norm(second)])


def _image_type(parts: Sequence[Dataset]) -> tuple[str, ...]:
    for part in reversed(parts):
        value = raw(part, "FrameType") or raw(part, "ImageType")
        if value is not None:
            words = [value] if isinstance(value, str) else list(value)
            return tuple(str(word).strip().upper() for word in words)
    return ()
