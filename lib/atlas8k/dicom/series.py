"""DICOM headers grouped into series, and each judged: a CT volume, or why not.

Grids are those of :mod:`atlas8k.grid`: voxel index to millimetres, RAS+; axes are columns,
rows, slices, and slices grow along the normal of the image plane, whatever their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from atlas8k.dicom.pixels import without_copies
from atlas8k.dicom.planes import Plane, number, planes_of, text
from atlas8k.dicom.refusals import Reason, Refusal, Stacked, find_fault
from atlas8k.errors import VolumeError
from atlas8k.grid import Grid

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DESCRIPTION_LENGTH = 64  # of VR LO; longer ones come from broken headers


@dataclass(frozen=True)
class Instance:
    """One slice of a series.

    Parameters
    ----------
    uid
        SOPInstanceUID; every frame of a multi-frame object has the same.
    number
        InstanceNumber, where it has one.
    frame
        Its place in a multi-frame object, from 0.
    place_mm
        Along the normal of its plane; ``None`` in a series whose geometry is unusable.
    path
        The file it was read from, if it was.
    """

    uid: str
    number: int | None
    frame: int
    place_mm: float | None
    path: Path | None


@dataclass(frozen=True, eq=False)
class Series:
    """A DICOM series, judged by its headers.

    Parameters
    ----------
    description
        SeriesDescription as the header has it; may say anything.
    instances
        By place along the normal where it is a volume, else by number.
    shape
        ``(X, Y, Z)``: columns, rows, slices; ``None`` where it is refused.
    affine
        ``(4, 4)`` float64, voxel index to mm, RAS+; ``None`` where it is refused.
    refusal
        ``None`` for a CT volume.
    """

    uid: str
    study_uid: str
    description: str
    modality: str
    instances: tuple[Instance, ...]
    shape: tuple[int, int, int] | None
    affine: npt.NDArray[np.float64] | None
    refusal: Refusal | None
    name: str
    """What messages call it: description, unless that names the patient, and UID."""

    @cached_property
    def grid(self) -> Grid:
        """Where its voxels are.

        Raises
        ------
        VolumeError
            It is no CT volume.
        """
        if self.shape is None or self.affine is None:
            raise VolumeError(self.name, self.refusal.message if self.refusal else "no volume")
        return Grid(self.shape, self.affine)


def inspect(headers: Iterable[Dataset]) -> list[Series]:
    """The series that instances belong to, by number, then UID.

    Parameters
    ----------
    headers
        Of any instances in any order: from files (``dcmread(stop_before_pixels=True)``) or
        from an archive (``Dataset.from_json``). Elements looked at:
        :data:`~atlas8k.dicom.planes.HEADER_KEYWORDS`. Copies of one instance (the same
        place and pixels) count once.

    Returns
    -------
    list of Series
        Never raises for what a header says or lacks: such a series is refused.
    """
    groups: dict[tuple[str, str], list[Dataset]] = {}
    for header in headers:
        key = (text(header, "StudyInstanceUID"), text(header, "SeriesInstanceUID"))
        groups.setdefault(key, []).append(header)
    series = [(_first_number(group), key[1], _series(key, group)) for key, group in groups.items()]
    return [one for *_, one in sorted(series, key=lambda row: row[:2])]


def _series(key: tuple[str, str], group: Sequence[Dataset]) -> Series:
    headers = without_copies(group)
    planes = [plane for header in headers for plane in planes_of(header)]
    planes.sort(key=_by_number)
    name = _name(key[1], headers)
    finding = find_fault(planes) if key[1] else (Reason.NO_GEOMETRY, "has no SeriesInstanceUID")
    modality = next((word for one in headers if (word := text(one, "Modality"))), "")
    places: Sequence[float | None] = [None] * len(planes)
    shape, affine, refusal = None, None, None
    if finding is None:
        stack = Stacked.of(planes)
        shape, affine = _geometry(stack)
        planes, places = [*stack.planes], stack.places.tolist()
    else:
        refusal = Refusal(finding[0], f"{name} {finding[1]}")
    return Series(
        uid=key[1],
        study_uid=key[0],
        description=_description(headers),
        modality=modality,
        instances=tuple(map(_instance, planes, places)),
        shape=shape,
        affine=affine,
        refusal=refusal,
        name=name,
    )


def _geometry(stack: Stacked) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """Shape and RAS affine of planes that nothing is wrong with."""
    first, count = stack.planes[0], len(stack.planes)
    lps = np.eye(4)
    lps[:3, :2] = np.array(first.axes).T * np.array(first.pixel_mm)
    lps[:3, 2] = stack.normal * float(stack.places[-1] - stack.places[0]) / (count - 1)
    lps[:3, 3] = first.position
    columns, rows = first.size or (0, 0)
    return (columns, rows, count), _LPS_TO_RAS @ lps


def _instance(plane: Plane, place: float | None) -> Instance:
    count = number(plane.header, "InstanceNumber")
    path = getattr(plane.header, "filename", None)
    return Instance(
        text(plane.header, "SOPInstanceUID"),
        None if count is None else int(count),
        plane.frame,
        place,
        Path(path) if isinstance(path, str | Path) else None,
    )


def _by_number(plane: Plane) -> tuple[float, int]:
    count = number(plane.header, "InstanceNumber")
    return (float("inf") if count is None else count), plane.frame


def _first_number(group: Sequence[Dataset]) -> float:
    counts = [count for one in group if (count := number(one, "SeriesNumber")) is not None]
    return min(counts, default=float("inf"))


def _name(uid: str, headers: Sequence[Dataset]) -> str:
    """What messages call a series: its description, unless it names the patient, and its UID."""
    words = _description(headers)
    personal = {
        part.casefold()
        for one in headers
        for keyword in ("PatientName", "PatientID")
        for part in text(one, keyword).replace("^", " ").split()
        if len(part) > 1
    }
    if not words or any(part in words.casefold() for part in personal):
        return f"series {uid or 'without UID'}"
    return f'series "{words}" ({uid or "without UID"})'


def _description(headers: Sequence[Dataset]) -> str:
    words = next((word for one in headers if (word := text(one, "SeriesDescription"))), "")
    return "".join(c for c in words if c.isprintable())[:_DESCRIPTION_LENGTH]
