"""Draw what is in the picture beside the trunk: table, arms, lines, metal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from abdomen_phantom.patient import Floats, Patient
from abdomen_phantom.scene import KEEP_LABEL, SUBTRACT, UNION, Core, Primitive, ellipsoid, tube
from abdomen_phantom.trunk import FEET, HEAD, place_in_pelvis

WALL = (15.0, 9.0, 40.0)
"""About how thick muscle and spine are outside the cavity: flank, front, back; mm."""


class Streak(NamedTuple):
    """Metal, or what streaks as metal does: where, mm, how far along z, how strong, HU."""

    place: Floats
    reach: float
    strength: float


def paint_table(p: Patient) -> None:
    """Paint a second table in front of a prone patient, or a trough or mattress under the back."""
    rng = p.part("table").rng
    if "prone" in p.hard:
        y, out = p.front + WALL[1] + p.fat_front + 8, 1.0
    else:
        y, out = -(p.back + WALL[2] + p.fat_back + 6), -1.0
    kind = rng.choice(("flat", "trough", "none"), p=(0.35, 0.45, 0.20))

    def slab(y: float, radii: tuple[float, float, float], op: int = UNION) -> Primitive:
        return tube([(0, y, 2 * HEAD), (0, y, 3 * FEET)], [1, 1], radii, op, step=1000)

    if kind == "trough":
        half, lift = rng.uniform(70, 110), rng.uniform(5, 12)
        radii = (rng.uniform(210, 260), half, half)
        center = y - out * (half - 26.0)
        inner = slab(center - out * lift, radii, SUBTRACT)
        p.paint(rng.uniform(-150, 40), slab(center, radii), inner, core=Core(2.0, -900.0))
    elif kind == "flat":
        half = rng.uniform(6, 18)
        p.paint(
            rng.uniform(-300, 60),
            slab(y + out * half, (rng.uniform(180, 240), half, half)),
            core=Core(rng.uniform(1, 3), rng.uniform(-960, -880)),
        )


def arm_places(p: Patient) -> list[tuple[int, float, float]]:
    """Return side, x and y of each arm at the side, mm."""
    rng = p.dice("arms")
    sides = ((1,), (-1,), (1, -1), (1, -1))[int(rng.integers(0, 4))]
    x = p.half_width + WALL[0] + p.fat_side + 46.0
    return [(s, s * float(x + rng.uniform(0, 14)), float(rng.uniform(-60, 10))) for s in sides]


def paint_arms(p: Patient) -> None:
    """Paint upper arm, elbow and forearm beside the trunk."""
    rng = p.part("arm").rng
    for side, x, y in arm_places(p):
        lean = side * rng.uniform(0, 15)
        axis = [(x - lean, y, 2 * HEAD), (x, y, 0.0), (x + lean, y + 10, 2 * FEET)]
        thick = rng.uniform(28, 36)
        p.paint(p.hu["skin"], tube(axis, [thick + 8] * 3, step=40))
        p.paint(p.hu["fat"], tube(axis, [thick + 6] * 3, step=40), texture=(6, 20))
        p.paint(p.hu["muscle"], tube(axis, [thick] * 3, step=40), texture=(8, 9))
        for dx in (0.0,) if rng.random() < 0.5 else (-9.0, 9.0):
            path = [(a + dx, b, c) for a, b, c in axis]
            bone = tube(path, [11.0 - 0.3 * abs(dx)] * 3, step=40)
            p.paint(p.hu["bone"] + 600, bone, core=Core(3.5, p.hu["bone"] - 60))


def paint_lines(p: Patient) -> None:
    """Paint a tube through the gullet into the stomach, a catheter, or wires on the skin."""
    rng = p.dice("lines")
    kind = int(rng.integers(0, 3))
    skin = p.front + WALL[1]
    if kind == 0:
        down, far = p.part("oesophagus", shift=0.5), p.part("stomach", size=1.6)
        path = [
            *down.line((-12, -18, 300), (-12, -16, 130), (-16, -6, 96), (-28, -6, 74)),
            *far.line((-50, -8, 60), (-60, 10, 30), (-52, 36, -8)),
        ]
        value, line = rng.uniform(250, 900), tube(path, [rng.uniform(2.0, 3.2)] * len(path))
        p.paint(value, line, label=KEEP_LABEL, core=Core(1.2, -300.0))
    elif kind == 1:
        side = rng.choice((-1, 1))
        x, y = side * rng.uniform(30, 90), skin + p.fat_front * 0.6
        turns = ((1, 0, -260), (0.8, -10, -120), (0.6, -45, -60), (0.5, -70, -30))
        catheter = tube([(x * share, y + back, z) for share, back, z in turns], [2.2] * 4)
        p.paint(rng.uniform(200, 1200), catheter, label=KEEP_LABEL)
    else:
        for _ in range(int(rng.integers(2, 5))):
            x, y = rng.uniform(-80, 80), skin + p.fat_front + 4
            y *= 1 - 0.35 * (x / p.half_width) ** 2
            z = rng.uniform(40, 220)
            wire = tube([(x, y, z), (x * 0.8, y + 3, z + 60), (x * 0.3, y + 6, z + 160)], [1.4] * 3)
            p.paint(rng.uniform(400, 2500), wire, label=KEEP_LABEL)


def paint_metal(p: Patient) -> list[Streak]:
    """Paint screws and rods in the spine, clips where the gall bladder was, or a hip joint."""
    rng = p.dice("metal")
    kind = int(rng.integers(0, 3))
    streaks: list[Streak] = []

    def paint(hu: float, path: list[Floats], radius: float, strength: float) -> None:
        p.paint(hu, tube(path, [radius] * len(path)), label=KEEP_LABEL)
        ends = np.array(path)
        reach = float(np.ptp(ends[:, 2]) / 2 + radius + 2)
        streaks.append(Streak(ends.mean(axis=0), reach, strength))

    if kind == 0:
        back = -33.0 * float(p.scale[1]) - 50
        for side in (1, -1):
            for z in (-90.0, -50.0):
                screw = np.array([[side * 22.0, back, z], [side * 14.0, back + 42, z + 2]])
                paint(3000.0, [*screw], 3.0, rng.uniform(120, 350))
            rod = np.array([[side * 23.0, back - 4, -100.0], [side * 23.0, back - 4, -40.0]])
            paint(3000.0, [*rod], 3.0, rng.uniform(60, 150))
    elif kind == 1:
        for _ in range(int(rng.integers(2, 6))):
            spot = p.at(38, 14, -4) + rng.uniform(-14, 14, 3)
            paint(2500.0, [spot, spot + rng.uniform(-4, 4, 3)], 1.2, rng.uniform(60, 180))
    else:
        leg = float(rng.choice((-1, 1)))
        hip = place_in_pelvis(p, leg * 92, -8, -290)
        p.paint(3000.0, ellipsoid(hip, (23, 23, 23)), label=KEEP_LABEL)
        streaks.append(Streak(hip, 24.0, rng.uniform(250, 600)))
        neck, shaft = np.array([leg * 30.0, 0, -20]), np.array([leg * 36.0, 0, -80])
        paint(3000.0, [hip, hip + neck, hip + shaft], 8.0, rng.uniform(150, 400))
    return streaks
