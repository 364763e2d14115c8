"""What a scanner draws into a slice beside the patient: streaks of metal, and between arms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, map_coordinates

from atlas8k.phantom.anatomy import Anatomy
from atlas8k.phantom.setting import Dice
from atlas8k.phantom.surroundings import Streak, arm_places
from atlas8k.volume import Grid

Array = npt.NDArray[Any]
FADE_MM = 90.0
"""Distance over which a streak of metal fades to a third."""


def add_artefacts(
    hu: Array, grid: Grid, anatomy: Anatomy, dice: Dice, hard_cases: frozenset[str]
) -> None:
    """Add streaks to ``(Z, X, Y)`` on an axis-aligned RAS grid, in place."""
    for number, streak in enumerate(anatomy.metal):
        _add_streak(hu, grid, anatomy, streak, dice(f"streak_{number}"))
    if "arms_at_side" in hard_cases:
        _add_starvation(hu, grid, anatomy, dice("starvation"))


def _add_streak(
    hu: Array, grid: Grid, anatomy: Anatomy, streak: Streak, rng: np.random.Generator
) -> None:
    """Bright and dark rays through a piece of metal, alike on both of its sides."""
    order = 2.0 * np.arange(1, 24)
    waves = rng.standard_normal((2, order.size)) / np.sqrt(order.size)
    x, y, z = _in_patient(anatomy, streak.place)
    zs = grid.affine[2, 3] + grid.spacing[2] * np.arange(grid.shape[2])
    dx = grid.affine[0, 3] + grid.spacing[0] * np.arange(grid.shape[0]) - x
    dy = grid.affine[1, 3] + grid.spacing[1] * np.arange(grid.shape[1]) - y
    near = np.flatnonzero(np.abs(zs - z) < streak.reach + grid.spacing[2] / 2)
    if near.size == 0:
        return
    angles = np.linspace(-np.pi, np.pi, 721)
    rays = waves[0] @ np.cos(np.outer(order, angles)) + waves[1] @ np.sin(np.outer(order, angles))
    away = np.hypot(dx[:, None], dy[None, :])
    angle = np.arctan2(dy[None, :], dx[:, None])
    added = np.interp(angle.ravel(), angles, rays).reshape(angle.shape)
    added *= streak.strength * np.exp(-away / FADE_MM) / (1 + away / 40.0)
    for k in near:
        hu[k] += added


def _add_starvation(hu: Array, grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Noise in lines from side to side at the height of the arms."""
    ys = grid.affine[1, 3] + grid.spacing[1] * np.arange(grid.shape[1])
    heights = [y for _, _, y in arm_places(anatomy.frame)]
    strength = rng.uniform(4, 22) * np.exp(-(((ys - np.mean(heights)) / 45.0) ** 2))
    for k in range(len(hu)):
        lines = rng.standard_normal(hu.shape[1:], dtype=np.float32)
        lines = gaussian_filter1d(lines, 30.0 / grid.spacing[0], axis=0)
        hu[k] += lines / max(float(lines.std()), 1e-6) * strength[None, :]


def _in_patient(anatomy: Anatomy, place: Array) -> Array:
    """Where in the patient a place of the scene lies, mm, to first order."""
    at = ((place - anatomy.origin) / anatomy.step)[:, None]
    moved = [
        map_coordinates(anatomy.field[..., c], at, order=1, mode="nearest")[0] for c in range(3)
    ]
    return np.asarray(place - np.array(moved))
