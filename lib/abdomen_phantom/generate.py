"""Make a phantom from a seed, on its own CT grid or straight on a coarse one."""

from __future__ import annotations

import os
from math import hypot
from typing import Any

import numpy as np
import numpy.typing as npt

from abdomen_phantom.anatomy import Anatomy, build_anatomy, paint
from abdomen_phantom.artefacts import add_metal_streaks, add_starvation
from abdomen_phantom.patient import Patient
from abdomen_phantom.scanner import (
    ALL_ORIENTATIONS,
    COMMON_ORIENTATIONS,
    Painter,
    Scan,
    add_noise,
    check_spacing,
    enhance_edges,
)
from abdomen_phantom.setting import STANDARD, Dice, Phantom, Range, Setting
from abdomen_phantom.surroundings import arm_places
from atlas8k.core.volume import Grid

Array = npt.NDArray[Any]

THICKNESSES = (0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.75, 4.0, 5.0, 6.0, 7.0)


def _threads() -> int:
    return min(8, os.cpu_count() or 1)


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
    check_spacing(grid_spacing_mm)
    painter = PhantomPainter(seed, setting, coarse=grid_spacing_mm is not None)
    patient = painter.anatomy.patient
    hard = tuple(sorted(patient.hard))
    return painter.phantom(grid_spacing_mm, seed, setting, patient.phase, hard)


def exact_label(seed: int, setting: Setting, grid: Grid) -> npt.NDArray[np.uint8]:
    """Return the truth of a phantom at the voxel centres of any axis-aligned RAS grid.

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
    anatomy = build_anatomy(Dice(seed, setting), setting, truth_only=True)
    _, label = paint(anatomy, grid, 1.0, 0.0, threads=_threads())
    return label.transpose(1, 2, 0)


class PhantomPainter(Painter):
    """The patient of a seed under their scanner."""

    def __init__(self, seed: int, setting: Setting, *, coarse: bool) -> None:
        self.dice = Dice(seed, setting)
        self.anatomy: Anatomy = build_anatomy(self.dice, setting)
        self.scan = scan = draw_scan(self.dice, setting, self.anatomy.patient)
        # Edge of 10 to 90 % of a Gaussian kernel, and the voxel's own width.
        self.edge = hypot(2.6 * scan.kernel_mm, 0.7 * scan.in_plane_mm)
        if coarse:
            # Linear interpolation at positions without a relation to the voxels blurs by
            # about the voxel size.
            self.edge = hypot(self.edge, 0.8 * scan.in_plane_mm)
        # Coarse ones are made for training, in several processes.
        self.threads = 1 if coarse else _threads()

    def paint(self, grid: Grid) -> tuple[Array, Array]:
        thickness = self.scan.thickness_mm
        return paint(self.anatomy, grid, self.edge, thickness, threads=self.threads)

    def densities(self, grid: Grid) -> Array:
        return paint(self.anatomy, grid, self.edge, self.scan.thickness_mm, labels=False)[0]

    def labels(self, grid: Grid) -> Array:
        return paint(self.anatomy.truth(), grid, self.edge, 0.0)[1]

    def spoil(self, hu: Array, grid: Grid, share: float = 1.0, share_z: float = 1.0) -> None:
        patient, spacing = self.anatomy.patient, grid.spacing[0]
        enhance_edges(hu, self.scan, spacing)
        for number, streak in enumerate(self.anatomy.metal):
            place = self.anatomy.in_patient(streak.place)
            add_metal_streaks(hu, grid, streak, place, self.dice(f"streak_{number}"))
        if "arms_at_side" in patient.hard:
            heights = [y for _, _, y in arm_places(patient)]
            add_starvation(hu, grid, float(np.mean(heights)), self.dice("starvation"))
        add_noise(hu, self.dice, self.scan, spacing, share, share_z)


def draw_scan(dice: Dice, setting: Setting, p: Patient) -> Scan:
    """Draw voxel size, field of view, noise and orientation."""
    rng = dice("scan")
    low_t, high_t = setting.thickness_mm
    options = np.array([t for t in THICKNESSES if low_t <= t <= high_t])
    thickness = float(rng.choice(options, p=options**0.5 / (options**0.5).sum()))
    noise = rng.uniform(*setting.noise_hu) * float(np.clip((2.5 / thickness) ** 0.5, 0.75, 1.4))
    in_plane = round(float(rng.uniform(*setting.in_plane_mm)), 3)
    margin = rng.uniform(2, 45) if setting.people else rng.uniform(4, 14)
    side = p.half_width + 18 + p.fat_side + margin
    front = p.front + 12 + p.fat_front + margin
    back = p.back + 42 + p.fat_back + margin
    bottom, top = (rng.uniform(*ends) * p.scale[2] for ends in _ends(setting, p.hard))
    if "arms_at_side" in p.hard:
        side += dice("arms_in_view").uniform(0, 100)
    shift = rng.uniform(-6, 6, 2)
    low = np.array([-side + shift[0], -back + shift[1], bottom])
    high = np.array([side + shift[0], front + shift[1], top])
    cut = dice("cut")
    if "cut_off_field_of_view" in p.hard:
        where = cut.integers(0, 3)
        if where == 0:
            high[2] = cut.uniform(20, 60) * p.scale[2]
        elif where == 1:
            low[2] = cut.uniform(-40, 0) * p.scale[2]
        else:
            loss = cut.uniform(40, 75)
            if cut.random() < 0.5:
                low[0] += loss
            else:
                high[0] -= loss
    if "half_abdomen" in p.hard:
        axis, middle = int(cut.integers(0, 2)), cut.uniform(-25, 25)
        if cut.random() < 0.5:
            low[axis] = middle
        else:
            high[axis] = middle
    if rng.random() < setting.common_orientation:
        orientation = str(rng.choice(COMMON_ORIENTATIONS))
    else:
        orientation = str(rng.choice(ALL_ORIENTATIONS))
    return Scan(
        in_plane,
        thickness,
        orientation,
        float(noise),
        float(rng.uniform(*setting.kernel_mm)),
        float(rng.uniform(*setting.edge_gain)),
        low,
        high,
    )


def _ends(setting: Setting, hard: frozenset[str]) -> tuple[Range, Range]:
    """Return where a scan ends and begins, in the mean anatomy, mm."""
    if not setting.people:
        return (-150, -110), (112, 150)
    low = (-320, -200) if "ends_in_pelvis" in hard else (-190, -135)
    return low, (165, 240) if "begins_at_lungs" in hard else (100, 160)
