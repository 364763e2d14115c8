"""Explain why a volume ranks where it does, and where to look, in the terms of each viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from atlas8k.attention.regions import Point, Region
from atlas8k.attention.salient import Salient
from atlas8k.core.grid import Grid

MOST_REGIONS = 20
PLANES = {"R": "sagittal", "L": "sagittal", "A": "coronal", "P": "coronal"}
_FIRST = {"sagittal": "R", "coronal": "P", "axial": "S"}
"""Where the first slice is in each of the three views of OHIF's mode MONAI Label, however the
series is stored."""


@dataclass(frozen=True)
class Place:
    """A slice and a point in it.

    Attributes
    ----------
    plane
        ``"axial"``, ``"coronal"`` or ``"sagittal"``: the plane that the slices are nearest to.
    ohif_slice, slices
        Number of the slice as OHIF counts, from 1, and how many there are.
    axis, file_slice
        Array axis along which slices are stacked in the file, 0 to 2, and the index along it,
        from 0.
    ras_mm, lps_mm
        The point in millimetres, RAS+ as 3D Slicer shows it and LPS+ as DICOM has it.
    """

    plane: str
    ohif_slice: int
    slices: int
    axis: int
    file_slice: int
    ras_mm: Point
    lps_mm: Point

    @property
    def ohif(self) -> str:
        """The slice to open in OHIF: ``"axial 9 of 35"``."""
        return f"{self.plane} {self.ohif_slice} of {self.slices}"

    @property
    def slicer(self) -> str:
        """The point as 3D Slicer shows it: ``"R 12.0, A 30.5, S -410.0 mm (RAS)"``."""
        x, y, z = self.ras_mm
        return f"R {x:.1f}, A {y:.1f}, S {z:.1f} mm (RAS)"

    @property
    def dicom(self) -> str:
        """The point in DICOM's direction of the axes."""
        x, y, z = self.lps_mm
        return f"L {x:.1f}, P {y:.1f}, S {z:.1f} mm (LPS)"

    @property
    def file(self) -> str:
        """The slice as the file indexes it: ``"26 along axis 2, from 0"``."""
        return f"{self.file_slice} along axis {self.axis}, from 0"

    @property
    def text(self) -> str:
        """The place in every viewer's terms, one line."""
        return f"OHIF slice {self.ohif}; 3D Slicer {self.slicer}; file index {self.file}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain fields and their wording, ready for JSON."""
        return {**asdict(self), "text": self.text}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any] | None) -> Place | None:
        """Return the place of a record of :meth:`as_dict`; None for an empty one."""
        if not fields:
            return None
        values = {key: fields[key] for key in cls.__dataclass_fields__}
        points = {key: tuple(values[key]) for key in ("ras_mm", "lps_mm")}
        return cls(**{**values, **points})


def place_of(grid: Grid, axis: int, file_slice: int, centre: Point) -> Place:
    """Return a place in the terms of every viewer.

    Parameters
    ----------
    grid
        Of the CT as it is stored: any orientation and spacing.
    axis
        Array axis along which its slices are stacked.
    file_slice
        Array index along `axis`, from 0.
    centre
        Array index of a point; its part along `axis` is that of the slice.

    Notes
    -----
    OHIF's mode MONAI Label shows the CT as a volume in three planes, and counts from the head,
    the back and the right. Its plain viewer shows a series in the scanner's order, which is the
    same unless the scanner has turned rows or columns around.
    """
    x, y, z = (file_slice if a == axis else centre[a] for a in range(3))
    ras = grid.affine[:3, :3] @ np.array([x, y, z], dtype=np.float64) + grid.affine[:3, 3]
    letter, slices = grid.orientation[axis], grid.shape[axis]
    plane = PLANES.get(letter, "axial")
    first_is_last = letter == _FIRST[plane]
    return Place(
        plane=plane,
        ohif_slice=slices - file_slice if first_is_last else file_slice + 1,
        slices=slices,
        axis=axis,
        file_slice=file_slice,
        ras_mm=_point(ras),
        lps_mm=_point(ras * (-1, -1, 1)),
    )


def place_of_region(region: Region, grid: Grid, axis: int) -> Place:
    """Return where to look for a region: the slice that shows most of it, and its middle.

    Parameters
    ----------
    region
        In the array index of `grid`.
    grid, axis
        As :func:`place_of`.
    """
    return place_of(grid, axis, region.largest_slice[axis], region.centre)


def slice_axis(grid: Grid) -> int:
    """Return the array axis along which a scan's slices are stacked.

    The axis whose spacing is half as large again as both others' or more; failing that
    the one whose spacing differs where the other two agree within 1 % (pixels are
    square, slices may be thinner than they are wide); failing that the one nearest the
    patient's long axis.
    """
    spacing = np.asarray(grid.spacing)
    coarsest = int(np.argmax(spacing))
    if spacing[coarsest] >= 1.5 * np.delete(spacing, coarsest).max():
        return coarsest
    odd = []
    for axis in range(3):
        first, second = np.delete(spacing, axis)
        square = abs(first - second) <= 0.01 * first
        if square and abs(spacing[axis] - first) > 0.01 * first:
            odd.append(axis)
    if len(odd) == 1:
        return odd[0]
    return next(axis for axis, code in enumerate(grid.orientation) if code in "SI")


def explanation(
    salient: Salient,
    ct_grid: Grid,
    name: str = "volume",
    places: Sequence[Region] | None = None,
    most: int = MOST_REGIONS,
) -> dict[str, Any]:
    """Return a volume's organs and regions in order of attention, placed on the CT.

    Parameters
    ----------
    salient
        Sizes and regions on the working grid.
    ct_grid
        Grid of the CT as it is stored: any orientation and spacing.
    name
        The volume.
    places
        Regions to list instead of the salient ones (:mod:`atlas8k.attention.places`).
    most
        The number of regions to list at most.

    Returns
    -------
    dict
        Ready for JSON, ml and mm with three digits after the point:

        ``name``, ``attention_ml``
            The volume and its attention size.
        ``slice_axis``, ``plane``, ``slices``
            Array axis of the CT along which its slices are stacked, 0 to 2; the plane,
            ``"axial"``, ``"coronal"`` or ``"sagittal"``, that these are nearest to; their number.
        ``voxels``
            Of the CT.
        ``organs``
            Of each ``organ`` Eq. 4 ``attention_ml``, the sum of ``inconsistency_ml``,
            ``uncertainty_ml`` and ``overlap_ml``; ``salient_ml``, the volume of its salient
            voxels; the number of its ``regions``.
        ``regions``
            Of each the ``organ`` in doubt; ``ml`` and ``attention_ml``, its volume and the sum
            of Eq. 4; ``slice``, index from 0 of the CT slice with its largest cross-section;
            ``start``, ``stop`` (exclusive) and ``centre`` in the CT's array index;
            ``centre_mm``, RAS+; ``place``, see :meth:`Place.as_dict`; ``wrong_ml``, ``chance``
            ``why`` and ``also``, see :class:`~atlas8k.attention.regions.Region`.
        ``regions_in_all``
            How many there are.
    """
    sizes, axis = salient.sizes, slice_axis(ct_grid)
    shown = salient.regions if places is None else places
    organs = [
        {
            "organ": organ,
            "attention_ml": _rounded(ml),
            "inconsistency_ml": _rounded(sizes.inconsistency_ml[organ]),
            "uncertainty_ml": _rounded(sizes.uncertainty_ml[organ]),
            "overlap_ml": _rounded(sizes.overlap_ml[organ]),
            "salient_ml": _rounded(salient.salient_ml[organ]),
            "regions": sum(organ in region.organs for region in shown),
        }
        for organ, ml in sorted(sizes.attention_ml.items(), key=lambda item: (-item[1], item[0]))
    ]
    return {
        "name": name,
        "attention_ml": _rounded(sizes.total_ml),
        "slice_axis": axis,
        "plane": PLANES.get(ct_grid.orientation[axis], "axial"),
        "slices": ct_grid.shape[axis],
        "voxels": prod(ct_grid.shape),
        "organs": organs,
        "regions": [_region_record(region, salient.grid, ct_grid, axis) for region in shown[:most]],
        "regions_in_all": len(shown),
    }


def _region_record(region: Region, grid: Grid, ct_grid: Grid, axis: int) -> dict[str, Any]:
    on_ct = region.on(grid, ct_grid)
    centre_mm = grid.affine[:3, :3] @ region.centre + grid.affine[:3, 3]
    return {
        "organ": region.organ,
        "ml": _rounded(region.ml),
        "attention_ml": _rounded(region.attention_ml),
        "slice": on_ct.largest_slice[axis],
        "start": list(on_ct.start),
        "stop": list(on_ct.stop),
        "centre": [_rounded(part) for part in on_ct.centre],
        "centre_mm": [_rounded(part) for part in centre_mm],
        "place": place_of_region(on_ct, ct_grid, axis).as_dict(),
        "wrong_ml": _rounded(region.wrong_ml),
        "chance": _rounded(region.chance),
        "why": region.why,
        "also": list(region.also),
    }


def _rounded(value: float) -> float:
    """Round to three digits: a microlitre, a micrometre."""
    return round(float(value), 3)


def _point(mm: Any) -> Point:
    x, y, z = (round(float(part), 3) + 0.0 for part in mm)
    return x, y, z
