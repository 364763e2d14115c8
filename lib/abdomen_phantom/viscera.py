"""The nine organs: shapes, sides, neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from abdomen_phantom.patient import Floats, Part, Patient
from abdomen_phantom.scene import (
    KEEP_LABEL,
    NO_LEVEL,
    SUBTRACT,
    Core,
    Primitive,
    beside,
    ellipsoid,
    tube,
)
from abdomen_phantom.trunk import domes, right_dome

KIDNEYS = {-1: ("kidney_left", (-60.0, -50.0, -6.0)), 1: ("kidney_right", (63.0, -50.0, -18.0))}
"""Component and mean centre of the left (-1) and the right (1) kidney, mm."""


def fossae(p: Patient, side: int) -> list[Primitive]:
    """Return where a kidney and the fat around it lie: no liver, no spleen goes around it.

    Only for bodies in which kidneys lie as they do in people; side 1 is the right.
    """
    if not p.cap:
        return []
    name, place = KIDNEYS[side]
    d = p.part(name, size=0.4)
    radii = np.array([30, 26, 55]) * d.stretch * d.mean_scale + np.array([20, 18, 14])
    middle = d.at(*place) + np.array([-side * 21.0, -15, -6])
    turn = np.array([-12, side * 14, side * 28]) + d.placement.turn
    return [ellipsoid(middle, radii, turn, SUBTRACT, k=10)]


def paint_liver(p: Patient) -> None:
    """Paint the right lobe under its dome, the left across the midline, vessels within."""
    d = p.part("liver")
    center, radii = right_dome(p, -4.0)
    left_reach = d.rng.uniform(0.75, 1.25)
    nodules = p.bumps(0.5, 9)
    if "cirrhotic_liver" in p.hard:  # a small right lobe, a large left one, nodules
        left_reach *= 1.2
        nodules = 1.8, 13
    d.paint(
        p.hu["liver"],
        ellipsoid(center + 0.3 * d.shift, radii * (1, 1, 1.04)),
        d.ellipsoid((-12, 36, 44), (66 * left_reach, 36, 42), (0, 14, 8), k=16),
        # Visceral surface: porta, stomach, duodenum, kidney and colon from below.
        d.ellipsoid((-2, 2, -104), (74, 96, 90), op=SUBTRACT, k=12, jitter=4),
        ellipsoid(d.at(58, -74, -30, 3), d.radii(35, 45, 60), d.turn(0, 0, 0), SUBTRACT, k=10),
        # Fissure of the round ligament, bare area at spine and oesophagus.
        ellipsoid(d.at(6, 66, 2), d.radii(5, 26, 30), d.turn(0, 0, 0), SUBTRACT, k=6),
        ellipsoid(d.at(-8, -44, 16), d.radii(42, 46, 100), d.turn(0, 0, 0), SUBTRACT, k=10),
        *fossae(p, 1),
        *domes(p, 0.5),
        p.cavity(2.5),
        label="liver",
        bumps=p.bumps(1.6, 32),
        fine=nodules,
        texture=(5, 14),
    )
    if "riedel_lobe" in p.hard:
        tongue = p.dice("riedel_lobe")
        d.paint(
            p.hu["liver"],
            ellipsoid(
                d.at(86, 4, -58 - tongue.uniform(0, 22)),
                np.array([24, 42, 74]) * tongue.uniform(0.85, 1.15),
                (0, tongue.uniform(-8, 4), 0),
            ),
            *fossae(p, 1),
            p.cavity(2.5),
            label="liver",
            bumps=p.bumps(1.6, 32),
            texture=(5, 14),
        )
    # Portal and hepatic venous trees; part of the liver in every public label.
    for vein, radius, places in (
        ("portal_vein", 6.5, [(16, 4, 8), (34, 2, 18), (60, -8, 20), (92, -20, 14)]),
        ("portal_vein", 5.0, [(34, 2, 18), (60, 24, 22), (86, 40, 6)]),
        ("portal_vein", 5.0, [(24, 4, 14), (6, 26, 30), (-22, 40, 40)]),
        ("postcava", 5.0, [(22, -14, 66), (52, -16, 58), (92, -14, 34)]),
        ("postcava", 4.5, [(22, -12, 68), (40, 20, 56), (56, 44, 24)]),
        ("postcava", 4.0, [(20, -10, 68), (2, 20, 58), (-16, 38, 48)]),
    ):
        tree = tube(d.line(*places, jitter=4), np.linspace(radius, 1.5, len(places)))
        d.paint(p.hu[vein], tree, label=KEEP_LABEL, inside="liver", bumps=p.bumps(0.6, 12))
    if d.rng.random() < 0.15:  # cysts
        for _ in range(int(d.rng.integers(1, 4))):
            center = d.at(*(np.array([70, 0, 30]) + d.rng.uniform(-35, 35, 3)))
            cyst = ellipsoid(center, d.rng.uniform(4, 14, 3))
            p.paint(8.0, cyst, label=KEEP_LABEL, inside="liver")


def paint_spleen(p: Patient) -> None:
    """Paint a crescent under the left dome."""
    d = p.part("spleen", size=1.6)
    d.paint(
        p.hu["spleen"],
        ellipsoid(
            d.at(-90, -44, 30),
            d.radii(44, 58, 70) * d.stretch,
            d.turn(18, 12, -22) + d.placement.turn,
        ),
        d.ellipsoid((-42, -2, 36), (26, 36, 60), (10, 8, -12), SUBTRACT, k=8),
        *fossae(p, -1),
        *domes(p, 1.0),
        p.cavity(2.5),
        label="spleen",
        bumps=p.bumps(1.6, 22),
        fine=p.bumps(0.4, 8),
        texture=(18 if p.phase == "arterial" else 4, 12),
    )


def paint_kidneys(p: Patient) -> None:
    """Paint both kidneys: cortex, medulla, and the sinus, open towards the front and middle."""
    both = p.part("kidneys", size=0.6)
    absent = p.dice("absent_kidney").choice((-1, 1))
    for side, (name, place) in KIDNEYS.items():
        d = p.part(name, size=0.4)
        if "absent_kidney" in p.hard and side == absent:
            continue
        center = d.at(*place)
        turn = d.turn(-12, side * 14, side * 28, jitter=5) + d.placement.turn
        radii = both.size * d.radii(30, 26, 55, jitter=0.03) * d.stretch
        hilum = beside(center, -side * 15.0, 11, 0)
        opening = beside(center, -side * 24.0, 16, 0)
        sinus = (
            ellipsoid(hilum, radii * (0.52, 0.42, 0.46), beside(turn, 0, 0, side * 12)),
            ellipsoid(opening, radii * (0.55, 0.36, 0.34), turn, k=6),
        )
        # Fat around the kidney keeps it in sight of the muscle behind.
        d.paint(p.hu["fat"], ellipsoid(center, radii + d.rng.uniform(0, 5), turn), p.cavity(1.0))
        if "renal_cysts" in p.hard:
            _paint_cysts(p, center, radii, side)
        d.paint(
            p.hu["renal_cortex"],
            ellipsoid(center, radii, turn),
            p.cavity(2.0),
            label=name,
            bumps=p.bumps(1.2, 22),
            fine=p.bumps(0.4, 9),
            texture=(6, 8),
        )
        for _ in range(9):
            u = d.rng.standard_normal(3)
            u /= np.linalg.norm(u)
            spot = center + 0.55 * u * radii * (0.9, 0.9, 1.1)
            pyramid = ellipsoid(spot, d.rng.uniform(5, 9, 3))
            p.paint(p.hu["renal_medulla"], pyramid, label=KEEP_LABEL, inside=name)
        d.paint(p.hu["fat"] + 20, *sinus, inside=name, bumps=p.bumps(1.5, 12), aside=9)
        pelvis = ellipsoid(beside(hilum, -side * 3, 2, 0), d.radii(10, 6, 13, jitter=0.2), turn)
        p.paint(p.hu["renal_pelvis"], pelvis, inside=0)
        if p.setting.people and p.phase == "delayed":  # calyces fill, too
            calyces = ellipsoid(hilum, radii * (0.3, 0.24, 0.3), turn)
            p.paint(p.hu["renal_pelvis"], calyces, inside=0)
            p.paint(p.hu["renal_pelvis"], calyces, label=KEEP_LABEL, inside=name)


def _paint_cysts(p: Patient, center: Floats, radii: Floats, side: int) -> None:
    """Paint water on the surface of a kidney; what the kidney does not cover is none of it."""
    rng = p.dice(f"renal_cysts_{side}")
    for _ in range(int(rng.integers(0, 4))):
        towards = rng.standard_normal(3) * (1, 1, 0.7)
        towards /= np.linalg.norm(towards)
        size = float(rng.uniform(5, 24))
        spot = center + towards * (radii + 0.35 * size)
        water = rng.uniform(0, 22)
        p.paint(water, ellipsoid(spot, size * rng.uniform(0.85, 1.15, 3)), p.cavity(2.0))


def paint_stomach(p: Patient) -> None:
    """Paint a C from the left dome to the pylorus: wall, contents, air above their level."""
    d = p.part("stomach", size=1.6)
    fill = d.rng.uniform(0.85, 1.15)
    if "fluid_filled_stomach" in p.hard:
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
    if "gas_filled_stomach" in p.hard:
        level = low + (high - low) * 0.12
    if "oral_contrast" in p.hard:
        contents = p.dice("oral_contrast").uniform(90, 450)
    if "fluid_filled_stomach" in p.hard:
        contents, grain, level = d.rng.uniform(0, 22), 3.0, NO_LEVEL
    d.paint(
        p.hu["stomach_wall"],
        tube(places, radii, (1.0, d.rng.uniform(0.8, 1.0), 1.0)),
        *domes(p, 1.5),
        p.cavity(4.0),
        label="stomach",
        texture=(9, 7),
        bumps=p.bumps(2.2, 26),
        fine=p.bumps(0.8, 10),
        core=Core(d.rng.uniform(3.0, 6.5), contents, (grain, 12), level),
    )


def paint_pancreas(p: Patient) -> None:
    """Paint it from the duodenum in front of the great vessels to the hilum of the spleen."""
    d = p.part("pancreas", size=1.3)
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
    if "enlarged_pancreas_tail" in p.hard:
        radii = radii * (1, 1, 1, 1.05, 1.3, 1.75, 1.9)
    d.paint(
        p.hu["pancreas"],
        tube(places, radii, (1.0, 0.9, 1.25), step=4.0),
        tube(d.line((32, 0, -34), (14, -4, -36), jitter=2), d.radii(10, 6), k=5),
        p.cavity(6.0),
        label="pancreas",
        bumps=p.bumps(1.4, 16),
        fine=p.bumps(1.0, 6),
        texture=(12, 6),
    )


def paint_gall_bladder(p: Patient) -> None:
    """Paint a pear under the liver, its fundus at the liver's lower edge."""
    if "missing_gall_bladder" in p.hard:
        return
    d = p.part("gall_bladder", size=1.8)
    places = d.line((32, 10, 2), (42, 24, -10), (54, 38, -26), (60, 46, -40), jitter=2.5)
    d.paint(
        p.hu["gall_bladder"],
        tube(places, d.radii(5, 10, 15.5, 13, jitter=0.1)),
        p.cavity(4.0),
        label="gall_bladder",
        bumps=p.bumps(1.0, 16),
        texture=(2.5, 9),
    )
    if d.rng.random() < 0.12:  # stones lie at the back
        for _ in range(int(d.rng.integers(1, 5))):
            spot = places[2] + d.rng.uniform(-6, 6, 3) + (0, -9, 0)
            value, stone = d.rng.uniform(90, 350), ellipsoid(spot, d.rng.uniform(2, 5, 3))
            p.paint(value, stone, label=KEEP_LABEL, inside="gall_bladder")


def paint_postcava(p: Patient) -> None:
    """Paint the postcava along the spine, down to where it divides, and the iliac veins."""
    d = p.part("postcava", shift=0.4, size=1.2)
    split = d.rng.uniform(-128, -108)
    path = d.line(
        (22, -14, split),
        (22, -20, -90),
        (22, -21, -50),
        (21, -20, -10),
        (21, -19, 25),
        (22, -15, 55),
        (20, -4, 84),
        (16, 8, 104),
        jitter=1.5,
    )
    radii = d.radii(9.5, 10.5, 10.5, 11.5, 12, 12.5, 12.5, 13, jitter=0.08)
    bumps = p.bumps(0.8, 18)
    # Unmixed blood from the legs below the renal veins, early in the bolus.
    low = p.hu["postcava"] - {"arterial": 25, "portal": 12}.get(p.phase, 0)
    flatten = (1.12, d.rng.uniform(0.72, 0.95), 1.0)
    if "flat_postcava" in p.hard:
        flatten = (1.25, 0.5 * flatten[1], 1.0)
    for side in (1, -1):
        branch = [path[0], d.at(22 + side * 22, -16, split - 34), d.at(24 + side * 44, -24, -210)]
        d.paint(low, tube(branch, radii[0] * np.array([0.8, 0.75, 0.7])), bumps=bumps)
    style: dict[str, Any] = {"texture": (9 if p.phase == "arterial" else 5, 14), "bumps": bumps}
    d.paint(p.hu["postcava"], tube(path, radii, flatten), label="postcava", **style)
    below = tube(path[:3], radii[:3], flatten)
    d.paint(low, below, label=KEEP_LABEL, inside="postcava", **style)


def paint_aorta(p: Patient) -> None:
    """Paint the aorta along the spine, down to where it divides, and the iliac arteries."""
    d = p.part("aorta", shift=0.4, size=1.2)
    split = d.rng.uniform(-118, -98)
    path = d.line(
        (-6, -18, split),
        (-10, -20, -70),
        (-12, -20, -35),
        (-12, -20, 0),
        (-12, -21, 35),
        (-13, -23, 70),
        (-19, -30, 110),
        (-24, -36, 150),
        (-26, -38, 215),
        jitter=1.2,
    )
    radii = d.radii(8.5, 9, 9.5, 10, 10.8, 11.3, 11.8, 12.2, 12.5, jitter=0.03)
    if p.cap:  # the arch, for scans that begin that high
        arch = ((-25, -36, 178), (-16, -12, 212), (2, 16, 208), (10, 28, 178), (6, 24, 148))
        path = np.concatenate([path[:-1], d.line(*arch, jitter=1.2)])
        radii = np.concatenate([radii[:-1], d.radii(12.5, 13, 13.5, 14.5, 14.5, jitter=0.03)])
    bumps = p.bumps(0.5, 22)
    for side in (1, -1):
        branch = [path[0], d.at(-4 + side * 20, -14, split - 32), d.at(side * 46, -22, -215)]
        d.paint(p.hu["aorta"], tube(branch, radii[0] * np.array([0.68, 0.6, 0.55])), bumps=bumps)
    style: dict[str, Any] = {"texture": (4, 12), "bumps": bumps}
    if "aneurysm" in p.hard:  # blood within the thrombus
        wide = p.dice("aneurysm")
        bulge = np.exp(-(((np.arange(len(path)) - wide.uniform(0.6, 2.4)) / 0.8) ** 2))
        lumen, radii = radii, radii * (1 + wide.uniform(0.7, 1.7) * bulge)
        lumen = lumen * (1 + wide.uniform(0.2, 0.7) * bulge)
        d.paint(35.0, tube(path, radii), label="aorta", **style)
        d.paint(p.hu["aorta"], tube(path, lumen), label=KEEP_LABEL, inside="aorta", **style)
    else:
        d.paint(p.hu["aorta"], tube(path, radii), label="aorta", **style)
    _paint_calcifications(p, d, path, radii)


def _paint_calcifications(p: Patient, d: Part, path: Floats, radii: Floats) -> None:
    if "calcified_aorta" in p.hard:
        chalk = p.dice("calcified_aorta")
        for _ in range(int(chalk.integers(8, 40))):
            along = chalk.uniform(0, min(5.0, len(path) - 1.01))
            node, part = int(along), along % 1.0
            middle = path[node] * (1 - part) + path[node + 1] * part
            angle = chalk.uniform(0, 2 * np.pi)
            out = radii[node] * np.array([np.cos(angle), np.sin(angle), 0])
            value, size = chalk.uniform(250, 1100), chalk.uniform((1, 1.5, 2), (2.5, 6, 9))
            plate = ellipsoid(middle + 0.93 * out, size, (0, 0, np.degrees(angle)))
            p.paint(value, plate, label=KEEP_LABEL, inside="aorta")
    if d.rng.random() < 0.45:
        for _ in range(int(d.rng.integers(2, 9))):
            node = int(d.rng.integers(0, len(path) - 2))
            angle = d.rng.uniform(0, 2 * np.pi)
            spot = path[node] + radii[node] * np.array([np.cos(angle), np.sin(angle), 0])
            value, plaque = d.rng.uniform(350, 800), ellipsoid(spot, d.rng.uniform(1.2, 4, 3))
            p.paint(value, plaque, label=KEEP_LABEL, inside="aorta")
