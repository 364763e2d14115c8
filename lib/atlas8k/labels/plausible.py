"""Organ volumes that people do not have, or hardly ever: asked about before they count."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from atlas8k.grid import Grid
from atlas8k.labels.checks import cut_by_border
from atlas8k.ledger.records import OrganChange

PEOPLE_ML: Mapping[str, tuple[float, float]] = {
    "aorta": (83.0, 314.2),
    "gall_bladder": (4.0, 69.2),
    "kidney_left": (73.0, 241.9),
    "kidney_right": (73.3, 227.5),
    "liver": (1034.6, 2510.5),
    "pancreas": (44.1, 128.4),
    "postcava": (22.4, 103.8),
    "spleen": (83.7, 593.2),
    "stomach": (95.4, 954.2),
}
"""5th and 95th percentile of the volume, ml: label maps of 50 bodies (30 hand-labelled
portal-venous CTs of patients, others of AbdomenAtlas, PanTS, TotalSegmentator, AMOS and the
ICRP), organs cut by the border of their CT left out; 42 to 47 bodies an organ, 9 of the aorta
and 8 of the postcava."""

FACTOR = 3.0
"""An organ is asked about below a third of the 5th and above three times the 95th percentile:
disease makes spleens and kidneys that far out, and a question costs a tick."""


def limits_ml(organ: str) -> tuple[float, float]:
    """Return the smallest and the largest volume that is not asked about, ml."""
    low, high = PEOPLE_ML[organ]
    return low / FACTOR, high * FACTOR


def volume_question(organ: str, ml: float) -> str | None:
    """Return what is odd about the volume of an organ that is there; None where nothing is."""
    low, high = limits_ml(organ)
    if low <= ml <= high:
        return None
    return f"{ml:,.1f} ml, where {low:,.1f} to {high:,.1f} ml are plausible"


def odd_volumes(
    array: npt.NDArray[np.uint8], grid: Grid, voxels: Mapping[str, int]
) -> dict[str, str]:
    """Return the question about every organ whose volume is implausible.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids.
    voxels
        Of the organs to be judged. One without voxels is not, nor is one within 3 voxels of
        the CT's border, which may go on outside.
    """
    asked = {
        organ: volume_question(organ, n * grid.voxel_ml) for organ, n in voxels.items() if n > 0
    }
    return {
        organ: text
        for organ, text in asked.items()
        if text is not None and not cut_by_border(array, organ)
    }


def not_certified(
    organs: Mapping[str, OrganChange],
    array: npt.NDArray[np.uint8],
    grid: Grid,
    volume_is_right: Collection[str] = (),
) -> dict[str, OrganChange]:
    """Record organs of an implausible volume as not assessed, with the question.

    The label is not refused: 3D Slicer's module can say nothing beside the voxels, so that an
    annotator whose patient has such a spleen could not submit at all. What was drawn is kept
    and shown, and counts once somebody says that the volume is right.

    Parameters
    ----------
    organs
        What :func:`~atlas8k.labels.meaning.changes` found.
    array
        ``(X, Y, Z)`` uint8, organ ids, the label that it found it in.
    volume_is_right
        Organs that are not asked about.
    """
    certified = {
        organ: change.voxels_after or 0
        for organ, change in organs.items()
        if change.state in ("confirmed", "revised") and organ not in volume_is_right
    }
    asked = odd_volumes(array, grid, certified)
    return {
        organ: change._replace(state="not_assessed", note=asked[organ])
        if organ in asked
        else change
        for organ, change in organs.items()
    }
