"""Find out whether a CT in HU shows an abdomen, by body shape and intensities alone.

Axial slices are judged one by one: lung beside the mediastinum is chest, a small section full
of bone is head, neck or limb. Other slices may be abdomen; only where hardly any of them is
left does the volume hold none. A slice under a neck or above lungs belongs
to shoulders and chest, whatever it looks like. A pelvis is not distinguished from an abdomen.

The judgement errs towards an abdomen: thresholds lie far from those of abdominal CTs, and a
field of view that cuts the body never counts as a small body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.components import label_components
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.resample import to_canonical

SAMPLE_MM = 4.0
"""Spacing of the sampled voxels, within a slice and between slices."""
BODY_HU, LUNG_HU, BONE_HU = -500.0, (-930.0, -600.0), 250.0
MIN_EXTENT_MM = 30.0
"""Least height of a volume, and of its abdominal part: a third of a spleen."""
MAX_EXTENT_MM = (1000.0, 1000.0, 2300.0)
"""Widest from left to right, back to front, feet to head: gantries are 820 mm wide, tables move
2 m. More is a voxel size that is a factor of 2 or 10 off."""
SMALL_CM2, SMALL_BONY_CM2, BONY = 90.0, 280.0, 0.075
"""Cross-sections of limbs and necks (under 90 cm²), and of heads with their share of bone.

An infant's abdomen measures 100 cm², a thin adult's 300; bone is 1 to 5 % of it, of a head 8
to 20 %.
"""
LIMB_BONE = 0.02
"""Least share of bone of a head, a neck or a limb: with less, another part ends there."""
CUT = 0.2
"""Share of the slice's border inside the body from which the field of view cuts it."""
LUNG = 0.3
"""Share of lung from which a slice is chest; at the dome of the diaphragm it is 0.2."""
_PLANES = ("sagittal", "coronal", "axial")
NECK_TO_ABDOMEN_MM = 180.0
"""From the narrowest neck to the lowest lung of an adult: 250; a child of six: 180."""
NECK_MM = 25.0
"""Run of small sections at the upper end that is a neck and no artefact."""
CHEST_MM = 60.0
"""Run of chest above which shoulders follow: bowel full of gas is shorter."""
UPSIDE_DOWN_MM = 150.0
"""Height of a body above its lungs that is no pair of shoulders."""
LEGS_TO_ABDOMEN_MM = 100.0
"""From the fork of the legs to the iliac crest it is 200."""


@dataclass(frozen=True)
class Slices:
    """Measurements of the axial slices of a volume, from feet to head.

    Attributes
    ----------
    height_mm
        Distance of neighbours.
    area_cm2
        Area of the body's largest piece, filled.
    bone, lung
        Shares of that area.
    cut
        Whether the field of view cuts the body there.
    paired
        Whether two pieces of similar size lie side by side, as legs do.
    """

    height_mm: float
    area_cm2: npt.NDArray[np.float64]
    bone: npt.NDArray[np.float64]
    lung: npt.NDArray[np.float64]
    cut: npt.NDArray[np.bool_]
    paired: npt.NDArray[np.bool_]


def why_no_abdomen(ct: Volume) -> str | None:
    """Return the reason why a CT shows no abdomen, ``None`` where it may show one.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing.
    """
    upright = ct.grid.canonical()
    for count, size, across in zip(upright.shape, upright.spacing, _PLANES, strict=True):
        if count * size < MIN_EXTENT_MM:
            extent = f"{count} {across} slices over {count * size:.0f} mm"
            return f"it has {extent}; no organ fits into that"
    for extent, most in zip(
        np.multiply(upright.shape, upright.spacing), MAX_EXTENT_MM, strict=True
    ):
        if extent > most:
            return f"it is {extent:.0f} mm long, which no scanner sees; its voxel size may be wrong"
    slices = measure_slices(thinned(ct))
    if not (slices.area_cm2 > 0).any():
        return "nothing in it is denser than air"
    small = ~slices.cut & (
        (slices.area_cm2 < SMALL_CM2) | ((slices.area_cm2 < SMALL_BONY_CM2) & (slices.bone > BONY))
    )
    limb, chest = small | slices.paired, slices.lung > LUNG
    may_be_abdomen = ~limb & ~chest
    limb &= slices.bone > LIMB_BONE
    necks, legs = _from_end(limb, slices.height_mm)
    if necks is not None:
        may_be_abdomen[max(0, necks - round(NECK_TO_ABDOMEN_MM / slices.height_mm)) :] = False
    if legs is not None:
        may_be_abdomen[: legs + round(LEGS_TO_ABDOMEN_MM / slices.height_mm)] = False
    above = 0.0
    for lungs, _ in _runs(chest, CHEST_MM / slices.height_mm)[:1]:
        above = may_be_abdomen[lungs:].sum() * slices.height_mm
        may_be_abdomen[lungs:] = False
    if may_be_abdomen.sum() * slices.height_mm >= MIN_EXTENT_MM:
        return None
    if above > UPSIDE_DOWN_MM:
        return f"{above:.0f} mm of body lie above its lungs; the file may be upside down"
    if chest.sum() > limb.sum() and necks is None:
        return "it shows lungs down to its lowest slices, as a chest does"
    if necks is not None:
        return "it shows a head or neck, and at most the shoulders and chest below"
    return "its body sections are those of a head, a neck or a limb"


def _runs(mask: npt.NDArray[np.bool_], least: float) -> list[tuple[int, int]]:
    """Return first slice and end of all runs of at least so many slices, the lowest first."""
    ends = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return [(int(first), int(end)) for first, end in ends if end - first >= least]


def thinned(ct: Volume) -> Volume:
    """Sample a CT every few voxels, about 4 mm apart, axes nearest RAS; returns a view."""
    upright = to_canonical(ct)
    step = np.maximum(1, np.rint(SAMPLE_MM / np.asarray(upright.grid.spacing))).astype(int)
    array = upright.array[:: step[0], :: step[1], :: step[2]]
    affine = upright.grid.affine @ np.diag([*step.astype(float), 1.0])
    return Volume(array, Grid((array.shape[0], array.shape[1], array.shape[2]), affine))


def measure_slices(thin: Volume) -> Slices:
    """Measure the axial slices of a CT in HU that was :func:`thinned`."""
    array = thin.array
    body_hu = max(BODY_HU, float(array.min()) + 1.0)  # air is the lowest where HU are cut off
    bone_hu = min(BONE_HU, float(array.max()) - 1.0)
    x_mm, y_mm, height_mm = thin.grid.spacing
    planes = (np.asarray(array[..., k]) for k in range(array.shape[2]))
    rows = [_slice(plane, x_mm * y_mm, body_hu, bone_hu) for plane in planes]
    area, bone, lung, cut, paired = (np.array(column) for column in zip(*rows, strict=True))
    return Slices(height_mm, area, bone, lung, cut.astype(bool), paired.astype(bool))


def _slice(
    plane: npt.NDArray[Any], pixel_mm2: float, body_hu: float, bone_hu: float
) -> tuple[float, ...]:
    """Return area, shares of bone and lung, cut and paired of one ``(X, Y)`` slice."""
    lung = (plane > LUNG_HU[0]) & (plane < LUNG_HU[1])
    body = ndimage.binary_opening(plane > body_hu, np.ones((2, 2)))  # without a thin table
    pieces = label_components(body[..., None], 6)[..., 0]
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    order = np.argsort(sizes)[::-1]
    if sizes[order[0]] == 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    largest = pieces == order[0]
    filled = ndimage.binary_fill_holes(largest)
    where = ndimage.find_objects(filled.astype(np.uint8))[0]
    open_lung = np.zeros_like(lung)  # where the field of view cuts the chest, no wall encloses it
    open_lung[where] = ndimage.binary_opening(lung[where], np.ones((3, 3))) & ~filled[where]
    area = int(filled.sum()) + int(open_lung.sum())
    border = np.concatenate([filled[0], filled[-1], filled[:, 0], filled[:, -1]])
    second = sizes[order[1]] if len(order) > 1 else 0
    return (
        area * pixel_mm2 / 100.0,
        float((filled & (plane > bone_hu)).sum() / area),
        float(((filled & lung) | open_lung).sum() / area),
        float(border.mean() > CUT),
        float(second > 0.5 * sizes[order[0]] and not filled[:, 0].any() | filled[:, -1].any()),
    )


def _from_end(small: npt.NDArray[np.bool_], height_mm: float) -> tuple[int | None, int | None]:
    """Return the slice where small sections begin at the head end, and stop at the feet."""
    necks, legs = None, None
    for first, end in _runs(small, NECK_MM / height_mm):
        above, below = (~small[end:]).sum(), (~small[:first]).sum()
        if above < below or (above == below == 0):
            necks = first if necks is None else necks
        else:
            legs = end
    return necks, legs
