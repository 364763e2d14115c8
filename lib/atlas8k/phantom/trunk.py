"""Everything around the organs: skin, fat, muscle, bones, lungs, heart."""

from __future__ import annotations

import numpy as np

from atlas8k.phantom.frame import CAVITY_POWER, Draw, Floats, Frame
from atlas8k.phantom.scene import (
    GATHER,
    INTERSECT,
    SUBTRACT,
    UNION,
    Bumps,
    Core,
    Primitive,
    Scene,
    Texture,
    ellipsoid,
    gathered,
    plane,
    tube,
)

Densities = dict[str, float]
HEAD, FEET = 190.0, -200.0


def right_dome(frame: Frame, inset: float) -> tuple[Floats, Floats]:
    """Center and radii of the right dome, ``inset`` mm smaller; the liver fills it."""
    # The same random numbers each time, so that liver, spleen and lungs agree.
    draw = Draw.of(frame, "right_dome")
    return draw.at(60, -2, 0), draw.radii(69, 87, 102) * draw.stretch - inset


def domes(frame: Frame, inset: float, op: int = INTERSECT) -> list[Primitive]:
    """The space under the diaphragm, ``inset`` mm smaller, joined by ``op``."""
    draw = Draw.of(frame, "diaphragm")
    return [
        ellipsoid(*right_dome(frame, inset), op=GATHER),
        ellipsoid(
            draw.at(-62, -6, -4), draw.radii(66, 80, 88) * draw.stretch - inset, op=GATHER, k=14
        ),
        ellipsoid(
            frame.at(0, 12, -22), draw.radii(80, 74, 84) * draw.stretch - inset, op=GATHER, k=18
        ),
        gathered(op),
    ]


def paint_body(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Skin, subcutaneous fat, muscle wall, and the fat that fills the cavity."""
    f = frame
    rng = Draw.of(f, "wall").rng
    muscle = rng.uniform(0.8, 1.25)
    side, front, back = 15 * muscle, 9 * muscle, 15 * muscle
    hump = 36 * rng.uniform(0.9, 1.15)
    fs, ff, fb = f.fat_side, f.fat_front, f.fat_back
    if not f.cap:  # the table: a shallow trough under the back
        scene.paint(
            -150.0,
            tube(
                [(0, -f.back - hump - fb - 13, HEAD * 2), (0, -f.back - hump - fb - 13, FEET * 2)],
                [1, 1],
                (190, 7, 7),
                step=1000,
            ),
            core=Core(1.5, -920.0),
        )
    scene.paint(
        hu["skin"],
        f.wall(side + fs + 2, front + ff + 2, hump + fb + 2, 2.15),
        f.wall(side + fs - 4, front + ff - 4, hump + fb - 4, 2.15, SUBTRACT),
    )
    scene.paint(
        hu["fat"],
        f.wall(side + fs, front + ff, hump + fb, 2.15),
        f.wall(side - 6, front - 6, back - 6, 2.3, SUBTRACT),
        texture=Texture(5, 25),
        offset=(1, 2, 3),
    )
    scene.paint(
        hu["muscle"],
        f.wall(side, front, back),
        f.wall(-6, -6, -6, CAVITY_POWER, SUBTRACT),
        bumps=f.bumps(1.2, 30),
        texture=Texture(7, 9),
        offset=(5, 6, 7),
    )
    # The muscles that hold the spine up.
    for x in (-1, 1):
        scene.paint(
            hu["muscle"] - 4,
            tube(
                [
                    (x * 34, -f.back - hump * 0.42, HEAD * 2),
                    (x * 38, -f.back - hump * 0.40, 0),
                    (x * 36, -f.back - hump * 0.40, FEET * 2),
                ],
                np.array([16, 20, 21]) * hump / 38,
                (1.55, 0.95, 1.0),
                step=40,
            ),
            bumps=f.bumps(1.5, 22),
            texture=Texture(12, 9),
            offset=(8, 3, 7),
        )
    scene.paint(
        hu["fat"] + 3,
        f.cavity(0.0, UNION),
        texture=Texture(9, 18),
        offset=(9, 6, 3),
    )


def paint_lungs(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Lung bases around the domes of the diaphragm, and the heart on them."""
    draw = Draw.of(frame, "lungs")
    recess = 18 + 6 * draw.rng.standard_normal()
    for side in (1, -1):
        scene.paint(
            hu["lung"],
            frame.cavity(1.5, UNION),
            plane((side * 17, 0, 0), (-side, 0, 0), k=14),
            plane((0, -40, recess), (0, 0.25, -1), k=6),
            *domes(frame, -2.0, SUBTRACT),
            bumps=Bumps(0.6, 25),
            texture=Texture(45, 7),
            offset=draw.offset,
        )
        # Vessels of the lung bases.
        below = domes(frame, -4.0, SUBTRACT)
        for _ in range(26):
            x, y = draw.rng.uniform(35, 110) * side, draw.rng.uniform(-75, 45)
            z = draw.rng.uniform(60, 170)
            lean = draw.rng.uniform(-18, 18, 2)
            scene.paint(
                20.0,
                tube(
                    [(x, y, z - 20), (x + lean[0], y + lean[1], z + 20)],
                    [draw.rng.uniform(0.8, 1.6), 2.2],
                ),
                frame.cavity(8.0),
                plane((side * 25, 0, 0), (-side, 0, 0)),
                *below,
            )
    if frame.cap:
        _paint_mediastinum(scene, frame, hu, draw)
    heart = ellipsoid(draw.at(-18, 20, 130), draw.radii(63, 46, 48), draw.turn(0, 15, -25))
    scene.paint(
        hu["fat"],
        ellipsoid(draw.at(-20, 24, 118), draw.radii(66, 50, 44)),
        frame.cavity(3.0),
        *domes(frame, -1.0, SUBTRACT),
    )
    scene.paint(
        hu["heart"],
        heart,
        frame.cavity(6.0),
        *domes(frame, -3.0, SUBTRACT),
        texture=Texture(14, 22),
        bumps=frame.bumps(2, 30),
        offset=draw.offset,
    )


def _paint_mediastinum(scene: Scene, frame: Frame, hu: Densities, draw: Draw) -> None:
    """Above the heart, for scans that begin there: fat, veins, pulmonary artery, airways."""
    scene.paint(
        hu["fat"] + 8,
        tube(draw.line((-4, -8, 150), (-2, -2, 210), (0, -4, 340)), [44, 36, 30], (1.0, 1.15, 1.0)),
        frame.cavity(4.0),
        *domes(frame, -2.0, SUBTRACT),
        bumps=frame.bumps(2.5, 24),
        texture=Texture(10, 14),
        offset=draw.offset,
    )
    for value, places, radius in (
        (hu["heart"], ((18, 2, 140), (24, 8, 175), (28, 14, 300)), 9.0),
        (hu["heart"], ((-14, 26, 150), (-16, 16, 172), (24, -6, 182)), 12.0),
        (-960.0, ((6, -14, 300), (3, -20, 215), (0, -22, 194)), 9.0),
        (-960.0, ((0, -22, 194), (34, -24, 172)), 6.0),
        (-960.0, ((0, -22, 194), (-36, -26, 168)), 6.0),
    ):
        scene.paint(
            value,
            tube(draw.line(*places, jitter=2), [radius] * len(places)),
            texture=Texture(8, 12),
        )
    for side in (1, -1):
        for _ in range(14):
            x, y, z = draw.rng.uniform((28, -65, 165), (85, 45, 250))
            lean = draw.rng.uniform(-16, 16, 2)
            scene.paint(
                20.0,
                tube(
                    [(side * x, y, z - 18), (side * x + lean[0], y + lean[1], z + 18)], [1.4, 2.4]
                ),
                frame.cavity(8.0),
            )


def paint_muscles(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Psoas, quadratus lumborum, the crura of the diaphragm, rectus abdominis."""
    draw = Draw.of(frame, "muscles")
    grow = draw.rng.uniform(0.75, 1.2)
    texture = Texture(7, 8)
    for side in (1, -1):
        scene.paint(
            hu["muscle"] + 3,
            tube(
                frame.line(
                    (side * 24, -48, 8),
                    (side * 32, -52, -30),
                    (side * 40, -50, -80),
                    (side * 50, -38, -140),
                    (side * 58, -22, FEET),
                ),
                np.array([4, 13, 19, 22, 22]) * grow,
                (0.9, 1.1, 1),
            ),
            bumps=frame.bumps(1.5, 25),
            texture=texture,
            offset=draw.offset + side,
        )
        scene.paint(
            hu["muscle"],
            tube(
                frame.line((side * 52, -84, 20), (side * 64, -84, -60), (side * 74, -82, FEET)),
                np.array([7, 12, 13]) * grow,
                (1.6, 0.8, 1),
            ),
            bumps=frame.bumps(1, 25),
            texture=texture,
            offset=draw.offset - side,
        )
        scene.paint(
            hu["muscle"] + 4,
            tube(
                frame.line(
                    (side * 15 - 3, -4, 72),
                    (side * 21 - 3, -18, 45),
                    (side * 22 - 2, -30, 5),
                    (side * 14, -36, -50),
                ),
                np.array([3.0, 5.0, 5.5, 2.0]) * grow,
                (0.8, 1.5, 1),
            ),
            bumps=frame.bumps(1.2, 14),
            texture=texture,
            offset=draw.offset + 3 * side,
        )
