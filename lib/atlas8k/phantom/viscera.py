"""The nine organs: shapes, sides, neighbours."""

from __future__ import annotations

import numpy as np

from atlas8k.organs import ORGAN_IDS
from atlas8k.phantom.frame import Draw, Floats, Frame
from atlas8k.phantom.scene import (
    KEEP_LABEL,
    NO_LEVEL,
    SUBTRACT,
    Bumps,
    Core,
    Primitive,
    Scene,
    Texture,
    beside,
    ellipsoid,
    tube,
)
from atlas8k.phantom.trunk import Densities, domes, right_dome

Hard = frozenset[str]
KIDNEYS = {-1: ("kidney_left", (-60.0, -50.0, -6.0)), 1: ("kidney_right", (63.0, -50.0, -18.0))}
"""Component and mean centre of the left (-1) and the right (1) kidney, mm."""


def fossae(frame: Frame, *sides: int) -> list[Primitive]:
    """Where kidneys and the fat around them lie: no liver, no spleen goes around a kidney.

    Only for bodies in which kidneys lie as they do in people; side 1 is the right.
    """
    if not frame.cap:
        return []
    found = []
    for side in sides:
        d = Draw.of(frame, KIDNEYS[side][0], size=0.4)
        radii = np.array([30, 26, 55]) * d.stretch * d.mean_scale + np.array([20, 18, 14])
        middle = d.at(*KIDNEYS[side][1]) + np.array([-side * 21.0, -15, -6])
        turn = np.array([-12, side * 14, side * 28]) + d.placement.turn
        found.append(ellipsoid(middle, radii, turn, SUBTRACT, k=10))
    return found


def paint_liver(scene: Scene, frame: Frame, hu: Densities, hard: Hard = frozenset()) -> None:
    """Right lobe under its dome, left lobe across the midline, vessels within."""
    d = Draw.of(frame, "liver")
    label = ORGAN_IDS["liver"]
    center, radii = right_dome(frame, -4.0)
    left_reach = d.rng.uniform(0.75, 1.25)
    nodules = frame.bumps(0.5, 9)
    if "cirrhotic_liver" in hard:  # a small right lobe, a large left one, nodules
        left_reach *= 1.2
        nodules = Bumps(1.8, 13)
    scene.paint(
        hu["liver"],
        ellipsoid(center + 0.3 * d.shift, radii * (1, 1, 1.04)),
        ellipsoid(
            d.at(-12, 36, 44), d.radii(66 * left_reach, 36, 42) * d.stretch, d.turn(0, 14, 8), k=16
        ),
        # Visceral surface: porta, stomach, duodenum, kidney and colon from below.
        ellipsoid(
            d.at(-2, 2, -104, 4), d.radii(74, 96, 90) * d.stretch, d.turn(0, 0, 0), SUBTRACT, k=12
        ),
        ellipsoid(d.at(58, -74, -30, 3), d.radii(35, 45, 60), d.turn(0, 0, 0), SUBTRACT, k=10),
        # Fissure of the round ligament, bare area at spine and oesophagus.
        ellipsoid(d.at(6, 66, 2), d.radii(5, 26, 30), d.turn(0, 0, 0), SUBTRACT, k=6),
        ellipsoid(d.at(-8, -44, 16), d.radii(42, 46, 100), d.turn(0, 0, 0), SUBTRACT, k=10),
        *fossae(frame, 1),
        *domes(frame, 0.5),
        frame.cavity(2.5),
        label=label,
        bumps=frame.bumps(1.6, 32),
        fine=nodules,
        texture=Texture(5, 14),
        offset=d.offset,
    )
    if "riedel_lobe" in hard:
        tongue = frame.dice("riedel_lobe")
        scene.paint(
            hu["liver"],
            ellipsoid(
                d.at(86, 4, -58 - tongue.uniform(0, 22)),
                np.array([24, 42, 74]) * tongue.uniform(0.85, 1.15),
                (0, tongue.uniform(-8, 4), 0),
            ),
            *fossae(frame, 1),
            frame.cavity(2.5),
            label=label,
            bumps=frame.bumps(1.6, 32),
            texture=Texture(5, 14),
            offset=d.offset,
        )
    # Portal and hepatic venous trees; part of the liver in every public label.
    trees = (
        (hu["portal_vein"], [(16, 4, 8), (34, 2, 18), (60, -8, 20), (92, -20, 14)], 6.5),
        (hu["portal_vein"], [(34, 2, 18), (60, 24, 22), (86, 40, 6)], 5.0),
        (hu["portal_vein"], [(24, 4, 14), (6, 26, 30), (-22, 40, 40)], 5.0),
        (hu["postcava"], [(22, -14, 66), (52, -16, 58), (92, -14, 34)], 5.0),
        (hu["postcava"], [(22, -12, 68), (40, 20, 56), (56, 44, 24)], 4.5),
        (hu["postcava"], [(20, -10, 68), (2, 20, 58), (-16, 38, 48)], 4.0),
    )
    for value, places, radius in trees:
        scene.paint(
            value,
            tube(d.line(*places, jitter=4), np.linspace(radius, 1.5, len(places))),
            label=KEEP_LABEL,
            inside=label,
            bumps=frame.bumps(0.6, 12),
            offset=d.offset,
        )
    if d.rng.random() < 0.15:  # cysts
        for _ in range(int(d.rng.integers(1, 4))):
            center = d.at(*(np.array([70, 0, 30]) + d.rng.uniform(-35, 35, 3)))
            scene.paint(
                8.0, ellipsoid(center, d.rng.uniform(4, 14, 3)), label=KEEP_LABEL, inside=label
            )


def paint_spleen(scene: Scene, frame: Frame, hu: Densities, phase: str) -> None:
    """A crescent under the left dome."""
    d = Draw.of(frame, "spleen", size=1.6)
    arterial = phase == "arterial"
    scene.paint(
        hu["spleen"],
        ellipsoid(
            d.at(-90, -44, 30),
            d.radii(44, 58, 70) * d.stretch,
            d.turn(18, 12, -22) + d.placement.turn,
        ),
        ellipsoid(
            d.at(-42, -2, 36), d.radii(26, 36, 60) * d.stretch, d.turn(10, 8, -12), SUBTRACT, k=8
        ),
        *fossae(frame, -1),
        *domes(frame, 1.0),
        frame.cavity(2.5),
        label=ORGAN_IDS["spleen"],
        bumps=frame.bumps(1.6, 22),
        fine=frame.bumps(0.4, 8),
        texture=Texture(18 if arterial else 4, 12),
        offset=d.offset,
    )


def paint_kidneys(scene: Scene, frame: Frame, hu: Densities, hard: Hard = frozenset()) -> None:
    """Both kidneys: cortex, medulla, and the sinus, open towards the front and middle."""
    both = Draw.of(frame, "kidneys", size=0.6)
    absent = frame.dice("absent_kidney").choice((-1, 1))
    for side, (name, place) in KIDNEYS.items():
        d = Draw.of(frame, name, size=0.4)
        label = ORGAN_IDS[name]
        if "absent_kidney" in hard and side == absent:
            continue
        center = d.at(*place)
        turn = d.turn(-12, side * 14, side * 28, jitter=5) + d.placement.turn
        radii = both.size * d.radii(30, 26, 55, jitter=0.03) * d.stretch
        hilum = center + np.array([-side * 15.0, 11, 0])
        sinus = (
            ellipsoid(hilum, radii * (0.52, 0.42, 0.46), beside(turn, 0, 0, side * 12)),
            ellipsoid(
                center + np.array([-side * 24.0, 16, 0]), radii * (0.55, 0.36, 0.34), turn, k=6
            ),
        )
        # Fat around the kidney keeps it in sight of the muscle behind.
        scene.paint(
            hu["fat"],
            ellipsoid(center, radii + d.rng.uniform(0, 5), turn),
            frame.cavity(1.0),
            label=0,
            offset=d.offset,
        )
        if "renal_cysts" in hard:
            _paint_cysts(scene, frame, center, radii, side)
        scene.paint(
            hu["renal_cortex"],
            ellipsoid(center, radii, turn),
            frame.cavity(2.0),
            label=label,
            bumps=frame.bumps(1.2, 22),
            fine=frame.bumps(0.4, 9),
            texture=Texture(6, 8),
            offset=d.offset,
        )
        for _ in range(9):  # pyramids
            u = d.rng.standard_normal(3)
            u /= np.linalg.norm(u)
            spot = center + 0.55 * u * radii * (0.9, 0.9, 1.1)
            scene.paint(
                hu["renal_medulla"],
                ellipsoid(spot, d.rng.uniform(5, 9, 3)),
                label=KEEP_LABEL,
                inside=label,
            )
        scene.paint(
            hu["fat"] + 20,
            *sinus,
            label=0,
            inside=label,
            bumps=frame.bumps(1.5, 12),
            offset=d.offset + 9,
        )
        scene.paint(
            hu["renal_pelvis"],
            ellipsoid(beside(hilum, -side * 3, 2, 0), d.radii(10, 6, 13, jitter=0.2), turn),
            inside=0,
        )


def _paint_cysts(scene: Scene, frame: Frame, center: Floats, radii: Floats, side: int) -> None:
    """Water on the surface of a kidney; what the kidney does not cover is none of it."""
    rng = frame.dice(f"renal_cysts_{side}")
    for _ in range(int(rng.integers(0, 4))):
        towards = rng.standard_normal(3) * (1, 1, 0.7)
        towards /= np.linalg.norm(towards)
        size = float(rng.uniform(5, 24))
        spot = center + towards * (radii + 0.35 * size)
        scene.paint(
            rng.uniform(0, 22),
            ellipsoid(spot, size * rng.uniform(0.85, 1.15, 3)),
            frame.cavity(2.0),
            label=0,
        )


def paint_stomach(scene: Scene, frame: Frame, hu: Densities, hard: Hard) -> None:
    """A C from the left dome to the pylorus: wall, contents, air above their level."""
    d = Draw.of(frame, "stomach", size=1.6)
    fill = d.rng.uniform(0.85, 1.15)
    if "fluid_filled_stomach" in hard:
        fill *= 1.12
    places = d.line(
        (-50, -12, 68),
        (-57, 2, 46),
        (-62, 26, 16),
        (-48, 46, -14),
        (-16, 52, -28),
        (14, 40, -20),
        (30, 26, -10),
        jitter=3,
    )
    radii = d.radii(28, 30.5, 27.5, 23.5, 18.5, 13, 8) * fill
    contents, grain = d.rng.uniform(2, 55), d.rng.uniform(3, 16)
    if d.rng.random() < 0.15:
        contents = d.rng.uniform(120, 320)  # oral contrast
    low, high = float(places[0, 1] - radii[0]), float(places[3, 1] + radii[3])
    level = low + (high - low) * d.rng.uniform(0.40, 0.85)
    if "gas_filled_stomach" in hard:
        level = low + (high - low) * 0.12
    if "oral_contrast" in hard:
        contents = frame.dice("oral_contrast").uniform(90, 450)
    if "fluid_filled_stomach" in hard:
        contents, grain, level = d.rng.uniform(0, 22), 3.0, NO_LEVEL
    scene.paint(
        hu["stomach_wall"],
        tube(places, radii, (1.0, d.rng.uniform(0.8, 1.0), 1.0)),
        *domes(frame, 1.5),
        frame.cavity(4.0),
        label=ORGAN_IDS["stomach"],
        texture=Texture(9, 7),
        bumps=frame.bumps(2.2, 26),
        fine=frame.bumps(0.8, 10),
        core=Core(d.rng.uniform(3.0, 6.5), contents, Texture(grain, 12), level),
        offset=d.offset,
    )


def paint_pancreas(scene: Scene, frame: Frame, hu: Densities, hard: Hard) -> None:
    """From the duodenum in front of the great vessels to the hilum of the spleen."""
    d = Draw.of(frame, "pancreas", size=1.3)
    up = d.rng.uniform(-6, 10)
    places = d.line(
        (36, 0, -46),
        (33, 4, -26),
        (18, 12, -10),
        (0, 16, -2 + 0.3 * up),
        (-24, 10, 6 + 0.7 * up),
        (-48, -4, 12 + up),
        (-74, -18, 18 + up),
        jitter=2.5,
    )
    radii = d.radii(9.5, 14.2, 10.5, 9.2, 10.8, 11.3, 9.2, jitter=0.08)
    if "enlarged_pancreas_tail" in hard:
        radii = radii * (1, 1, 1, 1.05, 1.3, 1.75, 1.9)
    scene.paint(
        hu["pancreas"],
        tube(places, radii, (1.0, 0.9, 1.25), step=4.0),
        tube(d.line((32, 0, -34), (14, -4, -36), jitter=2), d.radii(10, 6), k=5),
        frame.cavity(6.0),
        label=ORGAN_IDS["pancreas"],
        bumps=frame.bumps(1.4, 16),
        fine=frame.bumps(1.0, 6),
        texture=Texture(12, 6),
        offset=d.offset,
    )


def paint_gall_bladder(scene: Scene, frame: Frame, hu: Densities) -> None:
    """A pear under the liver, its fundus at the liver's lower edge."""
    d = Draw.of(frame, "gall_bladder", size=1.8)
    places = d.line((32, 10, 2), (42, 24, -10), (54, 38, -26), (60, 46, -40), jitter=2.5)
    label = ORGAN_IDS["gall_bladder"]
    scene.paint(
        hu["gall_bladder"],
        tube(places, d.radii(5, 10, 15.5, 13, jitter=0.1)),
        frame.cavity(4.0),
        label=label,
        bumps=frame.bumps(1.0, 16),
        texture=Texture(2.5, 9),
        offset=d.offset,
    )
    if d.rng.random() < 0.12:  # stones lie at the back
        for _ in range(int(d.rng.integers(1, 5))):
            spot = places[2] + d.rng.uniform(-6, 6, 3) + (0, -9, 0)
            scene.paint(
                d.rng.uniform(90, 350),
                ellipsoid(spot, d.rng.uniform(2, 5, 3)),
                label=KEEP_LABEL,
                inside=label,
            )
