"""One patient: every shape in painting order, the deformation common to all, and its slices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from abdomen_phantom import neighbours, surroundings, trunk, viscera
from abdomen_phantom.patient import Patient, draw_patient
from abdomen_phantom.raster import TILE, paint_slice
from abdomen_phantom.scanner import centres
from abdomen_phantom.scene import NOISE_PEAK, Packed, truth_shapes
from abdomen_phantom.setting import Dice, Setting
from abdomen_phantom.surroundings import Streak
from atlas8k.core.volume import Grid

FIELD_STEP = 20.0
FIELD_HALF = (280.0, 240.0, 300.0)

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A patient as functions of space, mm, ready to be painted on any grid.

    Attributes
    ----------
    patient
        Proportions, phase and hard cases.
    shapes
        The packed scene.
    field, origin, step
        Displacement from the patient to the scene's space at coarse nodes.
    tile
        Periodic noise.
    metal
        What streaks go out from.
    """

    patient: Patient
    shapes: Packed
    field: Array
    origin: Array
    step: float
    tile: Array
    metal: tuple[Streak, ...] = ()

    @property
    def reach(self) -> float:
        """Largest displacement along any axis, mm."""
        return float(np.abs(self.field).max())

    def in_patient(self, place: Array) -> Array:
        """Return where in the patient a place of the scene lies, mm, to first order."""
        at = ((place - self.origin) / self.step)[:, None]
        moved = [map_coordinates(self.field[..., c], at, order=1, mode="nearest") for c in range(3)]
        return np.asarray(place - np.array(moved)[:, 0])

    def truth(self) -> Anatomy:
        """Return the anatomy without the shapes that cannot change a label."""
        return replace(self, shapes=truth_shapes(self.shapes))


def build_anatomy(dice: Dice, setting: Setting, *, truth_only: bool = False) -> Anatomy:
    """Draw one patient.

    ``truth_only`` leaves out what cannot change a label: for the labels alone, in less time.
    """
    p = draw_patient(dice, setting)
    metal: list[Streak] = []
    if not truth_only:  # what lies under the first organ
        trunk.paint_body(p)
        if setting.people:
            surroundings.paint_table(p)
        if "arms_at_side" in p.hard:
            surroundings.paint_arms(p)
        trunk.paint_lungs(p)
        trunk.paint_muscles(p)
        if setting.people:
            trunk.paint_pelvis(p)
        neighbours.paint_small_bowel(p)
        neighbours.paint_oesophagus(p)
    viscera.paint_liver(p)
    neighbours.paint_colon(p)
    viscera.paint_spleen(p)
    viscera.paint_kidneys(p)
    neighbours.paint_adrenals(p)
    viscera.paint_stomach(p)
    neighbours.paint_duodenum(p)
    neighbours.paint_branches(p)
    viscera.paint_pancreas(p)
    viscera.paint_gall_bladder(p)
    viscera.paint_postcava(p)
    viscera.paint_aorta(p)
    neighbours.paint_nodes(p)
    trunk.paint_bones(p)
    if "contrast_line" in p.hard:
        surroundings.paint_lines(p)
    if "metal" in p.hard:
        metal = surroundings.paint_metal(p)
    origin = -np.array(FIELD_HALF)
    field = _turned(_displacement(dice, setting), origin, dice, setting)
    tile = _tile(dice)
    anatomy = Anatomy(p, p.scene.packed(), field, origin, FIELD_STEP, tile, tuple(metal))
    return anatomy.truth() if truth_only else anatomy


def paint(
    anatomy: Anatomy,
    grid: Grid,
    edge: float,
    thickness: float,
    *,
    labels: bool = True,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Paint densities averaged over the slice thickness, and labels at the voxel centres.

    Edges are soft along z too, so that only thick slices need more than one sample.

    Parameters
    ----------
    labels
        Whether the labels are needed; they cost a sample at the centre of each slice.
    threads
        Slices painted at once; they change nothing in the result.

    Returns
    -------
    hu, label
        ``(Z, X, Y)`` float32 and uint8 on an axis-aligned RAS grid.
    """
    xs, ys, zs = centres(grid)
    if thickness <= 3.0:
        offsets = np.zeros(1)
    elif labels:
        offsets = np.array([0.0, -thickness / 3, thickness / 3])
    else:
        offsets = np.array([-thickness / 4, thickness / 4])
    hu = np.zeros((zs.size, xs.size, ys.size), np.float32)
    label = np.empty((zs.size, xs.size, ys.size), np.uint8)
    fixed = (anatomy.field, anatomy.origin, anatomy.step, anatomy.reach, anatomy.tile)

    def draw_slice(k: int) -> None:
        part, part_label = np.empty(hu.shape[1:], np.float32), np.empty(hu.shape[1:], np.uint8)
        for n, offset in enumerate(offsets):
            target = label[k] if n == 0 else part_label
            paint_slice(xs, ys, zs[k] + offset, edge, *fixed, *anatomy.shapes, part, target)
            hu[k] += part
        hu[k] /= len(offsets)

    if threads == 1:
        for k in range(zs.size):
            draw_slice(k)
    else:  # slices do not depend on one another, and the painting holds no lock
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw_slice, range(zs.size)))
    return hu, label


def _displacement(dice: Dice, setting: Setting) -> Array:
    """Return a smooth random displacement ``(nx, ny, nz, 3)``, mm."""
    n = (2 * np.array(FIELD_HALF) / FIELD_STEP).astype(int) + 1
    rng = dice("displacement")
    field = np.empty((*n, 3))
    for c in range(3):
        # Two scales: the trunk as a whole, and single organs.
        for grain, share in ((3.5, 0.75), (1.6, 0.55)):
            part = gaussian_filter(rng.standard_normal(n), grain, mode="wrap")
            field[..., c] = (field[..., c] if grain == 1.6 else 0) + share * part / part.std()
    return np.clip(field, -2.2, 2.2) * setting.warp_mm


def _turned(field: Array, origin: Array, dice: Dice, setting: Setting) -> Array:
    """Return the displacement with the roll of the patient on the table added."""
    angle = dice("roll").uniform(-setting.roll_deg, setting.roll_deg)
    nodes = [origin[c] + FIELD_STEP * np.arange(field.shape[c]) for c in range(3)]
    places = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
    rolled = Rotation.from_euler("z", angle, degrees=True).apply(places.reshape(-1, 3))
    return np.ascontiguousarray(field + rolled.reshape(places.shape) - places)


def _tile(dice: Dice) -> Array:
    """Return periodic smooth noise, unit variance, about 2.5 nodes from bump to bump."""
    tile = gaussian_filter(dice("tile").standard_normal((TILE,) * 3), 1.0, mode="wrap")
    tile /= tile.std()
    return np.asarray(np.clip(tile, -NOISE_PEAK, NOISE_PEAK), dtype=np.float32)
