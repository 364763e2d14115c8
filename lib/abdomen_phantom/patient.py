"""One patient: how people spread, and what every organ is placed by.

The mean anatomy is moved, stretched and turned organ by organ. What belongs together moves
together: a large body has a large liver, a large spleen pushes the stomach to the front and
the left kidney down, both kidneys are low in the same patients. Means and spreads are set so
that volumes, extents and places come out as the percentiles of 50 public label maps have
them (30 of them portal-venous CTs of patients labeled by hand); ``tests/abdomen_phantom`` compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from abdomen_phantom.contrast import draw_densities, draw_phase
from abdomen_phantom.scene import INTERSECT, UNION, Noise, Primitive, Scene, ellipsoid, trunk
from abdomen_phantom.setting import Dice, Setting
from atlas8k.core.structure_sets import NINE

Floats = npt.NDArray[np.float64]
Vector = tuple[float, float, float] | Floats
Place = tuple[float, float, float]

CAVITY_POWER = 2.35


@dataclass(frozen=True, eq=False)
class Placement:
    """Difference of one component from the mean anatomy.

    Attributes
    ----------
    move
        Of the component, mm.
    stretch
        Factors of x, y and z about ``pivot``.
    turn
        Degrees about x, y and z, in that order.
    girth
        Factor on the radii of tubes.
    pivot
        In the mean anatomy, mm.
    """

    move: Vector = (0.0, 0.0, 0.0)
    stretch: Vector = (1.0, 1.0, 1.0)
    turn: Vector = (0.0, 0.0, 0.0)
    girth: float = 1.0
    pivot: Place = (0.0, 0.0, 0.0)

    def of(self, place: Floats, scale: Floats) -> Floats:
        """Return a place of the mean anatomy in a body of this scale, mm."""
        if tuple(self.stretch) != (1.0, 1.0, 1.0) or np.any(self.turn):
            matrix = Rotation.from_euler("xyz", self.turn, degrees=True).as_matrix()
            pivot = np.array(self.pivot)
            place = pivot + matrix @ (np.array(self.stretch) * (place - pivot))
        return np.asarray(place * scale + np.array(self.move))


MEAN = Placement()


@dataclass(frozen=True, eq=False)
class Patient:
    """Proportions of one patient, mm; the origin is in front of the first lumbar vertebra.

    Attributes
    ----------
    half_width, front, back
        Of the abdominal cavity, within the muscle wall.
    scale
        Factors of x, y and z on the mean anatomy.
    narrow
        Relative loss of width at z = 100 mm.
    fat_side, fat_front, fat_back
        Subcutaneous fat.
    surface
        Factor on the surface noise.
    placements
        By component, how this body differs from the mean anatomy.
    cap
        Height above which the trunk grows no narrower, mm; 0 for none.
    phase, hard, hu
        Contrast phase, hard cases, and mean density of every tissue, HU.
    scene
        What was painted of it so far.
    """

    half_width: float
    front: float
    back: float
    scale: Floats
    narrow: float
    fat_side: float
    fat_front: float
    fat_back: float
    surface: float
    setting: Setting
    dice: Dice
    phase: str
    hard: frozenset[str]
    hu: Mapping[str, float]
    scene: Scene
    placements: Mapping[str, Placement] = field(default_factory=dict)
    cap: float = 0.0

    def at(self, x: float, y: float, z: float) -> Floats:
        """Return a place of the mean anatomy in this patient."""
        return np.array([x, y, z]) * self.scale

    def line(self, *places: Place) -> Floats:
        """Return places ``(n, 3)`` of the mean anatomy in this patient."""
        return np.array(places, dtype=float) * self.scale

    def cavity(self, inset: float, op: int = INTERSECT) -> Primitive:
        """Return the abdominal cavity, ``inset`` mm smaller on every side."""
        sides = self.half_width - inset, self.front - inset, self.back - inset
        return trunk(*sides, CAVITY_POWER, self.narrow, op, self.cap)

    def wall(
        self, side: float, front: float, back: float, power: float = 2.3, op: int = UNION
    ) -> Primitive:
        """Return the trunk, wider than the cavity by these amounts."""
        sides = self.half_width + side, self.front + front, self.back + back
        return trunk(*sides, power, self.narrow * 0.8, op, self.cap)

    def bumps(self, amplitude: float, size: float) -> Noise:
        """Return surface noise of this setting."""
        return amplitude * self.surface, size

    def placement(self, component: str) -> Placement:
        """Return how a component differs from the mean anatomy."""
        return self.placements.get(component, MEAN)

    def part(self, component: str, shift: float = 1.0, size: float = 1.0) -> Part:
        """Draw the variation of a component; ``shift`` and ``size`` scale the setting's spread."""
        rng, setting = self.dice(component), self.setting
        return Part(
            rng,
            self,
            np.clip(rng.standard_normal(3), -2, 2) * setting.place_mm * shift,
            float(1 + np.clip(rng.standard_normal(), -2.2, 2.2) * setting.size_spread * size),
            rng.uniform(0, 64, 3),
            self.placement(component),
        )

    def paint(
        self,
        hu: float,
        *primitives: Primitive,
        label: str | int = 0,
        inside: str | int = -1,
        **style: Any,
    ) -> None:
        """Paint a shape, see :meth:`Scene.paint`; organs are given by name or id."""
        number, limit = (1 + NINE.index(x) if isinstance(x, str) else x for x in (label, inside))
        self.scene.paint(hu, *primitives, label=number, inside=limit, **style)


@dataclass(frozen=True, eq=False)
class Part:
    """Random variation of one component, in the words the anatomy needs."""

    rng: np.random.Generator
    patient: Patient
    shift: Floats
    size: float
    offset: Floats
    placement: Placement

    def at(self, x: float, y: float, z: float, jitter: float = 0.0) -> Floats:
        """Return a place, moved with the component, and by ``jitter`` mm (SD) on its own."""
        extra = self.rng.standard_normal(3).clip(-2, 2) * jitter
        place = self.placement.of(np.array([x, y, z]), self.patient.scale)
        return np.asarray(place + self.shift + extra)

    def line(self, *places: Place, jitter: float = 0.0) -> Floats:
        """Return places ``(n, 3)``, moved with the component and each by ``jitter`` mm (SD)."""
        return np.array([self.at(*place, jitter=jitter) for place in places])

    def radii(self, *values: float, jitter: float = 0.06) -> Floats:
        """Return lengths times the component's size, each with its own relative spread."""
        factors = 1 + self.rng.standard_normal(len(values)).clip(-2, 2) * jitter
        return np.asarray(
            np.array(values) * factors * self.size * self.mean_scale * self.placement.girth
        )

    @property
    def stretch(self) -> Floats:
        """Factors of x, y and z on an ellipsoid of this component."""
        return np.array(self.placement.stretch)

    @property
    def mean_scale(self) -> float:
        """Size of this patient relative to the mean, as far as organs follow it."""
        return float(np.prod(self.patient.scale) ** 0.2)

    def turn(self, *degrees: float, jitter: float = 4.0) -> Floats:
        """Return angles, each with its own spread, degrees."""
        return np.asarray(np.array(degrees) + self.rng.standard_normal(3).clip(-2, 2) * jitter)

    def ellipsoid(
        self,
        place: Place,
        radii: Place,
        turn: Place = (0, 0, 0),
        op: int = UNION,
        k: float = 0.0,
        jitter: float = 0.0,
    ) -> Primitive:
        """Return an ellipsoid at a place, stretched as the component; its turn spreads too."""
        middle = self.at(*place, jitter)
        return ellipsoid(middle, self.radii(*radii) * self.stretch, self.turn(*turn), op, k)

    def paint(self, hu: float, *primitives: Primitive, aside: float = 0.0, **style: Any) -> None:
        """Paint a shape with this component's own noise, taken ``aside`` tile nodes from it."""
        self.patient.paint(hu, *primitives, offset=self.offset + aside, **style)


def draw_hard_cases(dice: Dice, setting: Setting) -> frozenset[str]:
    """Draw the hard cases that this phantom is; each has its own chance."""
    rng = dice("hard_case")
    chances = {name: rng.random() for name in sorted(setting.hard_cases)}
    return frozenset(name for name, chance in chances.items() if chance < setting.hard_cases[name])


def draw_patient(dice: Dice, setting: Setting) -> Patient:
    """Draw a patient: proportions, phase, densities, hard cases; nothing is painted yet."""
    phase, hard = draw_phase(dice, setting), draw_hard_cases(dice, setting)
    rng = dice("frame")
    placements: dict[str, Placement] = {}
    cap = 0.0
    if setting.people:
        scale, fat, placements = _draw_body(dice, hard)
        fat = float(np.clip(fat, *setting.fat_mm))
        half_width = 127 * float(scale[0]) + 0.15 * fat
        front, back = (72 + 0.45 * fat) * float(scale[1]), 97 * float(scale[1])
        narrow, fronts, backs = (0.06, 0.14), (0.5, 1.1), (0.4, 0.8)
        cap = 95.0 * float(scale[2])
    else:
        size = rng.uniform(*setting.body_scale)
        scale = size * (1 + rng.standard_normal(3).clip(-2, 2) * 0.025)
        fat = rng.uniform(*setting.fat_mm)
        half_width = 127 * float(scale[0])
        front, back = (76 + 0.25 * fat) * float(scale[1]), 86 * float(scale[1])
        narrow, fronts, backs = (0.08, 0.16), (0.5, 1.0), (0.4, 0.7)
    return Patient(
        half_width=half_width,
        front=front,
        back=back,
        scale=scale,
        narrow=rng.uniform(*narrow),
        fat_side=fat,
        fat_front=fat * rng.uniform(*fronts),
        fat_back=fat * rng.uniform(*backs),
        surface=rng.uniform(*setting.surface),
        setting=setting,
        dice=dice,
        phase=phase,
        hard=hard,
        hu=draw_densities(dice, setting, phase, hard),
        scene=Scene(prone="prone" in hard),
        placements=placements,
        cap=cap,
    )


def _scaled(values: Floats, spread: Vector) -> Floats:
    """Return factors around 1 whose logarithms have these standard deviations."""
    return np.asarray(np.exp(np.asarray(spread) * values))


def _draw_body(dice: Dice, hard: frozenset[str]) -> tuple[Floats, float, dict[str, Placement]]:
    """Draw a person; every latent below has unit variance, cut at 2.2.

    Returns
    -------
    tuple
        Factors of x, y and z on the mean anatomy, subcutaneous fat at the flank, mm, and
        placements by component.
    """

    def normal(component: str, n: int = 3) -> Floats:
        return np.asarray(dice("people_" + component).standard_normal(n).clip(-2.2, 2.2))

    size, obese, *own = normal("body", 6)
    wide = 0.45 * size + 0.5 * obese + 0.74 * own[0]
    deep = 0.30 * size + 0.65 * obese + 0.70 * own[1]
    tall = 0.60 * size + 0.80 * own[2]
    scale = np.array([1.15, 1.06, 1.0]) * _scaled(np.array([wide, deep, tall]), (0.09, 0.12, 0.06))
    fat = float(np.exp(np.log(17.0) + 0.6 * obese + 0.25 * own[3]))

    placements: dict[str, Placement] = {}
    z = normal("liver", 8)
    liver_own = z[7]
    liver_size = 0.55 * size + 0.25 * obese + 0.8 * z[0]
    liver = np.array([0.96, 1.10, 0.82]) * np.exp(
        0.035 * liver_size + np.array([0.05, 0.13, 0.10]) * z[1:4]
    )
    liver_move = np.array([9.0, 8.0, 9.0]) * z[4:7] + np.array([0, -6, -2])
    placements["right_dome"] = placements["liver"] = Placement(
        liver_move, liver * (0.92 if "cirrhotic_liver" in hard else 1.0), pivot=(40, 0, 30)
    )
    z = normal("spleen", 9)
    spleen_size = max(-1.2, 0.35 * size + 0.93 * z[0])
    spleen_size += 2.0 * ("large_spleen" in hard) + 0.8 * ("cirrhotic_liver" in hard)
    big = 0.115 * spleen_size + 0.09 * max(0.0, spleen_size - 1.2)
    push = max(0.0, big)  # what a large spleen takes from its neighbours
    spleen_move = (
        np.array([0, -8, 6])
        + np.array([21, 16, 24]) * np.clip(z[4:7], (-0.3, -2.2, -1.8), (2.2, 2.2, 1.2))
        + push * np.array([30, 25, -60])
    )
    placements["spleen"] = Placement(
        spleen_move,
        np.array([1.15, 0.95, 0.66]) * np.exp(big + np.array([0.03, 0.22, 0.1]) * z[1:4]),
        turn=np.array([0, 15, 0]) + np.array([14, 6, 10]) * normal("spleen_turn"),
        pivot=(-90, -44, 30),
    )

    up = 0.4 * float(liver_move[2]) + 0.3 * spleen_move[2] + 4.0 * liver_own
    placements["diaphragm"] = Placement((0.0, -4.0, up))

    z = normal("kidneys", 13)
    low, z = z[0], z[1:]
    kidney_size = 0.35 * size + 0.93 * z[0]
    for side, sign, at, pivot in (
        ("left", -1, 1, (-60.0, -50.0, -6.0)),
        ("right", 1, 6, (63.0, -50.0, -18.0)),
    ):
        volume = np.exp(0.085 * kidney_size - 0.055)
        long = np.exp(0.02 * z[at + 4] + 0.035)
        x, y = sign * (6 * z[at + 1] - 3), 9 + 5 * z[at + 2] + 7 * z[11]
        sink = -29 - 13 * low - 11 * z[at + 3]
        if side == "left":
            x, sink = 1.3 * x + 20 * push, sink - 60 * push - 13 * z[at]
        else:
            sink -= 5 + 6 * liver_size
        wide_of = float(volume * long**-0.5)
        placements[f"kidney_{side}"] = Placement(
            (float(x), float(y), float(sink)),
            (1.06 * wide_of, 0.97 * wide_of, float(volume * long)),
            turn=np.array([13, 7, 14]) * normal("kidney_" + side),
            pivot=pivot,
        )

    z = normal("pancreas", 9)
    bed = np.array([-2.0, 6.0, -14.0]) + np.array([10, 6, 12]) * z[:3] + (0, 0, -5 * low)
    placements["pancreas"] = Placement(
        bed,
        np.array([0.90, 1.45, 0.88]) * _scaled(z[3:6], (0.11, 0.12, 0.12)),
        turn=(0.0, 8 * z[6], 8 * z[7]),
        girth=float(np.exp(0.055 * z[8] - 0.03)),
        pivot=(-15, 5, 0),
    )
    placements["duodenum"] = Placement(bed, pivot=(30, 5, -40))
    placements["branches"] = Placement(0.7 * bed)
    placements["adrenals"] = Placement((0.0, 6.0, -14.0))

    z = normal("stomach", 9)
    fill = float(np.exp(0.33 * z[0] + 0.01))
    placements["stomach"] = Placement(
        np.array([0.0, 0.0, 2.0])
        + np.array([18, 18, 6]) * z[1:4]
        + push * np.array([60.0, 50.0, -15.0]),
        np.array([0.94, 1.42, 0.86])
        * np.exp(0.25 * np.log(fill) + np.array([0.26, 0.35, 0.42]) * z[4:7]),
        turn=(0.0, 8 * z[7], 10 * z[8]),
        girth=fill,
        pivot=(-40, 20, 20),
    )

    z = normal("gall_bladder", 10)
    placements["gall_bladder"] = Placement(
        np.array([10.0, 0.0, 4.0]) + np.array([12, 12, 14]) * z[:3] + 0.6 * liver_move,
        np.full(3, np.exp(0.20 * z[3])) * _scaled(z[4:7], (0.1, 0.1, 0.1)),
        turn=np.array([18, 20, 18]) * z[7:10],
        girth=float(np.exp(0.30 * z[3] - 0.32)),
        pivot=(48, 30, -18),
    )

    z = normal("vessels", 8)
    placements["aorta"] = Placement(
        (4 + 3 * z[0], 8 + 4 * z[1], 0.0), girth=float(np.exp(0.15 * z[2] + 0.02))
    )
    placements["postcava"] = Placement(
        (3 * z[3], 8 + 3 * z[4], -8.0),
        (1.0, 0.85, 0.97),
        girth=float(np.exp(0.14 * z[5] - 0.1)),
        pivot=(22, -18, -50),
    )
    return scale, fat, placements
