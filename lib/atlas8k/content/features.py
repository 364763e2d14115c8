"""Measure plain features of a CT with its predicted organs, by which CTs can be compared.

They are coverage, noise, body, position, contrast phase and agreement of the networks. They
are measured on every few voxels, since a median or an area needs no more; only noise needs
the CT's own grid.

Contrast phase: see :mod:`~atlas8k.content.phase`.

Position: the table shows where down is; without one, wide levels of gas over fluid do. The
spine shows which side is the back: where it lies in front, the file's axes are wrong, as
when a patient lay prone and the header does not have it.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.content.abdomen import BODY_HU, measure_slices, thinned
from atlas8k.content.phase import LEAST_ML, UNSURE, estimate_phase, organ_hu
from atlas8k.core.components import largest_component
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.resample import to_canonical
from atlas8k.core.structures import ORGANS

Array = npt.NDArray[Any]
Features = dict[str, float | str | None]
Labels = npt.NDArray[np.uint8]

CUT_ML = 0.5
"""Least volume in the last voxels before a border, of an organ that the border cuts."""
LUNG = 0.05
"""Share of lung in the uppermost slices of a CT that reaches above the diaphragm."""
BLOCK_MM = 10.0
SLICES = 12
"""Most planes to measure, evenly spaced."""
SOFT_HU = (0.0, 200.0)
QUIETEST = 20.0
"""Per cent: of blocks of soft tissue the quietest fifth is homogeneous, the others hold edges."""
FEWEST = 30

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
    hu = organ_hu(to_canonical(ct), thin, labels[0])
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
