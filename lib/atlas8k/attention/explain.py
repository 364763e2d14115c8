"""Why a volume ranks where it does, and where to look: in the CT's own index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from atlas8k.attention.inputs import Probs
from atlas8k.attention.places import PLANES, place_of_region
from atlas8k.attention.quantise import Quantised
from atlas8k.attention.regions import Point, Region, Triple
from atlas8k.attention.salient import Salient, SalientSettings, salient_regions
from atlas8k.grid import Grid
from atlas8k.organs import ORGAN_NAMES

BRIEF_REGIONS = 20


@dataclass(frozen=True)
class OrganNote:
    """What one organ adds to a volume's attention, in ml.

    Attributes
    ----------
    organ
        Organ name.
    attention_ml
        Eq. 4, the sum of the next three.
    inconsistency_ml, uncertainty_ml, overlap_ml
        Eq. 1 to 3.
    salient_ml
        Volume of its salient voxels.
    regions
        Number of its regions.
    """

    organ: str
    attention_ml: float
    inconsistency_ml: float
    uncertainty_ml: float
    overlap_ml: float
    salient_ml: float
    regions: int


@dataclass(frozen=True)
class RegionNote:
    """Where to look for one region.

    Attributes
    ----------
    organ
        Organ whose prediction is in doubt there.
    ml, attention_ml
        Volume of the region, and Eq. 4 summed over it.
    slice
        Index, from 0, of the CT slice with the region's largest cross-section.
    start, stop
        Bounding box in the CT's array index, ``stop`` exclusive.
    centre
        Centroid in the CT's array index.
    centre_mm
        Centroid in RAS+ millimetres.
    place
        The slice and the region's middle in it, as each viewer shows them.
    """

    organ: str
    ml: float
    attention_ml: float
    slice: int
    start: Triple
    stop: Triple
    centre: Point
    centre_mm: Point
    place: dict[str, Any]


@dataclass(frozen=True)
class Explanation:
    """A volume's organs and regions, those with the largest attention first.

    Attributes
    ----------
    name
        The volume.
    attention_ml
        Attention size of the volume.
    slice_axis
        Array axis of the CT along which its slices are stacked, 0 to 2.
    plane
        ``"axial"``, ``"coronal"`` or ``"sagittal"``: the plane that these slices are
        nearest to.
    slices
        Number of them.
    organs, regions
        In order of attention.
    """

    name: str
    attention_ml: float
    slice_axis: int
    plane: str
    slices: int
    organs: tuple[OrganNote, ...]
    regions: tuple[RegionNote, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain fields, ready for JSON."""
        return asdict(self)

    def brief(self, regions: int = BRIEF_REGIONS) -> dict[str, Any]:
        """The same with the first regions only and figures as a reader needs them.

        Parameters
        ----------
        regions
            As many are listed; ``regions_in_all`` says how many there are.
        """
        fields = self.as_dict() | {"regions_in_all": len(self.regions)}
        fields["organs"] = [_rounded(organ) for organ in fields["organs"]]
        fields["regions"] = [_rounded(region) for region in fields["regions"][:regions]]
        return _rounded(fields)


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    """Floats with three digits after the point: a microlitre, a micrometre."""
    return {
        key: [round(part, 3) for part in value]
        if isinstance(value, tuple)
        else round(value, 3)
        if isinstance(value, float)
        else value
        for key, value in fields.items()
    }


def slice_axis(grid: Grid) -> int:
    """Array axis along which a scan's slices are stacked.

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
        one, other = np.delete(spacing, axis)
        square = abs(one - other) <= 0.01 * one
        if square and abs(spacing[axis] - one) > 0.01 * one:
            odd.append(axis)
    if len(odd) == 1:
        return odd[0]
    return next(axis for axis, code in enumerate(grid.orientation) if code in "SI")


def explanation_of(salient: Salient, ct_grid: Grid, name: str = "volume") -> Explanation:
    """Organs and regions in order, placed on the CT.

    Parameters
    ----------
    salient
        Sizes and regions on the working grid.
    ct_grid
        Grid of the CT as it is stored: any orientation and spacing.
    name
        The volume.
    """
    sizes = salient.sizes
    axis = slice_axis(ct_grid)
    organs = [
        OrganNote(
            organ=organ,
            attention_ml=ml,
            inconsistency_ml=sizes.inconsistency_ml[organ],
            uncertainty_ml=sizes.uncertainty_ml[organ],
            overlap_ml=sizes.overlap_ml[organ],
            salient_ml=salient.salient_ml[organ],
            regions=len(salient.of(organ)),
        )
        for organ, ml in sizes.attention_ml.items()
    ]
    organs.sort(key=lambda note: (-note.attention_ml, note.organ))
    return Explanation(
        name=name,
        attention_ml=sizes.total_ml,
        slice_axis=axis,
        plane=PLANES.get(ct_grid.orientation[axis], "axial"),
        slices=ct_grid.shape[axis],
        organs=tuple(organs),
        regions=tuple(_note(region, salient.grid, ct_grid, axis) for region in salient.regions),
    )


def explain_volume(
    probs: Probs | Quantised,
    grid: Grid,
    ct_grid: Grid,
    settings: SalientSettings | None = None,
    *,
    organs: Sequence[str] = ORGAN_NAMES,
    name: str = "volume",
) -> Explanation:
    """:func:`explanation_of` from the probabilities on their grid.

    Parameters and errors are those of :func:`~atlas8k.attention.salient_regions`.
    """
    return explanation_of(
        salient_regions(probs, grid, settings, organs=organs, name=name), ct_grid, name
    )


def _note(region: Region, grid: Grid, ct_grid: Grid, axis: int) -> RegionNote:
    x, y, z = (float(v) for v in grid.affine[:3, :3] @ region.centre + grid.affine[:3, 3])
    placed = region.on(grid, ct_grid)
    return RegionNote(
        organ=region.organ,
        ml=region.ml,
        attention_ml=region.attention_ml,
        slice=placed.largest_slice[axis],
        start=placed.start,
        stop=placed.stop,
        centre=placed.centre,
        centre_mm=(x, y, z),
        place=place_of_region(placed, ct_grid, axis).as_dict(),
    )
