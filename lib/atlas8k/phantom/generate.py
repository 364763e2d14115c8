"""A phantom from a seed, on its own CT grid or straight on a coarse one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import hypot
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.phantom.anatomy import Anatomy, build_anatomy
from atlas8k.phantom.artefacts import add_artefacts
from atlas8k.phantom.contrast import draw_phase
from atlas8k.phantom.scanner import (
    HIGH_HU,
    LOW_HU,
    Scan,
    add_noise,
    draw_scan,
    enhance_edges,
    interpolated_noise,
    orient,
    paint,
    ras_grid,
)
from atlas8k.phantom.scene import truth_shapes
from atlas8k.phantom.setting import STANDARD, Dice, PhantomCase, Setting
from atlas8k.volume import Grid, Volume

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Phantom:
    """A synthetic CT with exact truth.

    Attributes
    ----------
    ct
        ``(X, Y, Z)`` int16, HU.
    label
        ``(X, Y, Z)`` uint8 on the same grid: organ ids 1 to 9, 0 elsewhere.
    case
        What was drawn.
    """

    ct: Volume
    label: Volume
    case: PhantomCase


def draw_hard_cases(dice: Dice, setting: Setting) -> frozenset[str]:
    """Names of the hard cases this phantom is; each is drawn on its own."""
    rng = dice("hard_case")
    chances = {name: rng.random() for name in sorted(setting.hard_cases)}
    return frozenset(name for name, chance in chances.items() if chance < setting.hard_cases[name])


def generate(
    seed: int, setting: Setting = STANDARD, *, grid_spacing_mm: float | None = None
) -> Phantom:
    """Make the phantom of a seed; the same seed and setting give the same voxels.

    Parameters
    ----------
    seed
        From 0 up.
    setting
        Ranges to draw from; :data:`STANDARD`, :data:`SHIFTED` or :data:`WIDE`.
    grid_spacing_mm
        ``None``: a CT as the scanner writes it, any spacing and orientation. A number:
        the same patient and scan straight on an axis-aligned RAS grid of that spacing,
        blurred and noisy as the CT would be after linear resampling; fast, for training.

    Raises
    ------
    ValueError
        A negative seed, or a spacing that is not positive.
    """
    if grid_spacing_mm is not None and not grid_spacing_mm > 0:
        raise ValueError(f"the grid spacing must be a positive length in mm, not {grid_spacing_mm}")
    dice = Dice(seed, setting)
    phase = draw_phase(dice, setting)
    hard = draw_hard_cases(dice, setting)
    anatomy = build_anatomy(dice, setting, phase, hard)
    scan = draw_scan(dice, setting, anatomy, hard)
    # Edge of 10 to 90 % of a Gaussian kernel, and the voxel's own width.
    edge = hypot(2.6 * scan.kernel_mm, 0.7 * scan.in_plane_mm)
    if grid_spacing_mm is None:
        grid = ras_grid(scan, (scan.in_plane_mm, scan.in_plane_mm, scan.thickness_mm))
        hu, label = paint(
            anatomy, grid, edge, scan.thickness_mm, threads=min(8, os.cpu_count() or 1)
        )
        enhance_edges(hu, scan, scan.in_plane_mm)
        add_artefacts(hu, grid, anatomy, dice, hard)
        add_noise(hu, dice, scan, scan.in_plane_mm)
        orientation = scan.orientation
    else:
        grid = ras_grid(scan, (grid_spacing_mm,) * 3)
        hu, label = _coarse(anatomy, grid, scan, dice, edge, hard)
        orientation = "RAS"
    ct = np.clip(np.rint(hu), LOW_HU, HIGH_HU).astype(np.int16).transpose(1, 2, 0)
    ct, oriented = orient(ct, grid, orientation)
    truth, _ = orient(label.transpose(1, 2, 0), grid, orientation)
    case = PhantomCase(
        seed=seed,
        setting=setting.name,
        version=setting.version,
        phase=phase,
        spacing_mm=oriented.spacing,
        orientation=orientation,
        noise_hu=round(scan.noise_hu, 2),
        hard_cases=tuple(sorted(hard)),
    )
    return Phantom(Volume(ct, oriented), Volume(truth, oriented), case)


def exact_label(seed: int, setting: Setting, grid: Grid) -> npt.NDArray[np.uint8]:
    """The truth of a phantom at the voxel centres of any axis-aligned RAS grid.

    Parameters
    ----------
    seed, setting
        Of the phantom, as for :func:`generate`.
    grid
        In the phantom's own mm: a crop or a finer grid of what :func:`generate` gave.

    Returns
    -------
    ndarray
        ``grid.shape`` uint8, organ ids 1 to 9, 0 elsewhere.

    Raises
    ------
    ValueError
        A negative seed, or a grid with other axes.
    """
    matrix = grid.affine[:3, :3]
    if not np.array_equal(matrix, np.diag(np.diag(matrix))) or not (np.diag(matrix) > 0).all():
        raise ValueError("the truth is painted on axis-aligned RAS grids only")
    dice = Dice(seed, setting)
    hard = draw_hard_cases(dice, setting)
    phase = draw_phase(dice, setting)
    anatomy = build_anatomy(dice, setting, phase, hard, truth_only=True)
    _, label = paint(anatomy, grid, 1.0, 0.0, threads=min(8, os.cpu_count() or 1))
    return label.transpose(1, 2, 0)


def slice_thickness(seed: int, setting: Setting) -> float:
    """Thickness in mm of the slices that a phantom's scanner writes."""
    return _drawn(seed, setting)[1].thickness_mm


def _drawn(seed: int, setting: Setting) -> tuple[Anatomy, Scan]:
    dice = Dice(seed, setting)
    hard = draw_hard_cases(dice, setting)
    anatomy = build_anatomy(dice, setting, draw_phase(dice, setting), hard)
    return anatomy, draw_scan(dice, setting, anatomy, hard)


def _truth_of(anatomy: Anatomy) -> Anatomy:
    return replace(anatomy, shapes=truth_shapes(anatomy.shapes))


def _coarse(
    anatomy: Anatomy, grid: Grid, scan: Scan, dice: Dice, edge: float, hard: frozenset[str]
) -> tuple[Array, Array]:
    """What linear resampling of the full CT to ``grid`` gives; ``(Z, X, Y)`` arrays."""
    spacing = grid.spacing[2]
    native = ras_grid(scan, (scan.in_plane_mm, scan.in_plane_mm, scan.thickness_mm))
    share, share_z = interpolated_noise(scan, native, grid)
    # Linear interpolation at positions without a relation to the voxels blurs by about
    # the voxel size.
    edge = hypot(edge, 0.8 * scan.in_plane_mm)
    if scan.thickness_mm <= spacing:
        hu, label = paint(anatomy, grid, edge, scan.thickness_mm)
        enhance_edges(hu, scan, spacing)
        add_artefacts(hu, grid, anatomy, dice, hard)
        add_noise(hu, dice, scan, spacing, share, share_z)
        return hu, label
    thick = ras_grid(scan, (spacing, spacing, scan.thickness_mm))
    slices, _ = paint(anatomy, thick, edge, scan.thickness_mm, labels=False)
    enhance_edges(slices, scan, spacing)
    add_artefacts(slices, thick, anatomy, dice, hard)
    add_noise(slices, dice, scan, spacing, share)
    _, label = paint(_truth_of(anatomy), grid, edge, 0.0)
    at = grid.affine[2, 3] + spacing * np.arange(grid.shape[2]) - thick.affine[2, 3]
    at = np.clip(at / scan.thickness_mm, 0, thick.shape[2] - 1)
    below = np.minimum(at.astype(int), thick.shape[2] - 2)
    part = (at - below).astype(np.float32)[:, None, None]
    return slices[below] * (1 - part) + slices[below + 1] * part, label
