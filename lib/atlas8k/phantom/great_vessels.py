"""Aorta and postcava along the spine."""

from __future__ import annotations

import numpy as np

from atlas8k.organs import ORGAN_IDS
from atlas8k.phantom.frame import Draw, Frame
from atlas8k.phantom.scene import KEEP_LABEL, Scene, Texture, ellipsoid, tube
from atlas8k.phantom.trunk import Densities


def paint_great_vessels(
    scene: Scene,
    frame: Frame,
    hu: Densities,
    phase: str,
    hard: frozenset[str] = frozenset(),
) -> None:
    """Postcava and aorta along the spine, down to where they divide, and the iliacs."""
    d = Draw.of(frame, "postcava", shift=0.4, size=1.2)
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
    bumps = frame.bumps(0.8, 18)
    # Unmixed blood from the legs below the renal veins, early in the bolus.
    low = hu["postcava"] - (25 if phase == "arterial" else 12 if phase == "portal" else 0)
    flatten = (1.12, d.rng.uniform(0.72, 0.95), 1.0)
    if "flat_postcava" in hard:
        flatten = (1.25, 0.5 * flatten[1], 1.0)
    for side in (1, -1):
        scene.paint(
            low,
            tube(
                [path[0], d.at(22 + side * 22, -16, split - 34), d.at(24 + side * 44, -24, -210)],
                radii[0] * np.array([0.8, 0.75, 0.7]),
            ),
            bumps=bumps,
            offset=d.offset,
        )
    label = ORGAN_IDS["postcava"]
    texture = Texture(9 if phase == "arterial" else 5, 14)
    scene.paint(
        hu["postcava"],
        tube(path, radii, flatten),
        label=label,
        texture=texture,
        bumps=bumps,
        offset=d.offset,
    )
    scene.paint(
        low,
        tube(path[:3], radii[:3], flatten),
        label=KEEP_LABEL,
        inside=label,
        texture=texture,
        bumps=bumps,
        offset=d.offset,
    )
    d = Draw.of(frame, "aorta", shift=0.4, size=1.2)
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
    if frame.cap:  # the arch, for scans that begin that high
        arch = ((-25, -36, 178), (-16, -12, 212), (2, 16, 208), (10, 28, 178), (6, 24, 148))
        path = np.concatenate([path[:-1], d.line(*arch, jitter=1.2)])
        radii = np.concatenate([radii[:-1], d.radii(12.5, 13, 13.5, 14.5, 14.5, jitter=0.03)])
    bumps = frame.bumps(0.5, 22)
    for side in (1, -1):
        scene.paint(
            hu["aorta"],
            tube(
                [path[0], d.at(-4 + side * 20, -14, split - 32), d.at(side * 46, -22, -215)],
                radii[0] * np.array([0.68, 0.6, 0.55]),
            ),
            bumps=bumps,
            offset=d.offset,
        )
    label = ORGAN_IDS["aorta"]
    lumen = radii
    if "aneurysm" in hard:
        wide = frame.dice("aneurysm")
        along_path = np.arange(len(path))
        bulge = np.exp(-(((along_path - wide.uniform(0.6, 2.4)) / 0.8) ** 2))
        radii = radii * (1 + wide.uniform(0.7, 1.7) * bulge)
        lumen = lumen * (1 + wide.uniform(0.2, 0.7) * bulge)
    scene.paint(
        hu["aorta"] if lumen is radii else 35.0,
        tube(path, radii),
        label=label,
        texture=Texture(4, 12),
        bumps=bumps,
        offset=d.offset,
    )
    if lumen is not radii:  # blood within the thrombus
        scene.paint(
            hu["aorta"],
            tube(path, lumen),
            label=KEEP_LABEL,
            inside=label,
            texture=Texture(4, 12),
            bumps=bumps,
            offset=d.offset,
        )
    if "calcified_aorta" in hard:
        chalk = frame.dice("calcified_aorta")
        for _ in range(int(chalk.integers(8, 40))):
            along = chalk.uniform(0, min(5.0, len(path) - 1.01))
            node, part = int(along), along % 1.0
            middle = path[node] * (1 - part) + path[node + 1] * part
            angle = chalk.uniform(0, 2 * np.pi)
            out = radii[node] * np.array([np.cos(angle), np.sin(angle), 0])
            scene.paint(
                chalk.uniform(250, 1100),
                ellipsoid(
                    middle + 0.93 * out,
                    chalk.uniform((1, 1.5, 2), (2.5, 6, 9)),
                    (0, 0, np.degrees(angle)),
                ),
                label=KEEP_LABEL,
                inside=label,
            )
    if d.rng.random() < 0.45:  # calcified plaques
        for _ in range(int(d.rng.integers(2, 9))):
            node = int(d.rng.integers(0, len(path) - 2))
            angle = d.rng.uniform(0, 2 * np.pi)
            spot = path[node] + radii[node] * np.array([np.cos(angle), np.sin(angle), 0])
            scene.paint(
                d.rng.uniform(350, 800),
                ellipsoid(spot, d.rng.uniform(1.2, 4, 3)),
                label=KEEP_LABEL,
                inside=label,
            )
