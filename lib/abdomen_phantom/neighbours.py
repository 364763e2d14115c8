"""Draw what lies between the organs and looks like them: bowel, vessels, glands."""

from __future__ import annotations

import numpy as np

from abdomen_phantom.patient import Floats, Part, Patient
from abdomen_phantom.scene import KEEP_LABEL, NO_LEVEL, Core, Primitive, beside, ellipsoid, tube


def _hollow(
    d: Part,
    wall_hu: float,
    places: Floats,
    radii: Floats,
    contents: tuple[float, float],
    level: float,
    *limits: Primitive,
) -> None:
    """Paint a loop of bowel: wall, contents (mean, grain), air above ``level``."""
    d.patient.paint(
        wall_hu,
        tube(places, radii),
        *limits,
        texture=(10, 7),
        bumps=d.patient.bumps(1.8, 14),
        core=Core(d.rng.uniform(2, 3.5), contents[0], (contents[1], 6), level),
        offset=d.rng.uniform(0, 64, 3),
    )


def paint_small_bowel(p: Patient) -> None:
    """Paint loops below and in front, some with contrast or air."""
    d = p.part("small_bowel")
    rng = d.rng
    positive = rng.random() < 0.2 or "oral_contrast" in p.hard
    for _ in range(int(rng.integers(26, 36))):
        nodes = [np.array([rng.uniform(-85, 78), rng.uniform(-5, 60), rng.uniform(-155, -50)])]
        heading = rng.standard_normal(3) * (1.4, 0.6, 0.8)
        for _ in range(int(rng.integers(4, 7))):
            heading = 0.55 * heading + rng.standard_normal(3) * (1.0, 0.6, 0.8)
            step = nodes[-1] + 26 * heading / np.linalg.norm(heading)
            step = np.clip(step, (-92, -12, -200), (84, 64, -46))
            nodes.append(step + rng.standard_normal(3))
        places = np.array(nodes) * p.scale
        radii = rng.uniform(9, 14) * (1 + 0.1 * rng.standard_normal(len(nodes)).clip(-2, 2))
        contents = rng.uniform(5, 60)
        if positive and rng.random() < 0.7:
            contents = rng.uniform(120, 350)
        level = NO_LEVEL
        if rng.random() < 0.2:
            level = float(places[:, 1].max() + rng.uniform(-6, 6))
        wall_hu = p.hu["bowel_wall"] * rng.uniform(0.85, 1.1)
        _hollow(d, wall_hu, places, radii, (contents, rng.uniform(4, 14)), level, p.cavity(4.0))


def paint_colon(p: Patient) -> None:
    """Paint ascending, transverse and descending colon with stool and gas."""
    d = p.part("colon", shift=1.5)
    rng = d.rng
    sag = rng.uniform(-25, 15)
    across = (
        (84, 4, -62),
        (66, 44, -62 + sag / 2),
        (20, 60, -72 + sag),
        (-30, 60, -62 + sag),
        (-74, 44, -28),
        (-97, 14, -10),
    )
    down = (
        (-97, 14, -10),
        (-102, -24, -34),
        (-102, -40, -90),
        (-98, -36, -150),
        (-94, -22, -215),
    )
    up = ((88, -28, -215), (92, -26, -150), (92, -20, -95), (84, 4, -62))
    for nodes, radius in ((up, 25), (across, 20), (down, 16)):
        places = d.line(*nodes, jitter=5)
        # Haustra.
        n = 4 * len(nodes)
        along, at = np.linspace(0, len(nodes) - 1, n), np.arange(len(nodes))
        fine = np.column_stack([np.interp(along, at, places[:, c]) for c in range(3)])
        radii = radius * rng.uniform(0.75, 1.15) * (1 + 0.13 * rng.standard_normal(n).clip(-2, 2))
        level = float(np.median(places[:, 1]) + rng.uniform(-10, 14))
        contents = rng.uniform(10, 70), rng.uniform(15, 140)
        level = level if rng.random() < 0.8 else NO_LEVEL
        _hollow(d, p.hu["bowel_wall"] * 0.9, fine, radii, contents, level, p.cavity(4.0))


def paint_duodenum(p: Patient) -> None:
    """Paint a C around the head of the pancreas, then across the spine to the left."""
    d = p.part("duodenum")
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
    _hollow(d, p.hu["bowel_wall"], places, radii, contents, level)


def paint_oesophagus(p: Patient) -> None:
    """Paint it in front of the aorta, to the left, into the stomach."""
    d = p.part("oesophagus", shift=0.5)
    path = d.line((-12, -18, 215), (-12, -16, 130), (-16, -6, 96), (-28, -6, 74), (-44, -10, 62))
    oesophagus = tube(path, d.radii(8, 8, 8, 8, 9))
    d.paint(p.hu["stomach_wall"] * 0.9, oesophagus, bumps=p.bumps(1, 14), texture=(10, 8))


def paint_adrenals(p: Patient) -> None:
    """Paint thin limbs above the kidneys."""
    d = p.part("adrenals")
    for side, z in ((-1, 42), (1, 40)):
        top = d.at(side * 34 + 2, -34, z)
        for lean in (-1, 1):
            path = [beside(top, 0, 6, 4), top, beside(top, side * 6 + lean * 6, -16, -14)]
            limb = tube(path, [2.2, 3.0, 1.8], (1, 1, 1.6))
            d.paint(p.hu["adrenal"], limb, inside=0, bumps=p.bumps(0.6, 10))


def paint_branches(p: Patient) -> None:
    """Paint portal and mesenteric veins, coeliac and mesenteric arteries, renal vessels."""
    d = p.part("branches", shift=0.6)
    for radius, places in (
        (6.5, [(18, 8, -14), (20, 6, -2), (18, 4, 8), (30, 2, 16)]),
        (5.5, [(14, 22, -120), (12, 16, -70), (14, 10, -36), (17, 8, -14)]),
        (4.0, [(18, 6, -12), (-4, 6, -6), (-30, -1, 4), (-54, -12, 14), (-76, -20, 24)]),
    ):
        vein = tube(d.line(*places, jitter=1.5), [radius] * len(places))
        d.paint(p.hu["portal_vein"], vein, bumps=p.bumps(0.5, 12))
    renal_vein = p.hu["postcava"] * 1.1
    for value, radius, kidney, places in (
        (renal_vein, 5.0, "right", [(22, -20, -18), (36, -28, -20), (52, -40, -18)]),
        (
            renal_vein,
            4.5,
            "left",
            [(20, -18, -12), (-8, -6, -12), (-30, -18, -10), (-50, -40, -6)],
        ),
        (p.hu["artery"], 3.6, "", [(-12, -20, 14), (-10, -4, 16), (-6, 4, 12)]),
        (p.hu["artery"], 2.8, "", [(-10, -4, 16), (-36, -2, 14), (-72, -14, 24)]),
        (p.hu["artery"], 2.6, "", [(-10, -2, 16), (14, 6, 12), (28, 8, 12)]),
        (p.hu["artery"], 3.8, "", [(-12, -20, -2), (-10, -4, -10), (-4, 8, -40), (0, 18, -110)]),
        (p.hu["artery"], 3.0, "left", [(-12, -22, -12), (-34, -34, -10), (-50, -42, -8)]),
        (p.hu["artery"], 3.0, "right", [(-12, -22, -14), (22, -34, -18), (50, -42, -18)]),
    ):
        path = d.line(*places, jitter=1)
        if kidney:  # bend its end to where the kidney lies
            to = np.array(p.placement(f"kidney_{kidney}").move) - p.placement("branches").move
            path = path + np.linspace(0, 1, len(path))[:, None] ** 1.5 * to
        p.paint(value, tube(path, [radius] * len(places)))
    # Mesenteric twigs between the loops of bowel.
    for _ in range(16):
        start = p.at(*d.rng.uniform((0, 6, -80), (14, 18, -40)))
        end = p.at(*d.rng.uniform((-80, 10, -180), (75, 55, -60)))
        twig = tube([start, (start + end) / 2 + (0, 6, 0), end], [2.2, 1.7, 1.2])
        p.paint(p.hu["portal_vein"], twig, inside=0)


def paint_nodes(p: Patient) -> None:
    """Paint lymph nodes beside the great vessels, seen in fat only."""
    d = p.part("nodes")
    for _ in range(10):
        center = p.at(*d.rng.uniform((-40, -26, -120), (44, 4, 10)))
        node = ellipsoid(center, d.rng.uniform(2, 5, 3))
        p.paint(p.hu["muscle"] + 15, node, label=KEEP_LABEL, inside=0)
