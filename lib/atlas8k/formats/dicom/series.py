"""Group DICOM headers into series, and judge each: a CT volume, or refused with a reason.

Grids are those of :mod:`atlas8k.core.grid`: voxel index to millimetres, RAS+; axes are columns,
rows, slices, and slices grow along the normal of the image plane, whatever their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from atlas8k.core.errors import VolumeError
from atlas8k.core.grid import Grid
from atlas8k.formats.dicom.pixels import without_copies
from atlas8k.formats.dicom.planes import Plane, number, planes_of, text
from atlas8k.formats.dicom.refusals import Reason, Refusal, Stacked, find_fault

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DESCRIPTION_LENGTH = 64  # of VR LO; longer ones come from broken headers


@dataclass(frozen=True, eq=False)
class Series:
    """A DICOM series, judged by its headers.

    Attributes
    ----------
    name
        Name in messages: description, unless that names the patient, and UID.
    instances
        Its planes, by place along the normal where it is a volume, else by number.
    place
        Its grid; ``None`` where it is refused.
    refusal
        ``None`` for a CT volume.
    """

    uid: str
    study_uid: str
    name: str
    instances: tuple[Plane, ...]
    place: Grid | None
    refusal: Refusal | None

    @property
    def grid(self) -> Grid:
        """Grid of its voxels.

        Raises
        ------
        VolumeError
            It is no CT volume.
        """
        if self.place is None:
            raise VolumeError(self.name, self.refusal.message if self.refusal else "no volume")
        return self.place


def inspect(headers: Iterable[Dataset]) -> list[Series]:
    """Group instances into series and judge each, sorted by number, then UID.

    Parameters
    ----------
    headers
        Headers of any instances in any order: from files
        (``dcmread(stop_before_pixels=True)``) or from an archive (``Dataset.from_json``). See
        :data:`~atlas8k.formats.dicom.planes.HEADER_KEYWORDS`. Copies of one instance (the same
        place and pixels) count once.

    Returns
    -------
    list of Series
        No header raises an error, whatever it holds or lacks: its series is refused.
    """
    groups: dict[tuple[str, str], list[Dataset]] = {}
    for header in headers:
        key = (text(header, "StudyInstanceUID"), text(header, "SeriesInstanceUID"))
        groups.setdefault(key, []).append(header)
    series = [(_first_number(group), key[1], _series(key, group)) for key, group in groups.items()]
    return [judged for *_, judged in sorted(series, key=lambda row: row[:2])]


def _series(key: tuple[str, str], group: Sequence[Dataset]) -> Series:
    headers = without_copies(group)
    planes = [plane for header in headers for plane in planes_of(header)]
    planes.sort(key=_by_number)
    name = _name(key[1], headers)
    finding = find_fault(planes) if key[1] else (Reason.NO_GEOMETRY, "has no SeriesInstanceUID")
    if finding is not None:
        refusal = Refusal(finding[0], f"{name} {finding[1]}")
        return Series(key[1], key[0], name, tuple(planes), None, refusal)
    stack = Stacked.of(planes)
    return Series(key[1], key[0], name, tuple(stack.planes), _grid(stack), None)


def _grid(stack: Stacked) -> Grid:
    """Return the grid of planes that break no rule."""
    first, count = stack.planes[0], len(stack.planes)
    lps = np.eye(4)
    lps[:3, :2] = np.array(first.axes).T * np.array(first.pixel_mm)
    lps[:3, 2] = stack.normal * float(stack.places[-1] - stack.places[0]) / (count - 1)
    lps[:3, 3] = first.position
    columns, rows = first.size or (0, 0)
    return Grid((columns, rows, count), _LPS_TO_RAS @ lps)


def _by_number(plane: Plane) -> tuple[float, int]:
    count = number(plane.header, "InstanceNumber")
    return (float("inf") if count is None else count), plane.frame


def _first_number(group: Sequence[Dataset]) -> float:
    counts = [count for header in group if (count := number(header, "SeriesNumber")) is not None]
    return min(counts, default=float("inf"))


def _name(uid: str, headers: Sequence[Dataset]) -> str:
    """Return a series' name in messages: description, unless it names the patient, and UID."""
    words = next((word for header in headers if (word := text(header, "SeriesDescription"))), "")
    words = "".join(c for c in words if c.isprintable())[:_DESCRIPTION_LENGTH]
    personal = {
        part.casefold()
        for header in headers
        for keyword in ("PatientName", "PatientID")
        for part in text(header, keyword).replace("^", " ").split()
        if len(part) > 1
    }
    if not words or any(part in words.casefold() for part in personal):
        return f"series {uid or 'without UID'}"
    return f'series "{words}" ({uid or "without UID"})'
