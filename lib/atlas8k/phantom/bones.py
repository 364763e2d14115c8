"""The skeleton of the trunk."""

from __future__ import annotations

import numpy as np

from atlas8k.phantom.frame import CAVITY_POWER, Draw, Frame
from atlas8k.phantom.scene import Bumps, Core, Scene, Texture, beside, plane, tube
from atlas8k.phantom.trunk import FEET, Densities

SPINE_FRONT = -33.0
"""Front of the vertebral bodies in the mean anatomy, y, mm."""


def paint_bones(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Ribs, vertebrae with discs and processes, spinal canal, back muscles' midline."""
    draw = Draw.of(frame, "bones", size=0.5)
    bone, shell = hu["bone"], hu["bone"] + 330
    _paint_ribs(scene, frame, draw, bone, shell)
    pitch = 36 * float(frame.scale[2])
    first = draw.rng.uniform(-pitch, 0) + FEET
    texture = Texture(35, 5)
    y = SPINE_FRONT * float(frame.scale[1])
    for level in range(15 if frame.cap else 13):
        z = first + level * pitch
        if frame.cap and z < -152 * float(frame.scale[2]):
            continue  # the sacrum is there
        grow = 1.0 + 0.06 * (0 - z) / 100
        w, d = 23.5 * grow * draw.size, 16.5 * grow * draw.size
        center = np.array([0.0, y - d, z])
        scene.paint(
            hu["disc"],
            tube(
                [beside(center, 0, 0, -pitch / 2), beside(center, 0, 0, pitch / 2)],
                [1, 1],
                (w - 1.5, d - 1.5, d - 1.5),
            ),
            texture=Texture(8, 8),
        )
        # Pedicles, arch, processes.
        for side in (1, -1):
            scene.paint(
                shell - 150,
                tube(
                    [
                        beside(center, side * 15, -d + 2, 4),
                        beside(center, side * 17, -d - 16, 2),
                        beside(center, side * 4, -d - 28, -4),
                    ],
                    [5, 6, 4],
                ),
                tube(
                    [beside(center, side * 16, -d - 13, 3), beside(center, side * 40, -d - 19, 5)],
                    [4, 2.5],
                ),
                bumps=Bumps(1, 10),
                texture=texture,
                offset=draw.offset,
            )
        scene.paint(
            shell - 120,
            tube(
                [beside(center, 0, -d - 27, -4), beside(center, 0, -d - 54, -14)],
                [4, 4.5],
                (0.8, 1, 1.8),
            ),
            texture=texture,
        )
        height = pitch * 0.36
        scene.paint(
            shell,
            tube(
                [beside(center, 0, 0, -height), beside(center, 0, 0, height)],
                [1, 1],
                (w, d, d),
                step=100,
            ),
            plane(beside(center, 0, 0, height), (0, 0, 1)),
            plane(beside(center, 0, 0, -height), (0, 0, -1)),
            texture=texture,
            bumps=Bumps(0.5, 12),
            core=Core(1.6, bone, texture),
            offset=draw.offset,
        )
        scene.paint(
            30.0,
            tube(
                [beside(center, 0, -d - 10, -pitch / 2), beside(center, 0, -d - 10, pitch / 2)],
                [1, 1],
                (11, 8.5, 8.5),
            ),
        )


def _paint_ribs(scene: Scene, frame: Frame, draw: Draw, bone: float, shell: float) -> None:
    """Ribs as tubes in the muscle wall, sloping down from the spine to the front."""
    lowest = draw.rng.uniform(-5, 12)
    for side in (1, -1):
        for rib in range(12 if frame.cap else 8):
            start = lowest + rib * 25 * float(frame.scale[2])
            far = (0.9, 1.6, 2.3, 2.6, 2.8)[min(rib, 4)]
            places = []
            for angle in np.linspace(0.38, far, 4 + 2 * rib if rib < 3 else 10):
                # Angle from the back midline; the wall's own superellipse.
                c, s = np.cos(angle), np.sin(angle)
                z = start - 62 * (1 - np.cos(angle * 0.85)) + (rib > 2) * 55 * max(0, angle - 2.0)
                high = max(0.0, min(z, frame.cap or z) + 20) / 120
                a = (frame.half_width + 7) * (1 - frame.narrow * 0.9 * high * high)
                b = frame.back + 9 if c > 0 else frame.front + 5
                p = CAVITY_POWER
                k = (abs(s / a) ** p + abs(c / b) ** p) ** (-1 / p)
                places.append((side * s * k, -c * k, z))
            radius = np.full(len(places), 5.2)
            scene.paint(
                shell - 60,
                tube(places, radius, (0.8, 0.8, 1.25), step=14),
                bumps=Bumps(0.4, 12),
                core=Core(2.0, bone - 40),
                offset=draw.offset,
            )
