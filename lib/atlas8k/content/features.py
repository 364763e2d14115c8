"""Plain features of a CT with its predicted organs, in which CTs are like each other or not.

Coverage, noise, body, contrast phase and how far the networks agree. They are measured on
every few voxels, since a median or an area needs no more; only noise needs the CT's own grid.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.content.abdomen import look
from atlas8k.content.noise import noise_hu
from atlas8k.content.phase import estimate_phase
from atlas8k.content.position import estimate_position
from atlas8k.grid import Grid, Volume
from atlas8k.organs import ORGAN_IDS, ORGANS
from atlas8k.resampling import to_canonical

THIN_MM = 4.0
LEAST_ML = 2.0
"""Of an organ that counts as found; less is a speck."""
CUT_ML = 0.5
"""Of an organ in the last voxels before a border that cuts it."""
LUNG = 0.05
"""Share of lung in the uppermost slices of a CT that reaches above the diaphragm."""
BLOOD = {"aorta": ("aorta",), "postcava": ("postcava",), "kidneys": ("kidney_left", "kidney_right"),
         "liver": ("liver",), "spleen": ("spleen",)}  # fmt: skip

Features = dict[str, float | str | None]
Labels = npt.NDArray[np.uint8]


def thinned(ct: Volume) -> Volume:
    """Return every few voxels of a CT, about 4 mm apart, axes nearest RAS; a view."""
    upright = to_canonical(ct)
    step = np.maximum(1, np.rint(THIN_MM / np.asarray(upright.grid.spacing))).astype(int)
    array = upright.array[:: step[0], :: step[1], :: step[2]]
    affine = upright.grid.affine @ np.diag([*step.astype(float), 1.0])
    return Volume(array, Grid((array.shape[0], array.shape[1], array.shape[2]), affine))


def measure(ct: Volume, thin: Volume, labels: Labels) -> tuple[Features, dict[str, Any]]:
    """Measure the features of a CT.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing.
    thin
        Of it, by :func:`thinned`.
    labels
        ``(1 + networks, *thin.shape)`` uint8 organ ids: the ensemble's label, then each
        network's own.

    Returns
    -------
    features : dict
        Numbers and words by name, ``None`` where they cannot be told.
    found : dict
        What they were told from: ``hu`` of organs, ``cut`` organs by border,
        ``lung_above``: whether lung is seen in the uppermost slices.
    """
    spacing = ct.grid.canonical().spacing
    slices = look(thin)
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
    """Of the organ's inside where that has voxels, else of all of it."""
    mask = np.isin(label, [ORGAN_IDS[name] for name in organs])
    if mask.sum() * thin.grid.voxel_ml < LEAST_ML:
        return None
    inside = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inside &= np.roll(mask, step, axis)
    return float(np.median(thin.array[inside if inside.sum() >= 20 else mask]))


def _cut(grid: Grid, label: Labels) -> dict[str, list[str]]:
    """Organs that reach a border of the CT; the great vessels leave any abdomen."""
    enough = CUT_ML / grid.voxel_ml
    found = {}
    for where, planes in (
        ("above", (label[..., -1],)),
        ("below", (label[..., 0],)),
        ("at a side", (label[0], label[-1], label[:, 0], label[:, -1])),
    ):
        counts = np.zeros(len(ORGANS) + 1, dtype=int)
        for plane in planes:
            counts += np.bincount(plane.ravel(), minlength=len(counts))
        names = [one.name for one in ORGANS if counts[one.id] >= max(1.0, enough)]
        found[where] = [name for name in names if name not in ("aorta", "postcava")]
    return {where: names for where, names in found.items() if names}


def _coverage(cut: dict[str, list[str]], any_organ: bool) -> str:
    if not any_organ:
        return "no organ"
    return f"cut {' and '.join(cut)}" if cut else "whole"


def _agreement(labels: Labels) -> float | None:
    """Mean Dice of pairs of networks over the organs that any of them found."""
    pairs = list(combinations(range(len(labels)), 2))
    values = []
    for organ in ORGANS:
        masks = [one == organ.id for one in labels]
        sizes = [int(mask.sum()) for mask in masks]
        if max(sizes, default=0) < 10:
            continue
        values += [
            2 * int((masks[i] & masks[j]).sum()) / max(1, sizes[i] + sizes[j]) for i, j in pairs
        ]
    return float(np.mean(values)) if values else None
