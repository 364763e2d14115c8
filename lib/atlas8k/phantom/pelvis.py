"""Below the abdomen: bones of the pelvis, bladder, rectum, muscles, for scans that end there."""

from __future__ import annotations

import numpy as np

from atlas8k.phantom.frame import Draw, Floats, Frame
from atlas8k.phantom.scene import (
    INTERSECT,
    SUBTRACT,
    Bumps,
    Core,
    Scene,
    Texture,
    ellipsoid,
    plane,
    tube,
)
from atlas8k.phantom.trunk import Densities

CREST = -112.0
"""Height of the iliac crests in the mean anatomy, at the fourth lumbar vertebra, mm."""
FLOOR = -330.0
"""Height of the perineum in the mean anatomy, mm."""


def paint_pelvis(scene: Scene, frame: Frame, hu: Densities, phase: str) -> None:
    """Paint what lies below the crests; bones come first, since nothing overlaps them."""
    d = Draw.of(frame, "pelvis")
    _paint_muscles(scene, frame, hu, d)
    _paint_bones(scene, frame, hu, d)
    _paint_contents(scene, frame, hu, d, phase)


def _at(frame: Frame, x: float, y: float, z: float) -> Floats:
    """A place of the pelvis; its width follows the cavity's, y counts from the spine."""
    return np.array([x * frame.half_width / 127.0, y * frame.scale[1], z * frame.scale[2]])


def _paint_muscles(scene: Scene, frame: Frame, hu: Densities, d: Draw) -> None:
    texture = Texture(9, 9)
    grow = d.rng.uniform(0.8, 1.15)
    for side in (1, -1):
        for place, radii, turn in (
            ((78, -92, -225), (62, 30, 78), 30.0),  # gluteus maximus and medius
            ((112, -38, -205), (20, 44, 70), 12.0),
            ((92, 36, -300), (26, 24, 70), 0.0),  # thigh
        ):
            scene.paint(
                hu["muscle"] - 3,
                ellipsoid(
                    _at(frame, side * place[0], *place[1:]),
                    np.array(radii) * grow,
                    (0, 0, side * turn),
                ),
                frame.wall(12, 8, 40, op=INTERSECT),
                bumps=frame.bumps(2, 22),
                texture=texture,
                offset=d.offset + side,
            )
        # Iliopsoas on its way to the thigh.
        scene.paint(
            hu["muscle"] + 3,
            tube(
                [
                    _at(frame, side * x, y, z)
                    for x, y, z in ((56, -22, -195), (76, 14, -255), (92, 30, -320))
                ],
                np.array([21, 19, 16]) * grow,
            ),
            bumps=frame.bumps(1.5, 22),
            texture=texture,
            offset=d.offset - side,
        )
        for value, y, radius in ((hu["aorta"], 2, 4.5), (hu["postcava"] * 0.8, -8, 6.0)):
            scene.paint(
                value,
                tube(
                    [
                        _at(frame, side * 46, y - 22, -205),
                        _at(frame, side * 58, y + 24, -265),
                        _at(frame, side * 66, y + 46, -330),
                    ],
                    [radius] * 3,
                ),
            )


def _paint_bones(scene: Scene, frame: Frame, hu: Densities, d: Draw) -> None:
    bone, shell = hu["bone"], hu["bone"] + 280
    texture = Texture(40, 5)
    for side in (1, -1):
        # The wing: a bowl's rim, cut out of one large ellipsoid by another.
        wing = _at(frame, side * 62, -18, -172)
        scene.paint(
            shell,
            ellipsoid(wing, (58, 74, 74), (0, 0, side * 20)),
            ellipsoid(
                wing + np.array([-side * 14.0, 10, 12]),
                (58, 74, 78),
                (0, 0, side * 20),
                SUBTRACT,
                k=3,
            ),
            plane(_at(frame, side * 38, 0, 0), (-side, 0, 0), INTERSECT),
            plane(_at(frame, 0, 54, 0), (0, 1, -0.4), INTERSECT),
            frame.wall(6, 4, 30, op=INTERSECT),
            bumps=Bumps(0.8, 14),
            texture=texture,
            core=Core(2.5, bone, texture),
            offset=d.offset,
        )
        # Hip: socket, head and neck of the femur, ischium, pubis.
        hip = _at(frame, side * 92, -8, -290)
        for places, radii in (
            (((92, -8, -252), (92, -8, -275)), (20, 28)),
            (((86, -40, -285), (60, -52, -325)), (17, 15)),
            (((80, 22, -290), (42, 44, -305), (6, 46, -315)), (11, 9, 12)),
            (((92, -8, -290), (118, -10, -305), (128, -12, -350)), (22, 17, 18)),
        ):
            scene.paint(
                shell - 40,
                tube([_at(frame, side * x, y, z) for x, y, z in places], radii),
                bumps=Bumps(0.8, 12),
                texture=texture,
                core=Core(3.0, bone + 30, texture),
                offset=d.offset,
            )
        scene.paint(60.0, ellipsoid(hip, (26, 26, 26)))
        scene.paint(shell, ellipsoid(hip, (23, 23, 23)), core=Core(2.0, bone + 60, texture))
    scene.paint(
        shell - 80,
        tube(
            [
                _at(frame, 0, y, z)
                for y, z in ((-58, -158), (-78, -190), (-104, -225), (-108, -262), (-92, -285))
            ],
            (24, 24, 19, 13, 6),
            (1.9, 0.9, 1.0),
        ),
        bumps=Bumps(1.5, 14),
        texture=texture,
        core=Core(2.5, bone - 40, texture),
        offset=d.offset,
    )


def _paint_contents(scene: Scene, frame: Frame, hu: Densities, d: Draw, phase: str) -> None:
    rng = d.rng
    limit = frame.cavity(6.0)
    texture = Texture(10, 8)
    gas = rng.random() < 0.5
    scene.paint(
        hu["bowel_wall"] * 0.9,
        tube(
            [
                _at(frame, x, y, z)
                for x, y, z in (
                    (-78, -20, -205),
                    (-40, 0, -232),
                    (14, -22, -236),
                    (2, -68, -240),
                    (0, -72, -285),
                    (0, -60, -330),
                )
            ],
            rng.uniform(11, 22) * np.array([0.9, 0.9, 0.9, 1.1, 1.2, 0.9]),
        ),
        limit,
        bumps=frame.bumps(1.8, 14),
        core=Core(
            3.0,
            rng.uniform(10, 60),
            Texture(rng.uniform(10, 120), 6),
            float(-70 + rng.uniform(-14, 30)) if gas else 1e9,
        ),
        texture=texture,
        offset=d.offset,
    )
    size = rng.uniform(0.55, 1.25)
    scene.paint(  # prostate or uterus
        hu["muscle"] + rng.uniform(-5, 35),
        ellipsoid(
            _at(frame, rng.uniform(-8, 8), -26, -275),
            np.array([26, 22, 28]) * rng.uniform(0.7, 1.3),
        ),
        bumps=frame.bumps(1.5, 14),
        texture=texture,
        offset=d.offset,
    )
    scene.paint(
        38.0,
        ellipsoid(_at(frame, rng.uniform(-6, 6), 22, -278), np.array([44, 36, 34]) * size),
        limit,
        bumps=frame.bumps(1.5, 20),
        core=Core(3.0, rng.uniform(150, 700) if phase == "delayed" else rng.uniform(0, 14)),
        offset=d.offset + 5,
    )
    for _ in range(10):  # ileum
        nodes = [_at(frame, rng.uniform(-55, 55), rng.uniform(-10, 52), rng.uniform(-262, -190))]
        for _ in range(3):
            step = nodes[-1] + rng.uniform(-26, 26, 3)
            nodes.append(np.clip(step, (-80, -25, -275), (80, 62, -185)))
        scene.paint(
            hu["bowel_wall"] * rng.uniform(0.85, 1.1),
            tube(np.array(nodes), [rng.uniform(9, 13)] * 4),
            limit,
            bumps=frame.bumps(1.8, 14),
            core=Core(2.5, rng.uniform(5, 60), Texture(10, 6)),
            texture=texture,
            inside=0,
            offset=rng.uniform(0, 64, 3),
        )
