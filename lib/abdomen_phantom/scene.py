"""A list of shapes, painted one over the other, each an implicit function in mm.

A shape is a few primitives joined by union, difference and intersection; its value is
close to the signed distance to its surface, mm, negative inside. Space is the patient's
before the common displacement: x to the right, y to the front, z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline
from scipy.spatial.transform import Rotation

ELLIPSOID, TUBE, TRUNK, PLANE, GATHERED = 0, 1, 2, 3, 4
UNION, SUBTRACT, INTERSECT, GATHER = 0, 1, 2, 3
PRIMITIVE_NUMBERS = 18
SHAPE_NUMBERS = 22
KEEP_LABEL = -1
NO_LEVEL = 1e9
NOISE_PEAK = 2.5
"""The noise tile has unit variance and is cut at this value."""

Floats = npt.NDArray[np.float64]
Vector = Sequence[float] | Floats
Packed = tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int64], Floats, Floats]


@dataclass(frozen=True)
class Primitive:
    """One implicit function and how it joins those before it (``k``: rounding, mm)."""

    kind: int
    op: int
    numbers: Floats
    points: Floats
    low: Floats
    high: Floats


_EVERYWHERE = np.full(3, 1e6)
_NO_POINTS = np.zeros((0, 4))


def _numbers(values: Vector, k: float) -> Floats:
    out = np.zeros(PRIMITIVE_NUMBERS)
    out[: len(values)] = values
    out[-1] = k
    return out


def ellipsoid(
    center: Vector, radii: Vector, turn: Vector = (0, 0, 0), op: int = UNION, k: float = 0.0
) -> Primitive:
    """Return an ellipsoid; ``turn`` are degrees about x, y and z, in that order."""
    matrix = Rotation.from_euler("xyz", np.asarray(turn, dtype=float), degrees=True).as_matrix()
    c, r = np.asarray(center, dtype=float), np.asarray(radii, dtype=float)
    reach = np.sqrt(((matrix * r) ** 2).sum(axis=1))
    numbers = _numbers([*c, *r, *matrix.T.ravel()], k)
    return Primitive(ELLIPSOID, op, numbers, _NO_POINTS, c - reach, c + reach)


def tube(
    points: Sequence[Vector] | Floats,
    radii: Vector,
    flatten: Vector = (1, 1, 1),
    op: int = UNION,
    k: float = 0.0,
    step: float = 6.0,
) -> Primitive:
    """Return a tube along a smooth curve through ``points`` with a radius at each of them.

    ``flatten`` stretches the cross-section along x, y, z.
    """
    nodes = np.column_stack([np.asarray(points, dtype=float), np.asarray(radii, dtype=float)])
    nodes = nodes[[True, *np.diff(nodes[:, :3], axis=0).any(axis=1)]]  # no place twice in a row
    gaps = np.linalg.norm(np.diff(nodes[:, :3], axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(np.sqrt(gaps))])
    n = max(len(nodes), int(np.ceil(gaps.sum() / step)) + 1)
    curve = make_interp_spline(along, nodes, k=min(3, len(nodes) - 1))(np.linspace(0, along[-1], n))
    curve[:, 3] = np.clip(curve[:, 3], nodes[:, 3].min() * 0.8, nodes[:, 3].max() * 1.15)
    stretch = np.asarray(flatten, dtype=float)
    reach = curve[:, 3:] * stretch
    low, high = (curve[:, :3] - reach).min(axis=0), (curve[:, :3] + reach).max(axis=0)
    curve[:, :3] /= stretch
    return Primitive(TUBE, op, _numbers([*stretch, stretch.min()], k), curve, low, high)


def trunk(
    half_width: float,
    front: float,
    back: float,
    power: float,
    narrow: float,
    op: int = UNION,
    cap: float = 0.0,
) -> Primitive:
    """Return a trunk-like cylinder about the z axis, narrower towards the head.

    ``narrow`` is the relative loss of width at z = 100 mm; above ``cap`` mm, where it is
    not 0, the width stays as it is.
    """
    numbers = _numbers([half_width, front, back, power, narrow, cap], 0.0)
    return Primitive(TRUNK, op, numbers, _NO_POINTS, -_EVERYWHERE, _EVERYWHERE)


def plane(point: Vector, outward: Vector, op: int = INTERSECT, k: float = 0.0) -> Primitive:
    """Return the half space behind ``point`` as seen along ``outward``."""
    normal = np.asarray(outward, dtype=float)
    normal = normal / np.linalg.norm(normal)
    numbers = _numbers([*normal, float(normal @ np.asarray(point, dtype=float))], k)
    return Primitive(PLANE, op, numbers, _NO_POINTS, -_EVERYWHERE, _EVERYWHERE)


def gathered(op: int, k: float = 0.0) -> Primitive:
    """Return the union of the primitives before it whose ``op`` is ``GATHER``."""
    return Primitive(GATHERED, op, _numbers([], k), _NO_POINTS, -_EVERYWHERE, _EVERYWHERE)


def beside(place: Floats, x: float, y: float, z: float) -> Floats:
    """Return a place that lies ``x``, ``y``, ``z`` mm from another."""
    return np.asarray(place + np.array([x, y, z]))


Noise = tuple[float, float]
"""Amplitude (SD), mm of a surface or HU of a density, and size of a bump or grain, mm."""
FLAT: Noise = 0.0, 20.0


class Core(NamedTuple):
    """Content of a shape behind its wall.

    ``wall``: thickness, mm. ``hu``, ``texture``: of the contents. ``level``: y above which
    there is air, mm, in the undeformed patient: the level that a fluid takes.
    """

    wall: float
    hu: float
    texture: Noise = (0.0, 10.0)
    level: float = NO_LEVEL


SOLID = Core(0.0, 0.0)


@dataclass
class Scene:
    """Shapes in painting order, packed for :mod:`abdomen_phantom.raster`.

    With ``prone`` gas lies at the back: a level is as far from there as it is given from
    the front of its shape.
    """

    prone: bool = False
    shapes: list[tuple[list[int], list[float]]] = field(default_factory=list)
    primitives: list[Primitive] = field(default_factory=list)

    def paint(
        self,
        hu: float,
        *primitives: Primitive,
        label: int = 0,
        bumps: Noise = FLAT,
        fine: Noise = FLAT,
        texture: Noise = (0.0, 10.0),
        inside: int = -1,
        core: Core = SOLID,
        offset: Vector = (0, 0, 0),
    ) -> None:
        """Paint a shape over everything before it.

        Parameters
        ----------
        hu
            Mean density, HU.
        label
            Organ id, 0 for none, :data:`KEEP_LABEL` to leave the label as it is.
        bumps, fine
            Coarse and fine noise of the surface.
        texture
            Noise of the density.
        inside
            Paint only where the label has this value; -1 for everywhere.
        core
            Contents, where the shape is hollow.
        offset
            Where in the noise tile this shape takes its noise from, tile nodes. Shapes
            with the same offset have the same bumps.
        """
        body = [p for p in primitives if p.op == UNION]
        low = np.min([p.low for p in body], axis=0)
        high = np.max([p.high for p in body], axis=0)
        for p in primitives:
            if p.op == INTERSECT:
                low, high = np.maximum(low, p.low), np.minimum(high, p.high)
        level, up = core.level, 1.0
        if self.prone and level != NO_LEVEL:
            level, up = float(low[1] + high[1] - level), -1.0
        style = [*low, *high, hu, *texture, *bumps, *fine, *core[:2], *core.texture, level]
        ints = [len(self.primitives), len(primitives), label, inside]
        self.shapes.append((ints, [*style, *offset, up]))
        self.primitives += primitives

    def packed(self) -> Packed:
        """Return arrays: shapes (ints, floats), primitives (ints, floats), tube points."""
        lengths = [len(p.points) for p in self.primitives]
        first = np.cumsum([0, *lengths])
        ints = [
            (p.kind, p.op, at, n) for p, at, n in zip(self.primitives, first, lengths, strict=False)
        ]
        return (
            np.array([ints for ints, _ in self.shapes], np.int64).reshape(-1, 4),
            np.array([floats for _, floats in self.shapes], float).reshape(-1, SHAPE_NUMBERS),
            np.array(ints, np.int64).reshape(-1, 4),
            np.array([p.numbers for p in self.primitives]).reshape(-1, PRIMITIVE_NUMBERS),
            np.concatenate([*(p.points for p in self.primitives), _NO_POINTS]),
        )


def truth_shapes(packed: Packed) -> Packed:
    """Keep of a packed scene the shapes that can change a label."""
    ints, floats, primitive_ints, primitive_floats, points = packed
    label, inside = ints[:, 2], ints[:, 3]
    organ_before = np.cumsum(label > 0) > 0
    kept = (label > 0) | ((label == 0) & (inside != 0) & organ_before)
    return ints[kept], floats[kept], primitive_ints, primitive_floats, points
