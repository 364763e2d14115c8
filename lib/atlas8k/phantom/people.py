"""How people spread: one body, drawn as widely as organs of real people lie and differ.

The mean anatomy is moved, stretched and turned organ by organ. What belongs together moves
together: a large body has a large liver, a large spleen pushes the stomach to the front and
the left kidney down, both kidneys are low in the same patients. Means and spreads are set so
that volumes, extents and places come out as the percentiles of 50 public label maps have
them (30 of them portal-venous CTs of patients labeled by hand); ``tests/phantom`` compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from atlas8k.phantom.setting import Dice

Floats = npt.NDArray[np.float64]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Placement:
    """How one component differs from the mean anatomy.

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

    move: Triple = (0.0, 0.0, 0.0)
    stretch: Triple = (1.0, 1.0, 1.0)
    turn: Triple = (0.0, 0.0, 0.0)
    girth: float = 1.0
    pivot: Triple = (0.0, 0.0, 0.0)

    def of(self, place: Floats, scale: Floats) -> Floats:
        """A place of the mean anatomy in a body of this scale, mm."""
        if self.stretch != (1.0, 1.0, 1.0) or self.turn != (0.0, 0.0, 0.0):
            matrix = Rotation.from_euler("xyz", self.turn, degrees=True).as_matrix()
            pivot = np.array(self.pivot)
            place = pivot + matrix @ (np.array(self.stretch) * (place - pivot))
        return np.asarray(place * scale + np.array(self.move))


MEAN = Placement()


@dataclass(frozen=True)
class Body:
    """One person.

    Attributes
    ----------
    scale
        Factors of x, y and z on the mean anatomy.
    fat_mm
        Subcutaneous fat at the flank.
    placements
        By component; the mean anatomy where there is none.
    """

    scale: Floats = field(default_factory=lambda: np.ones(3))
    fat_mm: float = 18.0
    placements: Mapping[str, Placement] = field(default_factory=lambda: MappingProxyType({}))

    def placement(self, component: str) -> Placement:
        return self.placements.get(component, MEAN)


MEAN_BODY = Body()


def _scaled(values: Floats, spread: Triple | Floats) -> Floats:
    """Factors around 1 whose logarithms have these standard deviations."""
    return np.asarray(np.exp(np.asarray(spread) * values))


def _triple(values: Floats) -> Triple:
    return float(values[0]), float(values[1]), float(values[2])


def draw_body(dice: Dice, hard_cases: frozenset[str] = frozenset()) -> Body:
    """Draw a person; every latent below has unit variance, cut at 2.2."""

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
        _triple(liver_move),
        _triple(liver * (0.92 if "cirrhotic_liver" in hard_cases else 1.0)),
        pivot=(40, 0, 30),
    )
    z = normal("spleen", 9)
    spleen_size = max(-1.2, 0.35 * size + 0.93 * z[0])
    spleen_size += 2.0 * ("large_spleen" in hard_cases) + 0.8 * ("cirrhotic_liver" in hard_cases)
    big = 0.115 * spleen_size + 0.09 * max(0.0, spleen_size - 1.2)
    spleen = np.array([1.15, 0.95, 0.66]) * np.exp(big + np.array([0.03, 0.22, 0.1]) * z[1:4])
    push = max(0.0, big)  # what a large spleen takes from its neighbours
    placements["spleen"] = Placement(
        _triple(
            np.array([0, -8, 6])
            + np.array([21, 16, 24]) * np.clip(z[4:7], (-0.3, -2.2, -1.8), (2.2, 2.2, 1.2))
            + push * np.array([30, 25, -60])
        ),
        _triple(spleen),
        turn=_triple(np.array([0, 15, 0]) + np.array([14, 6, 10]) * normal("spleen_turn")),
        pivot=(-90, -44, 30),
    )

    up = 0.4 * float(liver_move[2]) + 0.3 * placements["spleen"].move[2] + 4.0 * liver_own
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
            turn=_triple(np.array([13, 7, 14]) * normal("kidney_" + side)),
            pivot=pivot,
        )

    z = normal("pancreas", 9)
    bed = np.array([-2.0, 6.0, -14.0]) + np.array([10, 6, 12]) * z[:3] + (0, 0, -5 * low)
    placements["pancreas"] = Placement(
        _triple(bed),
        _triple(np.array([0.90, 1.45, 0.88]) * _scaled(z[3:6], (0.11, 0.12, 0.12))),
        turn=(0.0, float(8 * z[6]), float(8 * z[7])),
        girth=float(np.exp(0.055 * z[8] - 0.03)),
        pivot=(-15, 5, 0),
    )
    placements["duodenum"] = Placement(_triple(bed), pivot=(30, 5, -40))
    placements["branches"] = Placement(_triple(0.7 * bed))
    placements["adrenals"] = Placement((0.0, 6.0, -14.0))

    z = normal("stomach", 9)
    fill = float(np.exp(0.33 * z[0] + 0.01))
    placements["stomach"] = Placement(
        _triple(
            np.array([0.0, 0.0, 2.0])
            + np.array([18, 18, 6]) * z[1:4]
            + push * np.array([60.0, 50.0, -15.0])
        ),
        _triple(
            np.array([0.94, 1.42, 0.86])
            * np.exp(0.25 * np.log(fill) + np.array([0.26, 0.35, 0.42]) * z[4:7])
        ),
        turn=(0.0, float(8 * z[7]), float(10 * z[8])),
        girth=fill,
        pivot=(-40, 20, 20),
    )

    z = normal("gall_bladder", 10)
    placements["gall_bladder"] = Placement(
        _triple(np.array([10.0, 0.0, 4.0]) + np.array([12, 12, 14]) * z[:3] + 0.6 * liver_move),
        _triple(np.full(3, np.exp(0.20 * z[3])) * _scaled(z[4:7], (0.1, 0.1, 0.1))),
        turn=_triple(np.array([18, 20, 18]) * z[7:10]),
        girth=float(np.exp(0.30 * z[3] - 0.32)),
        pivot=(48, 30, -18),
    )

    z = normal("vessels", 8)
    placements["aorta"] = Placement(
        (float(4 + 3 * z[0]), float(8 + 4 * z[1]), 0.0), girth=float(np.exp(0.15 * z[2] + 0.02))
    )
    placements["postcava"] = Placement(
        (float(3 * z[3]), float(8 + 3 * z[4]), -8.0),
        (1.0, 0.85, 0.97),
        girth=float(np.exp(0.14 * z[5] - 0.1)),
        pivot=(22, -18, -50),
    )
    return Body(scale, fat, MappingProxyType(placements))
