"""Draw what a scanner adds to slices in and around the patient, ``(Z, X, Y)``, in place.

Streaks of metal, noise between arms, shade and the circle of the scan; arms and tables that
are painted on voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from abdomen_phantom.scanner import centres
from abdomen_phantom.surroundings import Streak
from atlas8k.core.volume import Grid

Array = npt.NDArray[Any]

FADE_MM = 90.0
"""Distance over which a streak of metal fades to a third."""
EMPTY_HU = -700.0
"""Below this a voxel is air that a table or an arm may take."""


def add_metal_streaks(
    hu: Array, grid: Grid, streak: Streak, place: Array, rng: np.random.Generator
) -> None:
    """Add bright and dark rays through a piece of metal, alike on both of its sides.

    Parameters
    ----------
    place
        Of the metal in the CT, ``(3,)`` mm.
    """
    order = 2.0 * np.arange(1, 24)
    waves = rng.standard_normal((2, order.size)) / np.sqrt(order.size)
    dx, dy, dz = (axis - at for axis, at in zip(centres(grid), place, strict=True))
    near = np.flatnonzero(np.abs(dz) < streak.reach + grid.spacing[2] / 2)
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


def add_starvation(hu: Array, grid: Grid, height: float, rng: np.random.Generator) -> None:
    """Add noise in lines from side to side at the height of the arms, mm."""
    ys = centres(grid)[1]
    strength = rng.uniform(4, 22) * np.exp(-(((ys - height) / 45.0) ** 2))
    for k in range(len(hu)):
        lines = rng.standard_normal(hu.shape[1:], dtype=np.float32)
        lines = gaussian_filter1d(lines, 30.0 / grid.spacing[0], axis=0)
        hu[k] += lines / max(float(lines.std()), 1e-6) * strength[None, :]


def add_arms(
    hu: Array, rng: np.random.Generator, xs: Array, ys: Array, zs: Array, wide: float
) -> None:
    """Add arms beside the trunk; `wide` is the trunk's half width, mm."""
    fat, muscle = rng.uniform(-110, -90), rng.uniform(40, 70)
    y0 = rng.uniform(-30, 40)
    radius = rng.uniform(32, 50)
    for side in (-1, 1):
        x0 = side * (wide + radius * rng.uniform(0.9, 1.4)) + np.linspace(
            0, rng.uniform(-30, 30), zs.size
        )
        for k in range(zs.size):
            r = np.hypot(xs[:, None] - x0[k], (ys[None, :] - y0) * 0.9)
            free = (hu[k] < EMPTY_HU) & (r < radius)
            value = np.where(r < 0.75 * radius, muscle, fat)
            value = np.where(r < 0.25 * radius, 700.0, value)
            hu[k][free] = value[free]


def add_table(
    hu: Array, rng: np.random.Generator, xs: Array, ys: Array, back: float, up: float
) -> None:
    """Add a curved table under the patient, whose back is at `back` mm."""
    bend = rng.uniform(0, 0.0012)
    surface = back - up * rng.uniform(2, 12) + up * bend * xs[:, None] ** 2
    below = up * (surface - ys[None, :])
    thick, deep = rng.uniform(2, 5), rng.uniform(25, 60)
    shell = ((below > 0) & (below < thick)) | ((below > deep) & (below < deep + thick))
    core = (below >= thick) & (below <= deep)
    wide = np.abs(xs)[:, None] < rng.uniform(190, 260)
    for plane in hu:
        air = plane < EMPTY_HU
        plane[shell & wide & air] = rng.uniform(-200, 150)
        plane[core & wide & air] = rng.uniform(-980, -850)


def add_metal(hu: Array, rng: np.random.Generator, xs: Array, ys: Array, zs: Array) -> None:
    """Add a clip, screw or lead with its streaks over a few slices."""
    bone = np.argwhere(hu[:: max(1, hu.shape[0] // 20)] > 200)
    if len(bone) and rng.random() < 0.6:
        pick = bone[int(rng.integers(len(bone)))]
        x0, y0 = xs[pick[1]], ys[pick[2]]
    else:
        x0, y0 = rng.uniform(-80, 80), rng.uniform(-50, 70)
    z0, reach = rng.choice(zs), rng.uniform(4, 22)
    dx, dy = xs[:, None] - x0, ys[None, :] - y0
    r, angle = np.hypot(dx, dy) + 1.0, np.arctan2(dy, dx)
    phase = rng.uniform(0, 2 * np.pi, 3)
    rays = sum(np.cos(n * angle + p) for n, p in zip((2, 5, 9), phase, strict=True))
    streaks = rng.uniform(40, 250) * rays * np.exp(-r / rng.uniform(40, 120))
    for k, z in enumerate(zs):
        near = np.exp(-0.5 * ((z - z0) / reach) ** 2)
        if near < 0.05:
            continue
        hu[k] += near * streaks * (hu[k] > EMPTY_HU)
        hu[k][(r < rng.uniform(2, 6)) & (near > 0.4)] = 3000.0


def add_streaks(hu: Array, rng: np.random.Generator) -> None:
    """Add noise along the shoulders, hips or arms: lines from side to side."""
    strength = rng.uniform(4, 22)
    along = np.clip(np.linspace(rng.uniform(-1, 1), rng.uniform(-1, 1), hu.shape[0]), 0, 1)
    for k, share in enumerate(along):
        if share > 0:
            lines = rng.standard_normal(hu.shape[1:])
            lines = gaussian_filter1d(lines, 6.0, axis=0) * 4.5
            hu[k] += strength * share * lines * (hu[k] > EMPTY_HU)


def add_shade(hu: Array, rng: np.random.Generator, xs: Array, ys: Array) -> None:
    """Add cupping, scatter, calibration: an offset that changes slowly over the slice."""
    a, b, c = rng.normal(0, 3.0, 3)
    shade = a + b * xs[:, None] / 150 + c * ys[None, :] / 120
    for plane in hu:
        np.add(plane, shade, out=plane, where=plane > EMPTY_HU)


def outside_circle(rng: np.random.Generator, xs: Array, ys: Array) -> Array:
    """Return where nothing was reconstructed: ``(X, Y)`` bool, outside a circle."""
    sides = np.ptp(xs), np.ptp(ys)
    half = 0.5 * (min(sides) if rng.random() < 0.3 else max(sides))
    outside: Array = np.hypot(xs[:, None] - xs.mean(), ys[None, :] - ys.mean()) > half
    return outside
