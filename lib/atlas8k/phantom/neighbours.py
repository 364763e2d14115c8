"""What lies between the organs and looks like them: bowel, vessels, glands."""

from __future__ import annotations

import numpy as np

from atlas8k.phantom.frame import Draw, Floats, Frame
from atlas8k.phantom.scene import (
    KEEP_LABEL,
    NO_LEVEL,
    Core,
    Primitive,
    Scene,
    Texture,
    beside,
    ellipsoid,
    tube,
)
from atlas8k.phantom.trunk import Densities, domes


def _hollow(
    scene: Scene,
    frame: Frame,
    draw: Draw,
    places: Floats,
    radii: Floats,
    wall_hu: float,
    contents: tuple[float, float],
    level: float,
    limits: tuple[Primitive, ...],
) -> None:
    """A loop of bowel: wall, contents (mean, grain), air above ``level``."""
    scene.paint(
        wall_hu,
        tube(places, radii),
        *limits,
        texture=Texture(10, 7),
        bumps=frame.bumps(1.8, 14),
        core=Core(draw.rng.uniform(2, 3.5), contents[0], Texture(contents[1], 6), level),
        offset=draw.rng.uniform(0, 64, 3),
    )


def paint_small_bowel(
    scene: Scene, frame: Frame, hu: Densities, hard: frozenset[str] = frozenset()
) -> None:
    """Loops below and in front, some with contrast or air."""
    d = Draw.of(frame, "small_bowel")
    rng = d.rng
    positive = rng.random() < 0.2 or "oral_contrast" in hard
    limits = (frame.cavity(4.0),)
    for _ in range(int(rng.integers(26, 36))):
        start = np.array([rng.uniform(-85, 78), rng.uniform(-5, 60), rng.uniform(-155, -50)])
        heading = rng.standard_normal(3) * (1.4, 0.6, 0.8)
        nodes = [start]
        for _ in range(int(rng.integers(4, 7))):
            heading = 0.55 * heading + rng.standard_normal(3) * (1.0, 0.6, 0.8)
            step = nodes[-1] + 26 * heading / np.linalg.norm(heading)
            step = np.clip(step, (-92, -12, -200), (84, 64, -46))
            nodes.append(step + rng.standard_normal(3))
        places = np.array(nodes) * frame.scale
        radii = rng.uniform(9, 14) * (1 + 0.1 * rng.standard_normal(len(nodes)).clip(-2, 2))
        contents = rng.uniform(5, 60)
        if positive and rng.random() < 0.7:
            contents = rng.uniform(120, 350)
        level = NO_LEVEL
        if rng.random() < 0.2:
            level = float(places[:, 1].max() + rng.uniform(-6, 6))
        _hollow(
            scene,
            frame,
            d,
            places,
            radii,
            hu["bowel_wall"] * rng.uniform(0.85, 1.1),
            (contents, rng.uniform(4, 14)),
            level,
            limits,
        )


def paint_colon(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Ascending, transverse and descending colon with stool and gas."""
    d = Draw.of(frame, "colon", shift=1.5)
    rng = d.rng
    sag = rng.uniform(-25, 15)
    parts = (
        ([(88, -28, -215), (92, -26, -150), (92, -20, -95), (84, 4, -62)], 25),
        (
            [
                (84, 4, -62),
                (66, 44, -62 + sag / 2),
                (20, 60, -72 + sag),
                (-30, 60, -62 + sag),
                (-74, 44, -28),
                (-97, 14, -10),
            ],
            20,
        ),
        (
            [
                (-97, 14, -10),
                (-102, -24, -34),
                (-102, -40, -90),
                (-98, -36, -150),
                (-94, -22, -215),
            ],
            16,
        ),
    )
    limits = (frame.cavity(4.0), *domes(frame, 4.0))
    for nodes, radius in parts:
        places = d.line(*nodes, jitter=5)
        # Haustra.
        n = 4 * len(nodes)
        along = np.linspace(0, len(nodes) - 1, n)
        fine = np.column_stack(
            [np.interp(along, np.arange(len(nodes)), places[:, c]) for c in range(3)]
        )
        radii = radius * rng.uniform(0.75, 1.15) * (1 + 0.13 * rng.standard_normal(n).clip(-2, 2))
        level = float(np.median(places[:, 1]) + rng.uniform(-10, 14))
        limit = limits if nodes[-1][2] > -5 else limits[:1]
        _hollow(
            scene,
            frame,
            d,
            fine,
            radii,
            hu["bowel_wall"] * 0.9,
            (rng.uniform(10, 70), rng.uniform(15, 140)),
            level if rng.random() < 0.8 else NO_LEVEL,
            limit,
        )


def paint_duodenum(scene: Scene, frame: Frame, hu: Densities) -> None:
    """A C around the head of the pancreas, then across the spine to the left."""
    d = Draw.of(frame, "duodenum")
    places = d.line(
        (30, 26, -10),
        (46, 16, -12),
        (54, 2, -30),
        (52, -4, -56),
        (36, -4, -72),
        (4, 0, -76),
        (-26, 0, -66),
        (-38, 14, -56),
        jitter=2.5,
    )
    contents = (d.rng.uniform(5, 60), d.rng.uniform(5, 20))
    level = float(places[1, 1] + d.rng.uniform(-4, 12)) if d.rng.random() < 0.3 else NO_LEVEL
    radii = d.radii(9, 12, 12, 12, 11, 10, 10, 10, jitter=0.1)
    _hollow(scene, frame, d, places, radii, hu["bowel_wall"], contents, level, ())


def paint_oesophagus(scene: Scene, frame: Frame, hu: Densities) -> None:
    """In front of the aorta, to the left, into the stomach."""
    d = Draw.of(frame, "oesophagus", shift=0.5)
    scene.paint(
        hu["stomach_wall"] * 0.9,
        tube(
            d.line((-12, -18, 215), (-12, -16, 130), (-16, -6, 96), (-28, -6, 74), (-44, -10, 62)),
            d.radii(8, 8, 8, 8, 9),
        ),
        bumps=frame.bumps(1, 14),
        texture=Texture(10, 8),
        offset=d.offset,
    )


def paint_adrenals(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Thin limbs above the kidneys."""
    d = Draw.of(frame, "adrenals")
    for side, z in ((-1, 42), (1, 40)):
        top = d.at(side * 34 + 2, -34, z)
        for lean in (-1, 1):
            scene.paint(
                hu["adrenal"],
                tube(
                    [beside(top, 0, 6, 4), top, beside(top, side * 6 + lean * 6, -16, -14)],
                    [2.2, 3.0, 1.8],
                    (1, 1, 1.6),
                ),
                inside=0,
                bumps=frame.bumps(0.6, 10),
                offset=d.offset,
            )


def paint_branches(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Portal, splenic and mesenteric veins, coeliac and mesenteric arteries, renal vessels."""
    d = Draw.of(frame, "branches", shift=0.6)
    veins = (
        ([(18, 8, -14), (20, 6, -2), (18, 4, 8), (30, 2, 16)], 6.5),
        ([(14, 22, -120), (12, 16, -70), (14, 10, -36), (17, 8, -14)], 5.5),
        ([(18, 6, -12), (-4, 6, -6), (-30, -1, 4), (-54, -12, 14), (-76, -20, 24)], 4.0),
    )
    for places, radius in veins:
        scene.paint(
            hu["portal_vein"],
            tube(d.line(*places, jitter=1.5), [radius] * len(places)),
            bumps=frame.bumps(0.5, 12),
            offset=d.offset,
        )
    renal = (
        ([(22, -20, -18), (36, -28, -20), (52, -40, -18)], 5.0),
        ([(20, -18, -12), (-8, -6, -12), (-30, -18, -10), (-50, -40, -6)], 4.5),
    )
    for places, radius in renal:
        path = _to_hilum(frame, d.line(*places, jitter=1))
        scene.paint(hu["postcava"] * 1.1, tube(path, [radius] * len(places)))
    arteries = (
        ([(-12, -20, 14), (-10, -4, 16), (-6, 4, 12)], 3.6),
        ([(-10, -4, 16), (-36, -2, 14), (-72, -14, 24)], 2.8),
        ([(-10, -2, 16), (14, 6, 12), (28, 8, 12)], 2.6),
        ([(-12, -20, -2), (-10, -4, -10), (-4, 8, -40), (0, 18, -110)], 3.8),
        ([(-12, -22, -12), (-34, -34, -10), (-50, -42, -8)], 3.0),
        ([(-12, -22, -14), (22, -34, -18), (50, -42, -18)], 3.0),
    )
    for places, radius in arteries:
        path = d.line(*places, jitter=1)
        if places[-1][1] == -42:  # a renal artery
            path = _to_hilum(frame, path)
        scene.paint(hu["artery"], tube(path, [radius] * len(places)))
    # Mesenteric twigs between the loops of bowel.
    for _ in range(16):
        start = frame.at(*d.rng.uniform((0, 6, -80), (14, 18, -40)))
        end = frame.at(*d.rng.uniform((-80, 10, -180), (75, 55, -60)))
        scene.paint(
            hu["portal_vein"],
            tube([start, (start + end) / 2 + (0, 6, 0), end], [2.2, 1.7, 1.2]),
            inside=0,
        )


def _to_hilum(frame: Frame, path: Floats) -> Floats:
    """Bend the end of a renal vessel to where its kidney lies."""
    kidney = "kidney_right" if path[-1, 0] > 0 else "kidney_left"
    away = np.array(frame.body.placement(kidney).move) - frame.body.placement("branches").move
    share = np.linspace(0, 1, len(path))[:, None] ** 1.5
    return np.asarray(path + share * away)


def paint_nodes(scene: Scene, frame: Frame, hu: Densities) -> None:
    """Lymph nodes beside the great vessels, seen in fat only."""
    d = Draw.of(frame, "nodes")
    for _ in range(10):
        center = frame.at(*d.rng.uniform((-40, -26, -120), (44, 4, 10)))
        scene.paint(
            hu["muscle"] + 15, ellipsoid(center, d.rng.uniform(2, 5, 3)), label=KEEP_LABEL, inside=0
        )
