"""Draw what surrounds the organs: skin, fat, muscle, bones, lungs, heart, and the pelvis."""

from __future__ import annotations

import numpy as np

from abdomen_phantom.patient import CAVITY_POWER, Floats, Part, Patient, Place
from abdomen_phantom.scene import (
    GATHER,
    INTERSECT,
    NO_LEVEL,
    SUBTRACT,
    UNION,
    Core,
    Primitive,
    beside,
    ellipsoid,
    gathered,
    plane,
    tube,
)

HEAD, FEET = 190.0, -200.0
SPINE_FRONT = -33.0
"""Front of the vertebral bodies in the mean anatomy, y, mm."""


def right_dome(p: Patient, inset: float) -> tuple[Floats, Floats]:
    """Return center and radii of the right dome, ``inset`` mm smaller; the liver fills it."""
    # The same random numbers each time, so that liver, spleen and lungs agree.
    d = p.part("right_dome")
    return d.at(60, -2, 0), d.radii(69, 87, 102) * d.stretch - inset


def domes(p: Patient, inset: float, op: int = INTERSECT) -> list[Primitive]:
    """Return the space under the diaphragm, ``inset`` mm smaller, joined by ``op``."""
    d = p.part("diaphragm")
    left = d.at(-62, -6, -4), d.radii(66, 80, 88) * d.stretch - inset
    middle = p.at(0, 12, -22), d.radii(80, 74, 84) * d.stretch - inset
    return [
        ellipsoid(*right_dome(p, inset), op=GATHER),
        ellipsoid(*left, op=GATHER, k=14),
        ellipsoid(*middle, op=GATHER, k=18),
        gathered(op),
    ]


def paint_body(p: Patient) -> None:
    """Paint skin, subcutaneous fat, muscle wall, and the fat that fills the cavity."""
    rng = p.part("wall").rng
    muscle = rng.uniform(0.8, 1.25)
    side, front, back = 15 * muscle, 9 * muscle, 15 * muscle
    hump = 36 * rng.uniform(0.9, 1.15)
    fs, ff, fb = p.fat_side, p.fat_front, p.fat_back
    if not p.cap:  # the table: a shallow trough under the back
        y = -p.back - hump - fb - 13
        trough = tube([(0, y, HEAD * 2), (0, y, FEET * 2)], [1, 1], (190, 7, 7), step=1000)
        p.paint(-150.0, trough, core=Core(1.5, -920.0))
    p.paint(
        p.hu["skin"],
        p.wall(side + fs + 2, front + ff + 2, hump + fb + 2, 2.15),
        p.wall(side + fs - 4, front + ff - 4, hump + fb - 4, 2.15, SUBTRACT),
    )
    p.paint(
        p.hu["fat"],
        p.wall(side + fs, front + ff, hump + fb, 2.15),
        p.wall(side - 6, front - 6, back - 6, 2.3, SUBTRACT),
        texture=(5, 25),
        offset=(1, 2, 3),
    )
    p.paint(
        p.hu["muscle"],
        p.wall(side, front, back),
        p.wall(-6, -6, -6, CAVITY_POWER, SUBTRACT),
        bumps=p.bumps(1.2, 30),
        texture=(7, 9),
        offset=(5, 6, 7),
    )
    for x in (-1, 1):  # the muscles that hold the spine up
        path = [
            (x * 34, -p.back - hump * 0.42, HEAD * 2),
            (x * 38, -p.back - hump * 0.40, 0),
            (x * 36, -p.back - hump * 0.40, FEET * 2),
        ]
        p.paint(
            p.hu["muscle"] - 4,
            tube(path, np.array([16, 20, 21]) * hump / 38, (1.55, 0.95, 1.0), step=40),
            bumps=p.bumps(1.5, 22),
            texture=(12, 9),
            offset=(8, 3, 7),
        )
    p.paint(p.hu["fat"] + 3, p.cavity(0.0, UNION), texture=(9, 18), offset=(9, 6, 3))


def paint_lungs(p: Patient) -> None:
    """Paint lung bases around the domes of the diaphragm, and the heart on them."""
    d = p.part("lungs")
    recess = 18 + 6 * d.rng.standard_normal()
    for side in (1, -1):
        d.paint(
            p.hu["lung"],
            p.cavity(1.5, UNION),
            plane((side * 17, 0, 0), (-side, 0, 0), k=14),
            plane((0, -40, recess), (0, 0.25, -1), k=6),
            *domes(p, -2.0, SUBTRACT),
            bumps=(0.6, 25),
            texture=(45, 7),
        )
        # Vessels of the lung bases.
        within = p.cavity(8.0), plane((side * 25, 0, 0), (-side, 0, 0)), *domes(p, -4.0, SUBTRACT)
        for _ in range(26):
            x, y = d.rng.uniform(35, 110) * side, d.rng.uniform(-75, 45)
            z = d.rng.uniform(60, 170)
            lean = d.rng.uniform(-18, 18, 2)
            path = [(x, y, z - 20), (x + lean[0], y + lean[1], z + 20)]
            p.paint(20.0, tube(path, [d.rng.uniform(0.8, 1.6), 2.2]), *within)
    if p.cap:
        _paint_mediastinum(p, d)
    heart = ellipsoid(d.at(-18, 20, 130), d.radii(63, 46, 48), d.turn(0, 15, -25))
    around = ellipsoid(d.at(-20, 24, 118), d.radii(66, 50, 44))
    p.paint(p.hu["fat"], around, p.cavity(3.0), *domes(p, -1.0, SUBTRACT))
    d.paint(
        p.hu["heart"],
        heart,
        p.cavity(6.0),
        *domes(p, -3.0, SUBTRACT),
        texture=(14, 22),
        bumps=p.bumps(2, 30),
    )


def _paint_mediastinum(p: Patient, d: Part) -> None:
    """Paint what is above the heart, for scans that begin there: fat, great vessels, airways."""
    d.paint(
        p.hu["fat"] + 8,
        tube(d.line((-4, -8, 150), (-2, -2, 210), (0, -4, 340)), [44, 36, 30], (1.0, 1.15, 1.0)),
        p.cavity(4.0),
        *domes(p, -2.0, SUBTRACT),
        bumps=p.bumps(2.5, 24),
        texture=(10, 14),
    )
    for value, radius, places in (
        (p.hu["heart"], 9.0, ((18, 2, 140), (24, 8, 175), (28, 14, 300))),
        (p.hu["heart"], 12.0, ((-14, 26, 150), (-16, 16, 172), (24, -6, 182))),
        (-960.0, 9.0, ((6, -14, 300), (3, -20, 215), (0, -22, 194))),
        (-960.0, 6.0, ((0, -22, 194), (34, -24, 172))),
        (-960.0, 6.0, ((0, -22, 194), (-36, -26, 168))),
    ):
        p.paint(value, tube(d.line(*places, jitter=2), [radius] * len(places)), texture=(8, 12))
    for side in (1, -1):
        for _ in range(14):
            x, y, z = d.rng.uniform((28, -65, 165), (85, 45, 250))
            lean = d.rng.uniform(-16, 16, 2)
            path = [(side * x, y, z - 18), (side * x + lean[0], y + lean[1], z + 18)]
            p.paint(20.0, tube(path, [1.4, 2.4]), p.cavity(8.0))


def paint_muscles(p: Patient) -> None:
    """Paint psoas, quadratus lumborum, the crura of the diaphragm."""
    d = p.part("muscles")
    grow = d.rng.uniform(0.75, 1.2)
    for side in (1, -1):
        psoas = p.line(
            (side * 24, -48, 8),
            (side * 32, -52, -30),
            (side * 40, -50, -80),
            (side * 50, -38, -140),
            (side * 58, -22, FEET),
        )
        quadratus = p.line((side * 52, -84, 20), (side * 64, -84, -60), (side * 74, -82, FEET))
        crus = p.line(
            (side * 15 - 3, -4, 72),
            (side * 21 - 3, -18, 45),
            (side * 22 - 2, -30, 5),
            (side * 14, -36, -50),
        )
        for more, path, radii, flatten, bumps, aside in (
            (3, psoas, [4, 13, 19, 22, 22], (0.9, 1.1, 1), (1.5, 25), side),
            (0, quadratus, [7, 12, 13], (1.6, 0.8, 1), (1, 25), -side),
            (4, crus, [3.0, 5.0, 5.5, 2.0], (0.8, 1.5, 1), (1.2, 14), 3 * side),
        ):
            d.paint(
                p.hu["muscle"] + more,
                tube(path, np.array(radii) * grow, flatten),
                bumps=p.bumps(*bumps),
                texture=(7, 8),
                aside=aside,
            )


def paint_bones(p: Patient) -> None:
    """Paint ribs, vertebrae with discs and processes, and the spinal canal."""
    d = p.part("bones", size=0.5)
    bone, shell = p.hu["bone"], p.hu["bone"] + 330
    _paint_ribs(p, d, bone, shell)
    pitch = 36 * float(p.scale[2])
    first = d.rng.uniform(-pitch, 0) + FEET
    texture = (35, 5)
    y = SPINE_FRONT * float(p.scale[1])
    for level in range(15 if p.cap else 13):
        z = first + level * pitch
        if p.cap and z < -152 * float(p.scale[2]):
            continue  # the sacrum is there
        grow = 1.0 + 0.06 * (0 - z) / 100
        w, deep = 23.5 * grow * d.size, 16.5 * grow * d.size
        center = np.array([0.0, y - deep, z])

        def at(x: float, y: float, z: float, center: Floats = center) -> Floats:
            return beside(center, x, y, z)

        ends = [at(0, 0, -pitch / 2), at(0, 0, pitch / 2)]
        disc = tube(ends, [1, 1], (w - 1.5, deep - 1.5, deep - 1.5))
        p.paint(p.hu["disc"], disc, texture=(8, 8))
        # Pedicles, arch, processes.
        for side in (1, -1):
            arch = [at(side * 15, -deep + 2, 4), at(side * 17, -deep - 16, 2)]
            arch.append(at(side * 4, -deep - 28, -4))
            transverse = [at(side * 16, -deep - 13, 3), at(side * 40, -deep - 19, 5)]
            d.paint(
                shell - 150,
                tube(arch, [5, 6, 4]),
                tube(transverse, [4, 2.5]),
                bumps=(1, 10),
                texture=texture,
            )
        spinous = [at(0, -deep - 27, -4), at(0, -deep - 54, -14)]
        p.paint(shell - 120, tube(spinous, [4, 4.5], (0.8, 1, 1.8)), texture=texture)
        top, bottom = at(0, 0, pitch * 0.36), at(0, 0, -pitch * 0.36)
        d.paint(
            shell,
            tube([bottom, top], [1, 1], (w, deep, deep), step=100),
            plane(top, (0, 0, 1)),
            plane(bottom, (0, 0, -1)),
            texture=texture,
            bumps=(0.5, 12),
            core=Core(1.6, bone, texture),
        )
        canal = [at(0, -deep - 10, -pitch / 2), at(0, -deep - 10, pitch / 2)]
        p.paint(30.0, tube(canal, [1, 1], (11, 8.5, 8.5)))


def _paint_ribs(p: Patient, d: Part, bone: float, shell: float) -> None:
    """Paint ribs as tubes in the muscle wall, sloping down from the spine to the front."""
    lowest = d.rng.uniform(-5, 12)
    for side in (1, -1):
        for rib in range(12 if p.cap else 8):
            start = lowest + rib * 25 * float(p.scale[2])
            far = (0.9, 1.6, 2.3, 2.6, 2.8)[min(rib, 4)]
            places = []
            for angle in np.linspace(0.38, far, 4 + 2 * rib if rib < 3 else 10):
                # Angle from the back midline; the wall's own superellipse.
                c, s = np.cos(angle), np.sin(angle)
                z = start - 62 * (1 - np.cos(angle * 0.85)) + (rib > 2) * 55 * max(0, angle - 2.0)
                high = max(0.0, min(z, p.cap or z) + 20) / 120
                a = (p.half_width + 7) * (1 - p.narrow * 0.9 * high * high)
                b = p.back + 9 if c > 0 else p.front + 5
                k = (abs(s / a) ** CAVITY_POWER + abs(c / b) ** CAVITY_POWER) ** (-1 / CAVITY_POWER)
                places.append((side * s * k, -c * k, z))
            d.paint(
                shell - 60,
                tube(places, [5.2] * len(places), (0.8, 0.8, 1.25), step=14),
                bumps=(0.4, 12),
                core=Core(2.0, bone - 40),
            )


def paint_pelvis(p: Patient) -> None:
    """Paint what lies below the crests; bones come first, since nothing overlaps them."""
    d = p.part("pelvis")
    _paint_pelvic_muscles(p, d)
    _paint_pelvic_bones(p, d)
    _paint_pelvic_organs(p, d)


def place_in_pelvis(p: Patient, x: float, y: float, z: float) -> Floats:
    """Return a place of the pelvis, mm; its width follows the cavity's, y counts from the spine."""
    return np.array([x * p.half_width / 127.0, y * p.scale[1], z * p.scale[2]])


def _line(p: Patient, *places: Place) -> list[Floats]:
    return [place_in_pelvis(p, *place) for place in places]


def _paint_pelvic_muscles(p: Patient, d: Part) -> None:
    grow = d.rng.uniform(0.8, 1.15)
    for side in (1, -1):
        for place, radii, turn in (
            ((78, -92, -225), (62, 30, 78), 30.0),  # gluteus maximus and medius
            ((112, -38, -205), (20, 44, 70), 12.0),
            ((92, 36, -300), (26, 24, 70), 0.0),  # thigh
        ):
            middle = place_in_pelvis(p, side * place[0], *place[1:])
            d.paint(
                p.hu["muscle"] - 3,
                ellipsoid(middle, np.array(radii) * grow, (0, 0, side * turn)),
                p.wall(12, 8, 40, op=INTERSECT),
                bumps=p.bumps(2, 22),
                texture=(9, 9),
                aside=side,
            )
        # Iliopsoas on its way to the thigh.
        path = _line(p, (side * 56, -22, -195), (side * 76, 14, -255), (side * 92, 30, -320))
        iliopsoas = tube(path, np.array([21, 19, 16]) * grow)
        style = {"bumps": p.bumps(1.5, 22), "texture": (9, 9)}
        d.paint(p.hu["muscle"] + 3, iliopsoas, aside=-side, **style)
        for value, y, radius in ((p.hu["aorta"], 2, 4.5), (p.hu["postcava"] * 0.8, -8, 6.0)):
            path = _line(
                p,
                (side * 46, y - 22, -205),
                (side * 58, y + 24, -265),
                (side * 66, y + 46, -330),
            )
            p.paint(value, tube(path, [radius] * 3))


def _paint_pelvic_bones(p: Patient, d: Part) -> None:
    bone, shell = p.hu["bone"], p.hu["bone"] + 280
    texture = (40, 5)
    for side in (1, -1):
        # The wing: a bowl's rim, cut out of one large ellipsoid by another.
        wing, turn = place_in_pelvis(p, side * 62, -18, -172), (0, 0, side * 20)
        bowl = wing + np.array([-side * 14.0, 10, 12])
        d.paint(
            shell,
            ellipsoid(wing, (58, 74, 74), turn),
            ellipsoid(bowl, (58, 74, 78), turn, SUBTRACT, k=3),
            plane(place_in_pelvis(p, side * 38, 0, 0), (-side, 0, 0), INTERSECT),
            plane(place_in_pelvis(p, 0, 54, 0), (0, 1, -0.4), INTERSECT),
            p.wall(6, 4, 30, op=INTERSECT),
            bumps=(0.8, 14),
            texture=texture,
            core=Core(2.5, bone, texture),
        )
        # Hip: socket, head and neck of the femur, ischium, pubis.
        hip = place_in_pelvis(p, side * 92, -8, -290)
        for radii, places in (
            ((20, 28), ((92, -8, -252), (92, -8, -275))),
            ((17, 15), ((86, -40, -285), (60, -52, -325))),
            ((11, 9, 12), ((80, 22, -290), (42, 44, -305), (6, 46, -315))),
            ((22, 17, 18), ((92, -8, -290), (118, -10, -305), (128, -12, -350))),
        ):
            d.paint(
                shell - 40,
                tube(_line(p, *((side * x, y, z) for x, y, z in places)), radii),
                bumps=(0.8, 12),
                texture=texture,
                core=Core(3.0, bone + 30, texture),
            )
        p.paint(60.0, ellipsoid(hip, (26, 26, 26)))
        p.paint(shell, ellipsoid(hip, (23, 23, 23)), core=Core(2.0, bone + 60, texture))
    sacrum = ((-58, -158), (-78, -190), (-104, -225), (-108, -262), (-92, -285))
    d.paint(
        shell - 80,
        tube(_line(p, *((0, y, z) for y, z in sacrum)), (24, 24, 19, 13, 6), (1.9, 0.9, 1.0)),
        bumps=(1.5, 14),
        texture=texture,
        core=Core(2.5, bone - 40, texture),
    )


def _paint_pelvic_organs(p: Patient, d: Part) -> None:
    rng = d.rng
    limit = p.cavity(6.0)
    texture = (10, 8)
    gas = rng.random() < 0.5
    path = _line(
        p,
        (-78, -20, -205),
        (-40, 0, -232),
        (14, -22, -236),
        (2, -68, -240),
        (0, -72, -285),
        (0, -60, -330),
    )
    radii = rng.uniform(11, 22) * np.array([0.9, 0.9, 0.9, 1.1, 1.2, 0.9])
    stool, grain = rng.uniform(10, 60), rng.uniform(10, 120)
    level = float(-70 + rng.uniform(-14, 30)) if gas else NO_LEVEL
    d.paint(
        p.hu["bowel_wall"] * 0.9,
        tube(path, radii),
        limit,
        bumps=p.bumps(1.8, 14),
        core=Core(3.0, stool, (grain, 6), level),
        texture=texture,
    )
    size = rng.uniform(0.55, 1.25)
    value = p.hu["muscle"] + rng.uniform(-5, 35)
    middle = place_in_pelvis(p, rng.uniform(-8, 8), -26, -275)
    prostate = ellipsoid(middle, np.array([26, 22, 28]) * rng.uniform(0.7, 1.3))  # or uterus
    d.paint(value, prostate, bumps=p.bumps(1.5, 14), texture=texture)
    middle = place_in_pelvis(p, rng.uniform(-6, 6), 22, -278)
    d.paint(
        38.0,
        ellipsoid(middle, np.array([44, 36, 34]) * size),
        limit,
        bumps=p.bumps(1.5, 20),
        core=Core(3.0, rng.uniform(150, 700) if p.phase == "delayed" else rng.uniform(0, 14)),
        aside=5,
    )
    for _ in range(10):  # ileum
        start = rng.uniform(-55, 55), rng.uniform(-10, 52), rng.uniform(-262, -190)
        nodes = [place_in_pelvis(p, *start)]
        for _ in range(3):
            step = nodes[-1] + rng.uniform(-26, 26, 3)
            nodes.append(np.clip(step, (-80, -25, -275), (80, 62, -185)))
        p.paint(
            p.hu["bowel_wall"] * rng.uniform(0.85, 1.1),
            tube(np.array(nodes), [rng.uniform(9, 13)] * 4),
            limit,
            bumps=p.bumps(1.8, 14),
            core=Core(2.5, rng.uniform(5, 60), (10, 6)),
            texture=texture,
            inside=0,
            offset=rng.uniform(0, 64, 3),
        )
