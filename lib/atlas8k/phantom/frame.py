"""The patient's proportions and position: what every organ is placed by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atlas8k.phantom.people import MEAN_BODY, Body, Placement, draw_body
from atlas8k.phantom.scene import INTERSECT, UNION, Bumps, Primitive, trunk
from atlas8k.phantom.setting import Dice, Setting

Floats = npt.NDArray[np.float64]

CAVITY_POWER = 2.35


@dataclass(frozen=True)
class Frame:
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
    body
        How this body differs from the mean anatomy.
    cap
        Height above which the trunk grows no narrower, mm; 0 for none.
    """

    half_width: float
    front: float
    back: float
    scale: Floats
    narrow: float
    fat_side: float
    fat_front: float
    fat_back: float
    place_mm: float
    size_spread: float
    surface: float
    dice: Dice
    body: Body = MEAN_BODY
    cap: float = 0.0

    def at(self, x: float, y: float, z: float) -> Floats:
        """A place of the mean anatomy in this patient."""
        return np.array([x, y, z]) * self.scale

    def line(self, *places: tuple[float, float, float]) -> Floats:
        """Places ``(n, 3)`` of the mean anatomy in this patient."""
        return np.array(places, dtype=float) * self.scale

    def cavity(self, inset: float, op: int = INTERSECT) -> Primitive:
        """The abdominal cavity, ``inset`` mm smaller on every side."""
        return trunk(
            self.half_width - inset,
            self.front - inset,
            self.back - inset,
            CAVITY_POWER,
            self.narrow,
            op,
            self.cap,
        )

    def wall(
        self, side: float, front: float, back: float, power: float = 2.3, op: int = UNION
    ) -> Primitive:
        """The trunk, wider than the cavity by these amounts."""
        return trunk(
            self.half_width + side,
            self.front + front,
            self.back + back,
            power,
            self.narrow * 0.8,
            op,
            self.cap,
        )

    def bumps(self, amplitude: float, size: float) -> Bumps:
        """Surface noise of this setting."""
        return Bumps(amplitude * self.surface, size)


@dataclass(frozen=True)
class Draw:
    """Random variation of one component, in the words the anatomy needs."""

    rng: np.random.Generator
    frame: Frame
    shift: Floats
    size: float
    offset: Floats
    placement: Placement

    @classmethod
    def of(cls, frame: Frame, component: str, shift: float = 1.0, size: float = 1.0) -> Draw:
        """Variation of a component; ``shift`` and ``size`` scale the setting's spread."""
        rng = frame.dice(component)
        return cls(
            rng,
            frame,
            np.clip(rng.standard_normal(3), -2, 2) * frame.place_mm * shift,
            float(1 + np.clip(rng.standard_normal(), -2.2, 2.2) * frame.size_spread * size),
            rng.uniform(0, 64, 3),
            frame.body.placement(component),
        )

    def at(self, x: float, y: float, z: float, jitter: float = 0.0) -> Floats:
        """A place, moved with the component, and by ``jitter`` mm (SD) on its own."""
        extra = self.rng.standard_normal(3).clip(-2, 2) * jitter
        place = self.placement.of(np.array([x, y, z]), self.frame.scale)
        return np.asarray(place + self.shift + extra)

    def line(self, *places: tuple[float, float, float], jitter: float = 0.0) -> Floats:
        """Places ``(n, 3)``, moved with the component and each by ``jitter`` mm (SD)."""
        return np.array([self.at(*place, jitter=jitter) for place in places])

    def radii(self, *values: float, jitter: float = 0.06) -> Floats:
        """Lengths times the component's size, each with its own relative spread."""
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
        return float(np.prod(self.frame.scale) ** 0.2)

    def turn(self, *degrees: float, jitter: float = 4.0) -> Floats:
        """Angles, each with its own spread, degrees."""
        return np.asarray(np.array(degrees) + self.rng.standard_normal(3).clip(-2, 2) * jitter)


def draw_frame(dice: Dice, setting: Setting, hard_cases: frozenset[str] = frozenset()) -> Frame:
    """Proportions of a patient."""
    if setting.people:
        return _drawn_from_people(dice, setting, hard_cases)
    rng = dice("frame")
    size = rng.uniform(*setting.body_scale)
    scale = size * (1 + rng.standard_normal(3).clip(-2, 2) * 0.025)
    fat = rng.uniform(*setting.fat_mm)
    return Frame(
        half_width=127 * float(scale[0]),
        front=(76 + 0.25 * fat) * float(scale[1]),
        back=86 * float(scale[1]),
        scale=scale,
        narrow=rng.uniform(0.08, 0.16),
        fat_side=fat,
        fat_front=fat * rng.uniform(0.5, 1.0),
        fat_back=fat * rng.uniform(0.4, 0.7),
        place_mm=setting.place_mm,
        size_spread=setting.size_spread,
        surface=rng.uniform(*setting.surface),
        dice=dice,
    )


def _drawn_from_people(dice: Dice, setting: Setting, hard_cases: frozenset[str]) -> Frame:
    body = draw_body(dice, hard_cases)
    rng = dice("frame")
    fat = float(np.clip(body.fat_mm, *setting.fat_mm))
    return Frame(
        half_width=127 * float(body.scale[0]) + 0.15 * fat,
        front=(72 + 0.45 * fat) * float(body.scale[1]),
        back=97 * float(body.scale[1]),
        scale=body.scale,
        narrow=rng.uniform(0.06, 0.14),
        fat_side=fat,
        fat_front=fat * rng.uniform(0.5, 1.1),
        fat_back=fat * rng.uniform(0.4, 0.8),
        place_mm=setting.place_mm,
        size_spread=setting.size_spread,
        surface=rng.uniform(*setting.surface),
        dice=dice,
        body=body,
        cap=95.0 * float(body.scale[2]),
    )
