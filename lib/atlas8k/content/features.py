"""Measure plain features of a CT with its predicted organs, by which CTs can be compared.

They are coverage, noise, body, position, contrast phase and agreement of the networks. They
are measured on every few voxels, since a median or an area needs no more; only noise needs
the CT's own grid.

Phase: blood and kidneys decide it. Unenhanced both are below 75 HU; in the arterial phase the
aorta is far brighter than the cava; later both agree, and the kidneys stay bright while blood
fades. HU are textbook ranges. Where they contradict each other, or too little was predicted,
it is unsure.

Position: the table shows where down is; without one, wide levels of gas over fluid do. The
spine shows which side is the back: where it lies in front, the file's axes are wrong, as
when a patient lay prone and the header does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.content.abdomen import BODY_HU, measure_slices, thinned
from atlas8k.core.components import largest_component
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.resample import to_canonical
from atlas8k.core.structures import ORGAN_IDS, ORGANS

Array = npt.NDArray[Any]
Features = dict[str, float | str | None]
Labels = npt.NDArray[np.uint8]

UNSURE = "unsure"

LEAST_ML = 2.0
"""Least volume of an organ that counts as found; less is a speck."""
CUT_ML = 0.5
"""Least volume in the last voxels before a border, of an organ that the border cuts."""
LUNG = 0.05
"""Share of lung in the uppermost slices of a CT that reaches above the diaphragm."""
BLOOD = {"aorta": ("aorta",), "postcava": ("postcava",), "kidneys": ("kidney_left", "kidney_right"),
         "liver": ("liver",), "spleen": ("spleen",)}  # fmt: skip

BLOCK_MM = 10.0
SLICES = 12
"""Most planes to measure, evenly spaced."""
SOFT_HU = (0.0, 200.0)
QUIETEST = 20.0
"""Per cent: of blocks of soft tissue the quietest fifth is homogeneous, the others hold edges."""
FEWEST = 30

NON_CONTRAST, ARTERIAL, PORTAL, DELAYED = "non-contrast", "arterial", "portal-venous", "delayed"

PLAIN_HU, ENHANCED_HU = 70.0, 85.0
"""Unenhanced blood is 30 to 60 HU, a kidney 25 to 40; enhanced ones are above 85."""
ARTERIAL_HU, ARTERIAL_GAP_HU = 220.0, 50.0
"""Aorta alone, where no cava was predicted, and its lead over the cava in an arterial phase."""
PORTAL_LIVER_HU, PORTAL_AORTA_HU = 90.0, 190.0
"""A liver this bright, with blood no brighter than this, is portal-venous whatever the cava
shows: blood of the legs comes back unenhanced."""
LATE_GAP_HU, EARLY_GAP_HU = 45.0, 30.0
"""Lead of the kidneys over the aorta in a delayed phase, and before it."""
DELAYED_AORTA_HU = 130.0
"""Blood is above this in most portal-venous CTs, and below it in all delayed ones."""

SUPINE, PRONE = "on the back", "on the face"
SPINE_IN_FRONT = "spine in front"

TABLE_HU, GAS_HU, BONE_HU = -800.0, -600.0, 200.0
CLEAR = 3
"""Least ratio of the evidence for one side to that for the other."""
TABLE, LEVEL, LEVELS = 60, 10, 20
"""Voxels of a table, columns of gas that make one level, and of all levels together."""
LASTING = 0.3
"""Share of bone in the voxels around the spine's middle, through all slices."""


def measure(ct: Volume, labels: Labels, grid: Grid) -> tuple[Features, dict[str, Any]]:
    """Measure the features of a CT.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing.
    labels
        ``(1 + networks, *grid.shape)`` uint8 organ ids: the ensemble's label, then each
        network's own.
    grid
        Grid of the labels.

    Returns
    -------
    features : dict
        Numbers and words by name, ``None`` where nothing is known.
    found : dict
        Values that they were derived from: ``hu`` of organs, ``cut`` organs by border,
        ``lung_above``: whether lung is seen in the uppermost slices.
    """
    thin = thinned(ct)
    to_label = np.linalg.solve(grid.affine, thin.grid.affine)
    place = to_label[:3, :3], to_label[:3, 3] + 1e-6, thin.grid.shape
    labels = np.stack(
        [ndimage.affine_transform(label, *place, order=0, mode="grid-constant") for label in labels]
    )
    spacing = ct.grid.canonical().spacing
    slices = measure_slices(thin)
    body = slices.area_cm2 > 0
    whole = body & ~slices.cut
    body_ml = float(slices.area_cm2.sum()) * slices.height_mm / 10.0
    ml = np.bincount(labels[0].ravel(), minlength=len(ORGANS) + 1)[1:] * thin.grid.voxel_ml
    hu = {name: _median_hu(thin, labels[0], organs) for name, organs in BLOOD.items()}
    cut = _cut(thin.grid, labels[0])
    top = slices.lung[body][-max(1, round(20 / slices.height_mm)) :]
    features: Features = {
        "phase": estimate_phase(hu),
        "coverage": _coverage(cut, bool((ml >= LEAST_ML).any())),
        "height_mm": ct.grid.canonical().shape[2] * spacing[2],
        "organs": float((ml >= LEAST_ML).sum()),
        "organ_share": 100.0 * float(ml.sum()) / body_ml if body_ml else None,
        "noise_hu": noise_hu(ct),
        "pixel_mm": max(spacing[:2]),
        "slice_mm": spacing[2],
        "body_cm2": float(np.median(slices.area_cm2[whole])) if whole.any() else None,
        "position": estimate_position(thin),
        "agreement": _agreement(labels[1:]),
    }
    return features, {
        "hu": {name: value and round(value) for name, value in hu.items()},
        "cut": cut,
        "lung_above": bool(len(top) and top.max() > LUNG),
    }


def _median_hu(thin: Volume, label: Labels, organs: tuple[str, ...]) -> float | None:
    """Return the median HU of an organ's inside where that has voxels, else of all of it."""
    mask = np.isin(label, [ORGAN_IDS[name] for name in organs])
    if mask.sum() * thin.grid.voxel_ml < LEAST_ML:
        return None
    inside = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inside &= np.roll(mask, step, axis)
    return float(np.median(thin.array[inside if inside.sum() >= 20 else mask]))


def _cut(grid: Grid, label: Labels) -> dict[str, list[str]]:
    """Find organs that reach a border of the CT; the great vessels, which always do, aside."""
    least_voxels = CUT_ML / grid.voxel_ml
    by_border = {}
    for border, planes in (
        ("above", (label[..., -1],)),
        ("below", (label[..., 0],)),
        ("at a side", (label[0], label[-1], label[:, 0], label[:, -1])),
    ):
        counts = np.zeros(len(ORGANS) + 1, dtype=int)
        for plane in planes:
            counts += np.bincount(plane.ravel(), minlength=len(counts))
        names = [organ.name for organ in ORGANS if counts[organ.id] >= max(1.0, least_voxels)]
        by_border[border] = [name for name in names if name not in ("aorta", "postcava")]
    return {border: names for border, names in by_border.items() if names}


def _coverage(cut: dict[str, list[str]], any_organ: bool) -> str:
    if not any_organ:
        return "no organ"
    return f"cut {' and '.join(cut)}" if cut else "whole"


def _agreement(labels: Labels) -> float | None:
    """Compute the mean DSC of pairs of networks over the organs that any of them found."""
    pairs = list(combinations(range(len(labels)), 2))
    values = []
    for organ in ORGANS:
        masks = [label == organ.id for label in labels]
        sizes = [int(mask.sum()) for mask in masks]
        if max(sizes, default=0) < 10:
            continue
        values += [
            2 * int((masks[i] & masks[j]).sum()) / max(1, sizes[i] + sizes[j]) for i, j in pairs
        ]
    return float(np.mean(values)) if values else None


def noise_hu(ct: Volume) -> float | None:
    """Measure the standard deviation within homogeneous soft tissue, HU.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing.

    Returns
    -------
    float or None
        20th percentile over blocks of 10 x 10 mm of axial planes whose mean is that of soft
        tissue; ``None`` where there are hardly any.
    """
    upright = to_canonical(ct)
    x, y, z = upright.array.shape
    n, m = (
        min(size, max(4, round(BLOCK_MM / mm)))
        for size, mm in zip((x, y), upright.grid.spacing, strict=False)
    )
    deviations = []
    for k in np.unique(np.linspace(0.1 * (z - 1), 0.9 * (z - 1), SLICES).round().astype(int)):
        plane = np.asarray(upright.array[: x // n * n, : y // m * m, k], np.float32)
        blocks = plane.reshape(x // n, n, y // m, m)
        mean = blocks.mean(axis=(1, 3))
        soft = (mean > SOFT_HU[0]) & (mean < SOFT_HU[1])
        deviations.append(blocks.transpose(0, 2, 1, 3)[soft].std(axis=(1, 2)))
    spread = np.concatenate(deviations)
    return float(np.percentile(spread, QUIETEST)) if len(spread) >= FEWEST else None


def estimate_phase(hu: Mapping[str, float | None]) -> str:
    """Estimate the contrast phase by the HU of organs.

    Parameters
    ----------
    hu
        Median HU of ``aorta``, ``postcava``, ``kidneys`` and ``liver``; ``None`` where too
        little of it was predicted.
    """
    aorta, cava, kidneys = (hu.get(name) for name in ("aorta", "postcava", "kidneys"))
    known = [value for value in (aorta, kidneys) if value is not None]
    if not known:
        return UNSURE
    if max(known) < PLAIN_HU:
        return NON_CONTRAST
    if max(known) < ENHANCED_HU or aorta is None:
        return UNSURE
    lead = cava and aorta - cava
    if lead is None and aorta > ARTERIAL_HU:
        return ARTERIAL
    if lead is not None and lead > 0.8 * ARTERIAL_GAP_HU:
        if aorta < PORTAL_AORTA_HU and (hu.get("liver") or 0.0) > PORTAL_LIVER_HU:
            return PORTAL
        return ARTERIAL if lead > ARTERIAL_GAP_HU else UNSURE
    over = 0.0 if kidneys is None else kidneys - aorta
    if over > LATE_GAP_HU and aorta < DELAYED_AORTA_HU:
        return DELAYED
    return PORTAL if over < EARLY_GAP_HU or aorta > DELAYED_AORTA_HU else UNSURE


def estimate_position(thin: Volume) -> str:
    """Estimate the position of the patient on the table.

    Parameters
    ----------
    thin
        ``(X, Y, Z)`` HU, by :func:`thinned`.
    """
    array = thin.array[..., :: 1 + thin.array.shape[2] // 60]
    table, levels = np.zeros(2, int), np.zeros(2, int)
    bodies = np.zeros(array.shape, bool)
    for k in range(array.shape[2]):
        plane = np.asarray(array[..., k])
        filled = bodies[..., k] = _body(plane)
        if filled.any():
            table += _table(plane, filled)
            levels += _levels(plane, filled)
    if _spine_in_front(array, bodies):
        return SPINE_IN_FRONT
    for (back, front), least in ((table, TABLE), (levels, LEVELS)):
        if back >= max(least, CLEAR * front):
            return SUPINE
        if front >= max(least, CLEAR * back):
            return PRONE
    return UNSURE


def _body(plane: Array) -> Array:
    """Return the largest piece that is no air, filled."""
    solid = ndimage.binary_opening(plane > BODY_HU, np.ones((3, 3)))
    largest = largest_component(solid[..., None], 6)[..., 0]
    return np.asarray(ndimage.binary_fill_holes(largest))


def _spine_in_front(array: Array, bodies: Array) -> bool:
    """Return whether bone that stays in one place through the slices lies in the body's front half.

    Contrast agent in bowel is as bright, but does not stay.
    """
    columns = np.flatnonzero(bodies.any(axis=(1, 2)))
    rows = np.flatnonzero(bodies.any(axis=(0, 2)))
    if len(columns) < 9 or len(rows) < 9:
        return False
    third = slice(columns[0] + len(columns) // 3, columns[-1] + 1 - len(columns) // 3)
    bone = (bodies[third] & (array[third] > BONE_HU)).mean(axis=2)
    lasting = ndimage.uniform_filter(bone, 5, mode="constant").max(axis=0)
    middle = (rows[0] + rows[-1] + 1) // 2
    back, front = float(lasting[:middle].max()), float(lasting[middle:].max())
    return front > max(LASTING, CLEAR * back)


def _table(plane: Array, filled: Array) -> Array:
    """Count voxels that are no air behind the body, and in front of it."""
    rows = np.flatnonzero(filled.any(axis=0))
    other = (plane > TABLE_HU) & ~ndimage.binary_dilation(filled, iterations=2)
    other &= filled.any(axis=1)[:, None]
    return np.array([other[:, : rows[0] + 3].sum(), other[:, rows[-1] - 2 :].sum()])


def _levels(plane: Array, filled: Array) -> Array:
    """Count columns of gas that end on one line at the back, and at the front."""
    gas, _ = ndimage.label(ndimage.binary_erosion(filled, iterations=2) & (plane < GAS_HU))
    counts = np.zeros(2, int)
    for number, where in enumerate(ndimage.find_objects(gas), start=1):
        piece = gas[where] == number
        if len(piece) < LEVEL:
            continue
        ends = piece.argmax(axis=1), piece[:, ::-1].argmax(axis=1)
        back, front = (np.bincount(end).max() / len(end) for end in ends)
        counts += len(piece) * np.array([back > 0.7 > front, front > 0.7 > back])
    return counts
