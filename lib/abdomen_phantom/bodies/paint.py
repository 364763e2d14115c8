"""Paint a synthetic CT on a real person's label map, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, hypot
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from abdomen_phantom import artefacts
from abdomen_phantom.bodies.draw import (
    BODIES,
    draw_look,
    draw_range,
    draw_scan,
    draw_spheres,
)
from abdomen_phantom.bodies.kernel import label_slice, paint_slice
from abdomen_phantom.bodies.label_maps import SPACING_MM, Body
from abdomen_phantom.bodies.shape import Shape, draw_shape, mix
from abdomen_phantom.bodies.tissues import Tissue
from abdomen_phantom.contrast import draw_phase
from abdomen_phantom.raster import TILE
from abdomen_phantom.scanner import (
    COMMON_ORIENTATIONS,
    HIGH_HU,
    LOW_HU,
    Painter,
    Scan,
    add_noise,
    centres,
    check_spacing,
    enhance_edges,
)
from abdomen_phantom.setting import Dice, Phantom
from atlas8k.core.structure_sets import DEFAULT_SET, StructureSet, built_in
from atlas8k.core.volume import Grid

Array = npt.NDArray[Any]

SAMPLE_MM = 1.8
"""Places within a voxel are no further apart than this."""
BENT_MM = 14.0
"""How far inside the end of a cut map a scan ends."""
WITHOUT_ORGANS = 0.2
"""A body without any of the nine organs comes so often as against one with some."""


def paint_body(
    bodies: Sequence[Body],
    seed: int,
    *,
    grid_spacing_mm: float | None = None,
    phase: str | None = None,
    finest_mm: float = 0.0,
    structures: StructureSet | None = None,
    whole: bool = False,
) -> Phantom:
    """Paint the CT of a seed; the same seed and bodies give the same voxels.

    Parameters
    ----------
    bodies
        One of them is bent, resized and painted, with organs of the others here and there.
    seed
        From 0 up.
    grid_spacing_mm
        ``None``: a CT as a scanner writes it, of any spacing and orientation. A number: the
        same patient and scan straight on a RAS grid of that spacing, blurred and noisy as the
        CT would be after linear resampling; in well under a second, for training.
    phase
        One of :data:`~abdomen_phantom.contrast.PHASES`; drawn as the paper has them where
        ``None``.
    finest_mm
        Voxels within a slice are no smaller than this, so that a set of CTs takes less time.
    structures
        What the label has; the nine organs where ``None``. :meth:`Body.known` says which of them
        the map tells.
    whole
        The scan is as long and as wide as the map, and not a range and field of view drawn.

    Raises
    ------
    ValueError
        No body, or a spacing that is not positive.
    """
    if not bodies:
        raise ValueError("there is no body to paint")
    check_spacing(grid_spacing_mm)
    dice = Dice(seed, BODIES)
    drawn_phase = draw_phase(dice, BODIES)
    phase = phase or drawn_phase
    shares = np.array([1.0 if body.holds else WITHOUT_ORGANS for body in bodies])
    body = bodies[int(dice("body").choice(len(bodies), p=shares / shares.sum()))]
    body = mix(dice("mix"), body, bodies)
    labels = body.labels(structures or built_in(DEFAULT_SET))
    painter = BodyPainter(body, labels, dice, phase, finest_mm, whole)
    return painter.phantom(grid_spacing_mm, seed, BODIES, phase, (body.name,))


class BodyPainter(Painter):
    """A body under its scanner; places are mm in the CT, 0 in the middle of the body."""

    def __init__(
        self, body: Body, ids: Array, dice: Dice, phase: str, finest_mm: float, whole: bool
    ) -> None:
        self.body, self.ids, self.dice, self.finest_mm = body, ids, dice, finest_mm
        self.whole = whole
        inside = body.hull < 0
        sides = [np.flatnonzero(inside.any(axis=axes)) * SPACING_MM for axes in ((1, 2), (0, 2))]
        (left, right), (back, front) = ((s[0], s[-1]) for s in sides)
        low_z, high_z = draw_range(dice, body)
        if whole:
            low_z, high_z = 0.0, (body.tissue.shape[2] - 1) * SPACING_MM
        centre = np.array([(left + right) / 2, (back + front) / 2, (low_z + high_z) / 2])
        radius = (front - back) / 2
        kidney = np.flatnonzero((body.tissue == Tissue.KIDNEY_LEFT).any(axis=(0, 1)))
        cava_from = float(kidney.mean() * SPACING_MM) if len(kidney) else -1e3
        self.look, self.lut = draw_look(dice, phase, float(centre[1]), radius, cava_from)
        self.spheres = draw_spheres(dice, body, phase != "pre")
        half = np.array([right - left, front - back, high_z - low_z]) / 2
        reach = half * 1.5 + 80
        self.shape: Shape = draw_shape(dice("shape"), body, centre, -reach, reach)
        self.half = half / np.diag(self.shape.matrix)
        self.scan = self._scan()
        rng = dice("noise tile")
        self.shift = rng.uniform(0, TILE, (8, 3))
        rng = dice("range of values")
        self.offset = float(rng.normal(0, 3))
        self.lowest = LOW_HU if rng.random() < 0.8 else -2048
        self.highest = HIGH_HU if rng.random() < 0.9 else 1023
        paddings = [None, -1024.0, -2000.0, -3024.0]
        self.padding = paddings[int(rng.choice(4, p=[0.6, 0.15, 0.1, 0.15]))]
        if self.padding is not None:
            self.lowest = min(self.lowest, int(self.padding))

    def _scan(self) -> Scan:
        """Draw the scanner, and a box around the patient, or through them."""
        rng = self.dice("field of view")
        look, half = self.look, self.half
        skin, visceral = look["skin"], look["visceral"]
        side = half[0] + look["fat_side"] + look["wall_side"] + skin + 0.4 * visceral
        front = half[1] + look["fat_front"] + look["wall_front"] + skin + visceral
        back = half[1] + look["fat_back"] + look["wall_back"] + skin
        self.trunk = (float(side), float(back), float(front))
        margin = rng.uniform(2, 35)
        low = np.array([-side - margin, -back - margin - 12, -half[2]])
        high = np.array([side + margin, front + margin, half[2]])
        kind, width = rng.random(), rng.uniform(165, 300)
        middle = rng.uniform(-1, 1, 2) * (45, 40) - (0, 15)
        if self.whole:
            pass
        elif kind < 0.12:  # a narrow field of view
            low[:2], high[:2] = middle - width / 2, middle + width / 2
        elif kind < 0.2:  # a side is cut off
            cut = int(rng.integers(4))
            loss = rng.uniform(25, 80)
            if cut % 2:
                high[cut // 2] -= loss
            else:
                low[cut // 2] += loss
        # What a map does not show is not scanned; a margin, since the body is bent.
        scale = np.diag(self.shape.matrix)[:2, None]
        known = (self.body.seen - self.shape.centre[:2, None]) / scale
        low[:2] = np.maximum(low[:2], known[:, 0] + BENT_MM)
        high[:2] = np.minimum(high[:2], known[:, 1] - BENT_MM)
        orientation = str(rng.choice(COMMON_ORIENTATIONS))
        return draw_scan(self.dice, low, high, orientation, self.finest_mm)

    def paint(self, grid: Grid) -> tuple[Array, Array]:
        return self.densities(grid), self.labels(grid)

    def densities(self, grid: Grid) -> Array:
        xs, ys, zs = centres(grid)
        offsets = _offsets(self.scan, grid.spacing[0])
        hu = np.empty((zs.size, xs.size, ys.size), np.float32)
        body = self.body.tissue, self.body.depth, self.body.hull, SPACING_MM
        drawn = self.look, self.lut, _tile(), self.shift, self.spheres
        for k, z in enumerate(zs):
            paint_slice(*body, *self.shape.arguments, xs, ys, z, offsets, *drawn, hu[k])
        self._around(hu, xs, ys, zs)
        return hu

    def labels(self, grid: Grid) -> Array:
        xs, ys, zs = centres(grid)
        out = np.empty((zs.size, xs.size, ys.size), np.uint8)
        for k, z in enumerate(zs):
            shape = self.shape.arguments
            label_slice(self.ids, SPACING_MM, *shape, xs, ys, z, out[k])
        return out

    def spoil(self, hu: Array, grid: Grid, share: float = 1.0, share_z: float = 1.0) -> None:
        rng = self.dice("artefacts")
        xs, ys, zs = centres(grid)
        enhance_edges(hu, self.scan, grid.spacing[0])
        chance = rng.random(4)
        if chance[0] < 0.06:
            artefacts.add_metal(hu, rng, xs, ys, zs)
        if chance[1] < 0.12:
            artefacts.add_streaks(hu, rng)
        if chance[2] < 0.5:
            artefacts.add_shade(hu, rng, xs, ys)
        add_noise(hu, self.dice, self.scan, grid.spacing[0], share, share_z)

    def _around(self, hu: Array, xs: Array, ys: Array, zs: Array) -> None:
        rng = self.dice("around")
        side, back, front = self.trunk
        if rng.random() < 0.12:
            artefacts.add_arms(hu, rng, xs, ys, zs, side)
        if rng.random() < 0.7:
            up = float(self.look["up"])
            artefacts.add_table(hu, rng, xs, ys, -back if up > 0 else front, up)

    def finish(self, hu: Array, label: Array, grid: Grid) -> None:
        """Add the offset of the scale; nothing is left outside the circle of the scan."""
        hu += self.offset
        if self.padding is not None:
            xs, ys, _ = centres(grid)
            outside = artefacts.outside_circle(self.dice("circle"), xs, ys)
            hu[:, outside] = self.padding
            label[:, outside] = 0


def _offsets(scan: Scan, spacing: float) -> Array:
    """Return places in a voxel, ``(n, 3)`` mm: over the scanner's resolution, not the grid's."""
    thickness = scan.thickness_mm
    wide = 0.5 * min(spacing, hypot(scan.in_plane_mm, 2.0 * scan.kernel_mm))
    plane = [-0.6 * wide, 0.6 * wide] if wide > 0.45 else [0.0]
    n = max(1, ceil(thickness / SAMPLE_MM))
    along = (np.arange(n) + 0.5) / n * thickness - thickness / 2
    return np.array([(x, y, z) for z in along for x in plane for y in plane])


@lru_cache(maxsize=1)
def _tile() -> Array:
    """Return the periodic noise of all textures: unit SD, smooth over about two nodes."""
    noise = np.random.default_rng(20_231).standard_normal((TILE,) * 3)
    noise = ndimage.gaussian_filter(noise, 1.0, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float64)
