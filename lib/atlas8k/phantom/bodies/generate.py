"""A synthetic CT painted on a real person's label map, from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, hypot
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.phantom.bodies import artefacts
from atlas8k.phantom.bodies.draw import (
    BODIES,
    draw_look,
    draw_range,
    draw_scan,
    draw_spheres,
    scan_record,
)
from atlas8k.phantom.bodies.kernel import label_slice, paint_slice
from atlas8k.phantom.bodies.reading import SPACING_MM, Body
from atlas8k.phantom.bodies.shape import Shape, draw_shape, mix
from atlas8k.phantom.bodies.tissues import ORGAN_OF, Tissue
from atlas8k.phantom.contrast import draw_phase
from atlas8k.phantom.generate import Phantom
from atlas8k.phantom.implicit import TILE
from atlas8k.phantom.scanner import (
    COMMON_ORIENTATIONS,
    HIGH_HU,
    LOW_HU,
    Scan,
    add_noise,
    enhance_edges,
    interpolated_noise,
    orient,
    ras_grid,
)
from atlas8k.phantom.setting import Dice, PhantomCase
from atlas8k.volume import Grid, Volume

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
        One of :data:`~atlas8k.phantom.contrast.PHASES`; drawn as the paper has them where
        ``None``.
    finest_mm
        Voxels within a slice are no smaller than this, so that a set of CTs takes less time.

    Raises
    ------
    ValueError
        No body, or a spacing that is not positive.
    """
    if not bodies:
        raise ValueError("there is no body to paint")
    if grid_spacing_mm is not None and not grid_spacing_mm > 0:
        raise ValueError(f"the grid spacing must be a positive length in mm, not {grid_spacing_mm}")
    dice = Dice(seed, BODIES)
    drawn_phase = draw_phase(dice, BODIES)
    phase = phase or drawn_phase
    shares = np.array([1.0 if body.holds else WITHOUT_ORGANS for body in bodies])
    body = bodies[int(dice("body").choice(len(bodies), p=shares / shares.sum()))]
    body = mix(dice("mix"), body, bodies)
    painter = _Painter(body, dice, phase, finest_mm)
    scan = painter.scan
    if grid_spacing_mm is None:
        grid = ras_grid(scan, (scan.in_plane_mm, scan.in_plane_mm, scan.thickness_mm))
        hu = painter.densities(grid, scan.thickness_mm)
        painter.scanned(hu, grid, 1.0, 1.0)
        label = painter.labels(grid)
        orientation = scan.orientation
    else:
        grid = ras_grid(scan, (grid_spacing_mm,) * 3)
        hu = painter.coarse(grid)
        label = painter.labels(grid)
        orientation = "RAS"
    painter.finish(hu, label, grid)
    ct = np.clip(np.rint(hu), painter.lowest, painter.highest).astype(np.int16).transpose(1, 2, 0)
    ct, oriented = orient(ct, grid, orientation)
    truth, _ = orient(label.transpose(1, 2, 0), grid, orientation)
    case = PhantomCase(
        seed=seed,
        setting=BODIES.name,
        version=BODIES.version,
        phase=phase,
        spacing_mm=oriented.spacing,
        orientation=orientation,
        noise_hu=round(scan.noise_hu, 2),
        hard_cases=(body.name,),
    )
    return Phantom(Volume(ct, oriented), Volume(truth, oriented), case)


class _Painter:
    """One patient under one scanner; places are mm in the CT, 0 in the middle of the body."""

    def __init__(self, body: Body, dice: Dice, phase: str, finest_mm: float) -> None:
        self.body, self.dice, self.finest_mm = body, dice, finest_mm
        inside = body.hull < 0
        sides = [np.flatnonzero(inside.any(axis=axes)) * SPACING_MM for axes in ((1, 2), (0, 2))]
        (left, right), (back, front) = ((s[0], s[-1]) for s in sides)
        low_z, high_z = draw_range(dice, body)
        centre = np.array([(left + right) / 2, (back + front) / 2, (low_z + high_z) / 2])
        radius = (front - back) / 2
        self.look, self.lut = draw_look(dice, phase, radius)
        self.look.middle = float(centre[1])
        cava = np.flatnonzero((body.tissue == Tissue.KIDNEY_LEFT).any(axis=(0, 1)))
        self.look.cava_from = float(cava.mean() * SPACING_MM) if len(cava) else -1e3
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
        self.padding = [None, -1024.0, -2000.0, -3024.0][
            int(rng.choice(4, p=[0.6, 0.15, 0.1, 0.15]))
        ]
        if self.padding is not None:
            self.lowest = min(self.lowest, int(self.padding))

    def _scan(self) -> Scan:
        """The scanner, and a box around the patient, or through them."""
        rng = self.dice("field of view")
        look, half = self.look, self.half
        side = half[0] + look.fat_side + look.wall_side + look.skin + 0.4 * look.visceral
        front = half[1] + look.fat_front + look.wall_front + look.skin + look.visceral
        back = half[1] + look.fat_back + look.wall_back + look.skin
        self.trunk = (float(side), float(back), float(front))
        margin = rng.uniform(2, 35)
        low = np.array([-side - margin, -back - margin - 12, -half[2]])
        high = np.array([side + margin, front + margin, half[2]])
        kind, width = rng.random(), rng.uniform(165, 300)
        middle = rng.uniform(-1, 1, 2) * (45, 40) - (0, 15)
        if kind < 0.12:  # a narrow field of view
            low[:2], high[:2] = middle - width / 2, middle + width / 2
        elif kind < 0.2:  # a side is cut off
            cut = int(rng.integers(4))
            loss = rng.uniform(25, 80)
            if cut % 2:
                high[cut // 2] -= loss
            else:
                low[cut // 2] += loss
        codes = COMMON_ORIENTATIONS
        # What a map does not show is not scanned; a margin, since the body is bent.
        known = (self.body.seen - self.shape.centre[:2, None]) / np.diag(self.shape.matrix)[
            :2, None
        ]
        low[:2] = np.maximum(low[:2], known[:, 0] + BENT_MM)
        high[:2] = np.minimum(high[:2], known[:, 1] - BENT_MM)
        in_plane, *others = draw_scan(self.dice)
        orientation = str(rng.choice(codes))
        return scan_record(
            max(in_plane, self.finest_mm), *others, low=low, high=high, orientation=orientation
        )

    def densities(self, grid: Grid, thickness: float) -> Array:
        """``(Z, X, Y)`` float32 HU without noise, averaged over the slice thickness."""
        xs, ys, zs = (_centres(grid, axis) for axis in range(3))
        offsets = _offsets(self.scan, grid.spacing[0], thickness)
        hu = np.empty((zs.size, xs.size, ys.size), np.float32)
        p, tile = self.look.as_array(), _tile()
        for k, z in enumerate(zs):
            paint_slice(
                self.body.tissue,
                self.body.depth,
                self.body.hull,
                SPACING_MM,
                *self.shape.arguments,
                xs,
                ys,
                z,
                offsets,
                p,
                self.lut,
                tile,
                self.shift,
                self.spheres,
                hu[k],
            )
        self._around(hu, xs, ys, zs)
        return hu

    def labels(self, grid: Grid) -> Array:
        """``(Z, X, Y)`` uint8 organ ids at the voxel centres."""
        xs, ys, zs = (_centres(grid, axis) for axis in range(3))
        out = np.empty((zs.size, xs.size, ys.size), np.uint8)
        for k, z in enumerate(zs):
            label_slice(
                self.body.tissue, SPACING_MM, *self.shape.arguments, xs, ys, z, ORGAN_OF, out[k]
            )
        return out

    def coarse(self, grid: Grid) -> Array:
        """What linear resampling of the full CT to `grid` gives: ``(Z, X, Y)`` HU."""
        scan, spacing = self.scan, grid.spacing[0]
        native = ras_grid(scan, (scan.in_plane_mm, scan.in_plane_mm, scan.thickness_mm))
        share, share_z = interpolated_noise(scan, native, grid)
        if scan.thickness_mm <= spacing:
            hu = self.densities(grid, scan.thickness_mm)
            self.scanned(hu, grid, share, share_z)
            return hu
        thick = ras_grid(scan, (spacing, spacing, scan.thickness_mm))
        slices = self.densities(thick, scan.thickness_mm)
        self.scanned(slices, thick, share, 1.0)
        at = grid.affine[2, 3] + spacing * np.arange(grid.shape[2]) - thick.affine[2, 3]
        at = np.clip(at / scan.thickness_mm, 0, thick.shape[2] - 1)
        below = np.minimum(at.astype(int), thick.shape[2] - 2)
        part = (at - below).astype(np.float32)[:, None, None]
        mixed: Array = slices[below] * (1 - part) + slices[below + 1] * part
        return mixed

    def scanned(self, hu: Array, grid: Grid, share: float, share_z: float) -> None:
        """Kernel, noise and the faults of a scanner, in place."""
        rng = self.dice("artefacts")
        xs, ys, zs = (_centres(grid, axis) for axis in range(3))
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
            up = self.look.up
            artefacts.add_table(hu, rng, xs, ys, -back if up > 0 else front, up)

    def finish(self, hu: Array, label: Array, grid: Grid) -> None:
        """Offset of the scale, and nothing outside the circle of the scan, in place."""
        hu += self.offset
        if self.padding is not None:
            xs, ys = _centres(grid, 0), _centres(grid, 1)
            outside = artefacts.outside_circle(self.dice("circle"), xs, ys)
            hu[:, outside] = self.padding
            label[:, outside] = 0


def _centres(grid: Grid, axis: int) -> Array:
    return np.asarray(
        grid.affine[axis, 3] + grid.affine[axis, axis] * np.arange(grid.shape[axis]),
        dtype=np.float64,
    )


def _offsets(scan: Scan, spacing: float, thickness: float) -> Array:
    """Places in a voxel, ``(n, 3)`` mm: over the scanner's resolution, not the grid's."""
    wide = 0.5 * min(spacing, hypot(scan.in_plane_mm, 2.0 * scan.kernel_mm))
    plane = [-0.6 * wide, 0.6 * wide] if wide > 0.45 else [0.0]
    n = max(1, ceil(thickness / SAMPLE_MM))
    along = (np.arange(n) + 0.5) / n * thickness - thickness / 2
    return np.array([(x, y, z) for z in along for x in plane for y in plane])


@lru_cache(maxsize=1)
def _tile() -> Array:
    """The periodic noise of all textures: unit SD, smooth over about two nodes."""
    noise = np.random.default_rng(20_231).standard_normal((TILE,) * 3)
    noise = ndimage.gaussian_filter(noise, 1.0, mode="wrap")
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float64)
