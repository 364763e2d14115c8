"""One patient: every shape in painting order, and the deformation common to all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from atlas8k.phantom import (
    bones,
    great_vessels,
    neighbours,
    pelvis,
    surroundings,
    trunk,
    viscera,
)
from atlas8k.phantom.contrast import draw_densities
from atlas8k.phantom.frame import Frame, draw_frame
from atlas8k.phantom.implicit import TILE
from atlas8k.phantom.scene import NOISE_PEAK, Scene, truth_shapes
from atlas8k.phantom.setting import Dice, Setting
from atlas8k.phantom.surroundings import Streak

FIELD_STEP = 20.0
FIELD_HALF = (280.0, 240.0, 300.0)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Anatomy:
    """A patient as functions of space, mm, ready to be painted on any grid.

    Attributes
    ----------
    frame
        Proportions.
    shapes
        The packed scene.
    field, origin, step, reach
        Displacement from the patient to the scene's space at coarse nodes.
    tile
        Periodic noise.
    metal
        What streaks go out from.
    """

    frame: Frame
    shapes: tuple[Array, Array, Array, Array, Array]
    field: Array
    origin: Array
    step: float
    reach: float
    tile: Array
    metal: tuple[Streak, ...] = ()


def build_anatomy(
    dice: Dice,
    setting: Setting,
    phase: str,
    hard_cases: frozenset[str],
    *,
    truth_only: bool = False,
) -> Anatomy:
    """Draw one patient.

    ``truth_only`` leaves out what cannot change a label: for the labels alone, in less time.
    """
    frame = draw_frame(dice, setting, hard_cases)
    hu = draw_densities(dice, setting, phase, hard_cases)
    scene = Scene(prone="prone" in hard_cases)
    metal: list[Streak] = []
    if not truth_only:  # what lies under the first organ
        trunk.paint_body(scene, frame, hu)
        if setting.people:
            surroundings.paint_table(scene, frame, hard_cases)
        if "arms_at_side" in hard_cases:
            surroundings.paint_arms(scene, frame, hu)
        trunk.paint_lungs(scene, frame, hu)
        trunk.paint_muscles(scene, frame, hu)
        if setting.people:
            pelvis.paint_pelvis(scene, frame, hu, phase)
        neighbours.paint_small_bowel(scene, frame, hu, hard_cases)
        neighbours.paint_oesophagus(scene, frame, hu)
    viscera.paint_liver(scene, frame, hu, hard_cases)
    neighbours.paint_colon(scene, frame, hu)
    viscera.paint_spleen(scene, frame, hu, phase)
    viscera.paint_kidneys(scene, frame, hu, hard_cases)
    neighbours.paint_adrenals(scene, frame, hu)
    viscera.paint_stomach(scene, frame, hu, hard_cases)
    neighbours.paint_duodenum(scene, frame, hu)
    neighbours.paint_branches(scene, frame, hu)
    viscera.paint_pancreas(scene, frame, hu, hard_cases)
    if "missing_gall_bladder" not in hard_cases:
        viscera.paint_gall_bladder(scene, frame, hu)
    great_vessels.paint_great_vessels(scene, frame, hu, phase, hard_cases)
    neighbours.paint_nodes(scene, frame, hu)
    bones.paint_bones(scene, frame, hu)
    if "contrast_line" in hard_cases:
        surroundings.paint_lines(scene, frame)
    if "metal" in hard_cases:
        metal = surroundings.paint_metal(scene, frame)
    field, origin = _displacement(dice, setting)
    turned = _turned(field, origin, dice, setting)
    return Anatomy(
        frame,
        truth_shapes(scene.packed()) if truth_only else scene.packed(),
        turned,
        origin,
        FIELD_STEP,
        float(np.abs(turned).max()),
        _tile(dice),
        tuple(metal),
    )


def _displacement(dice: Dice, setting: Setting) -> tuple[Array, Array]:
    """Smooth random displacement ``(nx, ny, nz, 3)``, mm, and its origin."""
    half = np.array(FIELD_HALF)
    n = (2 * half / FIELD_STEP).astype(int) + 1
    rng = dice("displacement")
    field = np.empty((*n, 3))
    for c in range(3):
        # Two scales: the trunk as a whole, and single organs.
        for grain, share in ((3.5, 0.75), (1.6, 0.55)):
            part = gaussian_filter(rng.standard_normal(n), grain, mode="wrap")
            field[..., c] = (field[..., c] if grain == 1.6 else 0) + share * part / part.std()
    return np.clip(field, -2.2, 2.2) * setting.warp_mm, -half


def _turned(field: Array, origin: Array, dice: Dice, setting: Setting) -> Array:
    """The displacement with the roll of the patient on the table added."""
    angle = dice("roll").uniform(-setting.roll_deg, setting.roll_deg)
    nodes = [origin[c] + FIELD_STEP * np.arange(field.shape[c]) for c in range(3)]
    places = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
    rolled = Rotation.from_euler("z", angle, degrees=True).apply(places.reshape(-1, 3))
    return np.ascontiguousarray(field + rolled.reshape(places.shape) - places)


def _tile(dice: Dice) -> Array:
    """Periodic smooth noise, unit variance, about 2.5 nodes from bump to bump."""
    tile = gaussian_filter(dice("tile").standard_normal((TILE,) * 3), 1.0, mode="wrap")
    tile /= tile.std()
    return np.asarray(np.clip(tile, -NOISE_PEAK, NOISE_PEAK), dtype=np.float32)
