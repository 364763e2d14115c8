"""What is in the picture beside the trunk: table, arms, lines, metal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from atlas8k.phantom.frame import Draw, Floats, Frame
from atlas8k.phantom.scene import KEEP_LABEL, SUBTRACT, Core, Scene, Texture, ellipsoid, tube
from atlas8k.phantom.trunk import FEET, HEAD, Densities

WALL = (15.0, 9.0, 40.0)
"""About how thick muscle and spine are outside the cavity: flank, front, back; mm."""


class Streak(NamedTuple):
    """Metal, or what streaks as metal does: where, mm, how far along z, how strong, HU."""

    place: Floats
    reach: float
    strength: float


def paint_table(scene: Scene, frame: Frame, hard: frozenset[str]) -> None:
    """A second table in front of a prone patient, or a trough or mattress under the back."""
    rng = Draw.of(frame, "table").rng
    if "prone" in hard:
        y, out = frame.front + WALL[1] + frame.fat_front + 8, 1.0
    else:
        y, out = -(frame.back + WALL[2] + frame.fat_back + 6), -1.0
    kind = rng.choice(("flat", "trough", "none"), p=(0.35, 0.45, 0.20))
    if kind == "trough":
        half, lift = rng.uniform(70, 110), rng.uniform(5, 12)
        radii = (rng.uniform(210, 260), half, half)
        center = y - out * (half - 26.0)
        scene.paint(
            rng.uniform(-150, 40),
            tube([(0, center, 2 * HEAD), (0, center, 3 * FEET)], [1, 1], radii, step=1000),
            tube(
                [(0, center - out * lift, 2 * HEAD), (0, center - out * lift, 3 * FEET)],
                [1, 1],
                radii,
                SUBTRACT,
                step=1000,
            ),
            core=Core(2.0, -900.0),
        )
    elif kind == "flat":
        half = rng.uniform(6, 18)
        center = y + out * half
        scene.paint(
            rng.uniform(-300, 60),
            tube(
                [(0, center, 2 * HEAD), (0, center, 3 * FEET)],
                [1, 1],
                (rng.uniform(180, 240), half, half),
                step=1000,
            ),
            core=Core(rng.uniform(1, 3), rng.uniform(-960, -880)),
        )


def arm_places(frame: Frame) -> list[tuple[int, float, float]]:
    """Side, x and y of each arm at the side, mm."""
    rng = frame.dice("arms")
    sides = ((1,), (-1,), (1, -1), (1, -1))[int(rng.integers(0, 4))]
    x = frame.half_width + WALL[0] + frame.fat_side + 46.0
    return [(s, s * float(x + rng.uniform(0, 14)), float(rng.uniform(-60, 10))) for s in sides]


def paint_arms(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Upper arm, elbow and forearm beside the trunk."""
    rng = Draw.of(frame, "arm").rng
    for side, x, y in arm_places(frame):
        lean = side * rng.uniform(0, 15)
        axis = [(x - lean, y, 2 * HEAD), (x, y, 0.0), (x + lean, y + 10, 2 * FEET)]
        thick = rng.uniform(28, 36)
        texture = Texture(8, 9)
        scene.paint(hu["skin"], tube(axis, [thick + 8] * 3, step=40))
        scene.paint(hu["fat"], tube(axis, [thick + 6] * 3, step=40), texture=Texture(6, 20))
        scene.paint(hu["muscle"], tube(axis, [thick] * 3, step=40), texture=texture)
        for dx in (0.0,) if rng.random() < 0.5 else (-9.0, 9.0):
            bone = [(a + dx, b, c) for a, b, c in axis]
            scene.paint(
                hu["bone"] + 600,
                tube(bone, [11.0 - 0.3 * abs(dx)] * 3, step=40),
                core=Core(3.5, hu["bone"] - 60),
            )


def paint_lines(scene: Scene, frame: Frame) -> None:
    """A tube through the gullet into the stomach, a catheter, wires on the skin."""
    rng = frame.dice("lines")
    kind = int(rng.integers(0, 3))
    if kind == 0:
        down = Draw.of(frame, "oesophagus", shift=0.5)
        far = Draw.of(frame, "stomach", size=1.6)
        path = [
            *down.line((-12, -18, 300), (-12, -16, 130), (-16, -6, 96), (-28, -6, 74)),
            *far.line((-50, -8, 60), (-60, 10, 30), (-52, 36, -8)),
        ]
        scene.paint(
            rng.uniform(250, 900),
            tube(path, [rng.uniform(2.0, 3.2)] * len(path)),
            label=KEEP_LABEL,
            core=Core(1.2, -300.0),
        )
    elif kind == 1:
        side = rng.choice((-1, 1))
        x = side * rng.uniform(30, 90)
        y = frame.front + WALL[1] + frame.fat_front * 0.6
        path = [
            (x, y, -260),
            (x * 0.8, y - 10, -120),
            (x * 0.6, y - 45, -60),
            (x * 0.5, y - 70, -30),
        ]
        scene.paint(rng.uniform(200, 1200), tube(path, [2.2] * 4), label=KEEP_LABEL)
    else:
        for _ in range(int(rng.integers(2, 5))):
            x, y = rng.uniform(-80, 80), frame.front + WALL[1] + frame.fat_front + 4
            y *= 1 - 0.35 * (x / frame.half_width) ** 2
            z = rng.uniform(40, 220)
            path = [(x, y, z), (x * 0.8, y + 3, z + 60), (x * 0.3, y + 6, z + 160)]
            scene.paint(rng.uniform(400, 2500), tube(path, [1.4] * 3), label=KEEP_LABEL)


def paint_metal(scene: Scene, frame: Frame) -> list[Streak]:
    """Screws and rods in the spine, clips where the gall bladder was, or a hip joint."""
    rng = frame.dice("metal")
    kind = int(rng.integers(0, 3))
    found: list[Streak] = []

    def paint(hu: float, path: list[Floats], radius: float, strength: float) -> None:
        scene.paint(hu, tube(path, [radius] * len(path)), label=KEEP_LABEL)
        ends = np.array(path)
        reach = float(np.ptp(ends[:, 2]) / 2 + radius + 2)
        found.append(Streak(ends.mean(axis=0), reach, strength))

    if kind == 0:
        back = -33.0 * float(frame.scale[1]) - 50
        for side in (1, -1):
            for z in (-90.0, -50.0):
                screw = [
                    np.array([side * 22.0, back, z]),
                    np.array([side * 14.0, back + 42, z + 2]),
                ]
                paint(3000.0, screw, 3.0, rng.uniform(120, 350))
            rod = [
                np.array([side * 23.0, back - 4, -100.0]),
                np.array([side * 23.0, back - 4, -40.0]),
            ]
            paint(3000.0, rod, 3.0, rng.uniform(60, 150))
    elif kind == 1:
        for _ in range(int(rng.integers(2, 6))):
            spot = frame.at(38, 14, -4) + rng.uniform(-14, 14, 3)
            paint(2500.0, [spot, spot + rng.uniform(-4, 4, 3)], 1.2, rng.uniform(60, 180))
    else:
        leg = float(rng.choice((-1, 1)))
        hip = np.array(
            [leg * 92 * frame.half_width / 127.0, -8 * frame.scale[1], -290 * frame.scale[2]]
        )
        scene.paint(3000.0, ellipsoid(hip, (23, 23, 23)), label=KEEP_LABEL)
        found.append(Streak(hip, 24.0, rng.uniform(250, 600)))
        paint(
            3000.0,
            [hip, hip + np.array([leg * 30.0, 0, -20]), hip + np.array([leg * 36.0, 0, -80])],
            8.0,
            rng.uniform(150, 400),
        )
    return found
