"""Bend and resize a body, and exchange its parts, before it is painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from abdomen_phantom.bodies.label_maps import SPACING_MM, Body
from abdomen_phantom.bodies.tissues import Tissue

Array = npt.NDArray[Any]

NODE_MM = 20.0
"""Distance of the nodes of a displacement field."""

RESIZED = (
    Tissue.LIVER,
    Tissue.SPLEEN,
    Tissue.STOMACH,
    Tissue.PANCREAS,
    Tissue.GALL_BLADDER,
    Tissue.KIDNEY_LEFT,
    Tissue.KIDNEY_RIGHT,
)
MOVED_MM = {
    Tissue.KIDNEY_LEFT: 18.0,
    Tissue.KIDNEY_RIGHT: 18.0,
    Tissue.STOMACH: 10.0,
    Tissue.SPLEEN: 10.0,
    Tissue.GALL_BLADDER: 9.0,
    Tissue.PANCREAS: 8.0,
    Tissue.LIVER: 8.0,
}
"""SD of an organ's own displacement: kidneys of people spread by 20 to 28 mm along the body."""

EXCHANGED = (
    Tissue.GALL_BLADDER,
    Tissue.KIDNEY_LEFT,
    Tissue.KIDNEY_RIGHT,
    Tissue.SPLEEN,
    Tissue.STOMACH,
)
"""Organs that may come from another body."""

FILLED = (Tissue.NONE, Tissue.SMALL_BOWEL, Tissue.COLON, Tissue.DUODENUM)
"""Tissues that give way to an organ from elsewhere."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A place of the CT to a place in a body, mm: ``matrix @ (place + displacement) + centre``.

    Attributes
    ----------
    matrix, centre
        ``(3, 3)`` and ``(3,)``. The place 0, 0, 0 of the CT is `centre` in the body.
    field
        ``(X, Y, Z, 3)`` displacement, mm, at nodes :data:`NODE_MM` apart from `origin` on.
    """

    matrix: Array
    centre: Array
    field: Array
    origin: Array

    @property
    def arguments(self) -> tuple[Array, Array, Array, Array, float]:
        """As the compiled painter takes them."""
        return self.matrix, self.centre, self.field, self.origin, NODE_MM


def draw_shape(
    rng: np.random.Generator, body: Body, centre: Array, low: Array, high: Array
) -> Shape:
    """Draw size, pose and bends of a body.

    Parameters
    ----------
    centre
        ``(3,)`` mm in the body: what stays in the middle.
    low, high
        ``(3,)`` mm in the CT: what the field has to cover.
    """
    common = np.exp(rng.uniform(-0.14, 0.14))
    scale = common * np.exp(rng.uniform(-0.10, 0.10, 3))
    angles = np.deg2rad(np.clip(rng.normal(0, 1, 3), -2.2, 2.2) * (4.0, 3.0, 5.0))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    matrix = matrix / scale[:, None]  # CT to body: a large body is shrunk
    shape = np.ceil((high - low) / NODE_MM).astype(int) + 2
    field = np.zeros((*shape, 3))
    for sigma, amplitude in ((4.0, 9.0), (2.0, 5.0), (1.1, 2.0)):
        strength = amplitude * rng.uniform(0.3, 1.0)
        noise = ndimage.gaussian_filter(
            rng.standard_normal((*shape, 3)), (sigma, sigma, sigma, 0), mode="nearest"
        )
        field += strength * noise / max(float(noise.std()), 1e-6)
    nodes = [first + NODE_MM * np.arange(n) for first, n in zip(low, shape, strict=True)]
    x, y, z = np.meshgrid(*nodes, indexing="ij")
    inverse = np.linalg.inv(matrix)
    for kind in RESIZED:
        sphere = body.middles.get(kind)
        if sphere is None or rng.random() < 0.25:
            continue
        place, size = sphere
        at = inverse @ (place - centre)
        away = np.stack([x - at[0], y - at[1], z - at[2]], axis=-1)
        reach = max(30.0, 0.75 * size)
        near = np.exp(-0.5 * (away**2).sum(-1) / reach**2)[..., None]
        grown = float(np.exp(np.clip(rng.normal(0, 0.17), -0.35, 0.35)))
        moved = np.clip(rng.normal(0, 1, 3), -2, 2) * MOVED_MM[kind] * np.array([0.5, 0.5, 1.0])
        moved = np.clip(moved, -0.8 * reach, 0.8 * reach)
        field += near * ((1 / grown - 1) * away - moved)
    return Shape(matrix, centre, np.ascontiguousarray(field), np.asarray(low, dtype=float))


def mix(rng: np.random.Generator, body: Body, others: Sequence[Body]) -> Body:
    """Take organs out, and put those of other bodies into their place.

    Every organ has its own chance; left stays left. An organ from elsewhere takes the room
    of the one it replaces, and of bowel and unlabeled tissue, and of nothing else.
    """
    tissue, depth = body.tissue, body.depth
    changed = False
    for kind in EXCHANGED:
        here = body.middles.get(kind)
        removed = rng.random() < (0.12 if kind == Tissue.GALL_BLADDER else 0.03)
        chance = 0.9 if kind == Tissue.GALL_BLADDER and here is None else 0.25
        givers = [o for o in others if o is not body and kind in o.middles]
        replaced = rng.random() < chance and bool(givers) and not removed
        other = givers[int(rng.integers(len(givers)))] if givers else None
        size = np.exp(rng.uniform(-0.15, 0.15, 3))
        shift = rng.normal(0, 4, 3)
        if not (replaced or (removed and here is not None)):
            continue
        if not changed:
            tissue, depth, changed = tissue.copy(), depth.copy(), True
        target = None if here is None else here[0]
        if replaced and other is not None and target is None:
            target = _beside_liver(body, other, kind)
        if here is not None:
            removed_voxels = tissue == kind
            tissue[removed_voxels] = Tissue.NONE
            depth[removed_voxels] = 60
        if replaced and other is not None and target is not None:
            _put(tissue, depth, other, kind, target + shift, size)
    return replace(body, tissue=tissue, depth=depth) if changed else body


def _beside_liver(body: Body, other: Body, kind: Tissue) -> Array | None:
    """Return where an organ that this body lacks would be, by the liver of both."""
    own_liver, other_liver = body.middles.get(Tissue.LIVER), other.middles.get(Tissue.LIVER)
    if own_liver is None or other_liver is None:
        return None
    return np.asarray(
        own_liver[0] + (other.middles[kind][0] - other_liver[0]) * own_liver[1] / other_liver[1]
    )


def _put(
    tissue: Array, depth: Array, other: Body, kind: Tissue, target: Array, size: Array
) -> None:
    """Put an organ of another body in, resized, with its centre at `target` mm."""
    box = ndimage.find_objects((other.tissue == kind).view(np.uint8))[0]
    shape = np.ceil(np.array([s.stop - s.start for s in box]) * size).astype(int) + 1
    at = [
        np.minimum((np.arange(n) / f).round().astype(int), s.stop - s.start - 1)
        for n, f, s in zip(shape, size, box, strict=True)
    ]
    organ = (other.tissue[box] == kind)[np.ix_(*at)]
    deep = other.depth[box][np.ix_(*at)]
    corner = (other.middles[kind][0] / SPACING_MM - [s.start for s in box]) * size
    start = np.rint(target / SPACING_MM - corner).astype(int)
    low = np.maximum(start, 0)
    high = np.minimum(start + shape, tissue.shape)
    if (high <= low).any():
        return
    into = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    free = organ[part] & np.isin(tissue[into], FILLED)
    tissue[into][free] = kind
    depth[into][free] = deep[part][free]
