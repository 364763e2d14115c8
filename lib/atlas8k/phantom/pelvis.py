"""Below the abdomen: bones of the pelvis, bladder, rectum, muscles, for scans that end there."""

from __future__ import annotations

import numpy as np

from atlas8k.phantom.patient import Floats, Part, Patient, Place
from atlas8k.phantom.scene import INTERSECT, NO_LEVEL, SUBTRACT, Core, ellipsoid, plane, tube


def paint_pelvis(p: Patient) -> None:
    """Paint what lies below the crests; bones come first, since nothing overlaps them."""
    d = p.part("pelvis")
    _paint_muscles(p, d)
    _paint_bones(p, d)
    _paint_contents(p, d)


def place_in_pelvis(p: Patient, x: float, y: float, z: float) -> Floats:
    """Return a place of the pelvis, mm; its width follows the cavity's, y counts from the spine."""
    return np.array([x * p.half_width / 127.0, y * p.scale[1], z * p.scale[2]])


def _line(p: Patient, *places: Place) -> list[Floats]:
    return [place_in_pelvis(p, *place) for place in places]


def _paint_muscles(p: Patient, d: Part) -> None:
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


def _paint_bones(p: Patient, d: Part) -> None:
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


def _paint_contents(p: Patient, d: Part) -> None:
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
