"""Compute density and label of a place in a body, compiled: voxel by voxel, nothing held.

A voxel is the mean over a few places within it, so that edges are soft as a scanner sees
them; its label is that of its centre.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from abdomen_phantom.bodies.tissues import Tissue
from abdomen_phantom.raster import compiled, displacement_at, noise_at

Array = npt.NDArray[Any]

AIR_HU = -1000.0
GAS_HU = -950.0

NONE = int(Tissue.NONE)
AORTA = int(Tissue.AORTA)
KIDNEY_LEFT, KIDNEY_RIGHT = int(Tissue.KIDNEY_LEFT), int(Tissue.KIDNEY_RIGHT)
LIVER, STOMACH, POSTCAVA = int(Tissue.LIVER), int(Tissue.STOMACH), int(Tissue.POSTCAVA)
SPLEEN, PANCREAS = int(Tissue.SPLEEN), int(Tissue.PANCREAS)
HEART, LUNG = int(Tissue.HEART), int(Tissue.LUNG)
BONE, SPINE, MUSCLE = int(Tissue.BONE), int(Tissue.SPINE), int(Tissue.MUSCLE)
SMALL_BOWEL, COLON, DUODENUM = int(Tissue.SMALL_BOWEL), int(Tissue.COLON), int(Tissue.DUODENUM)
ESOPHAGUS = int(Tissue.ESOPHAGUS)


@compiled
def _noise(tile: Array, shift: Array, c: int, size: float, x: float, y: float, z: float) -> float:
    """Compute smooth noise of unit SD, `size` mm from node to node; `c` chooses the noise."""
    s = 1.0 / size
    return float(noise_at(tile, x * s + shift[c, 0], y * s + shift[c, 1], z * s + shift[c, 2]))


@compiled
def _unlabeled(
    p: Any, lut: Array, tile: Array, shift: Array,
    hull: float, bone: float, x: float, y: float, z: float,
) -> Any:  # fmt: skip
    """Compute the density, HU, of a place that no structure covers."""
    w = (y - p.middle) / p.radius
    w = min(max(w, -1.0), 1.0)
    if w > 0:
        fat = p.fat_side + (p.fat_front - p.fat_side) * w
        wall = p.wall_side + (p.wall_front - p.wall_side) * w
        visceral = p.visceral * (0.4 + 0.6 * w)
    else:
        fat = p.fat_side + (p.fat_back - p.fat_side) * -w
        wall = p.wall_side + (p.wall_back - p.wall_side) * -w
        visceral = p.visceral * 0.4 * (1 + w)
    if hull > visceral + wall + fat + p.skin:
        return AIR_HU
    if hull > visceral + wall + fat:
        return p.skin_hu
    broad = _noise(tile, shift, 0, 14.0, x, y, z)
    if hull > visceral + wall + 1.5 * broad:
        # Septa in the fat.
        fine = _noise(tile, shift, 1, 5.0, x, y, z)
        return p.fat_hu + p.fat_texture * fine + (18.0 if abs(broad) < 0.04 else 0.0)
    if hull > visceral + 1.0 * broad or bone < p.near_bone + 3.0 * broad:
        fine = _noise(tile, shift, 2, 4.0, x, y, z)
        if fine > p.muscle_fat or abs(hull - visceral - 0.5 * wall + 2 * broad) < 0.6:
            return 0.5 * (lut[MUSCLE] + p.fat_hu)
        return lut[MUSCLE] + p.texture * fine
    if p.ascites > 0 and (hull > -p.ascites or broad > 1.2):
        return p.fluid_hu
    fine = _noise(tile, shift, 3, 6.0, x, y, z)
    other = _noise(tile, shift, 4, 7.0, x, y, z)
    if abs(fine) < 1.6 * p.mesentery and abs(other) < 1.6 * p.mesentery:
        return p.vessel_hu
    if abs(other) < 0.5 * p.mesentery:
        return lut[MUSCLE] - 15.0  # folds, small bowel that was not segmented, fascia
    return p.visceral_hu + 1.3 * p.fat_texture * fine + 4.0 * broad


@compiled
def _hollow(
    p: Any, tile: Array, shift: Array, t: int, depth: float, x: float, y: float, z: float
) -> Any:
    """Compute the density, HU, in stomach and bowel: wall, gas, fluid, contrast, food."""
    if t == STOMACH:
        if depth < p.stomach_wall:
            return p.stomach_wall_hu
        fine = _noise(tile, shift, 5, 4.0, x, y, z)
        if p.up * (y - p.middle) > p.stomach_level:
            return GAS_HU
        return p.stomach_hu + p.stomach_texture * fine
    if depth < p.bowel_wall:
        return p.bowel_wall_hu
    part = _noise(tile, shift, 6, p.segment, x, y, z)
    if t == COLON:
        rise = 0.012 * p.up * (y - p.middle)
        if part + rise > p.colon_gas:
            return GAS_HU
        fine = _noise(tile, shift, 7, 4.5, x, y, z)
        if fine > p.colon_bubbles:
            return -400.0
        if part < -p.bowel_contrast:
            return p.bowel_contrast_hu + p.colon_texture * fine
        return p.colon_hu + p.colon_texture * fine
    if t == ESOPHAGUS:
        return GAS_HU if part > 1.2 and depth > 4.0 else p.bowel_wall_hu
    if part > p.bowel_gas and depth > 3.0:
        return GAS_HU
    if part < -p.bowel_contrast:
        return p.bowel_contrast_hu
    fold = _noise(tile, shift, 7, 4.5, x, y, z)
    if part < p.bowel_fluid and fold < 0.9:
        return p.bowel_fluid_hu
    return p.bowel_wall_hu - 12.0 + 12.0 * fold


@compiled
def _solid(
    p: Any, lut: Array, tile: Array, shift: Array, spheres: Array,
    t: int, depth: float, x: float, y: float, z: float,
) -> Any:  # fmt: skip
    """Compute the density, HU, within a structure that is not hollow."""
    if t == LUNG:
        if p.up * (y - p.middle) < p.effusion:
            return p.fluid_hu
        fine = _noise(tile, shift, 5, 5.0, x, y, z)
        other = _noise(tile, shift, 4, 6.0, x, y, z)
        if abs(fine) < 0.2 and abs(other) < 0.2:
            return 20.0
        return lut[LUNG] + p.lung_texture * fine
    if t in (BONE, SPINE):
        if depth < p.cortex * (0.6 if t == SPINE else 1.0):
            return p.cortex_hu
        return lut[t] + p.bone_texture * _noise(tile, shift, 5, 3.5, x, y, z)
    fine = _noise(tile, shift, 5, p.grain, x, y, z)
    value = lut[t] + p.texture * fine
    if t in (KIDNEY_LEFT, KIDNEY_RIGHT):
        if depth > p.sinus:
            value = p.sinus_hu
        elif depth > p.kidney_cortex + 2.0 * fine:
            value = p.medulla_hu + p.texture * fine
    elif t == LIVER:
        blotches = _noise(tile, shift, 3, 13.0, x, y, z)
        if abs(blotches) < p.vessels and abs(_noise(tile, shift, 6, 16.0, x, y, z)) < p.vessels:
            return p.vessel_hu
        value += 0.6 * p.texture * blotches
    elif t == AORTA:
        if depth < 3.0 and _noise(tile, shift, 6, 6.0, x, y, z) > p.calcification:
            return p.calcification_hu
        if depth < p.thrombus * (1.0 + _noise(tile, shift, 3, 40.0, x, y, z)):
            return p.thrombus_hu
    elif t == POSTCAVA:
        low = min(max((p.cava_from - z) / p.cava_over, 0.0), 1.0)
        mixed = 1.0 + 0.15 * _noise(tile, shift, 3, 20.0, x, y, z) * low
        return (lut[POSTCAVA] + (p.cava_low_hu - lut[POSTCAVA]) * low) * mixed
    elif t == HEART:
        if depth < 8.0 + 4.0 * _noise(tile, shift, 3, 30.0, x, y, z):
            return p.myocardium_hu
        return value
    elif t in (MUSCLE, PANCREAS) and fine > p.muscle_fat:
        return 0.5 * (lut[t] + p.fat_hu)  # between the fibres, between the lobules
    if t in (LIVER, SPLEEN, PANCREAS, KIDNEY_LEFT, KIDNEY_RIGHT):
        for k in range(spheres.shape[0]):
            dx, dy, dz = x - spheres[k, 0], y - spheres[k, 1], z - spheres[k, 2]
            if dx * dx + dy * dy + dz * dz < spheres[k, 3] * spheres[k, 3]:
                return spheres[k, 4] + 0.5 * p.texture * fine
    return value


@compiled
def paint_slice(
    tissue: Array, depth: Array, hull: Array, spacing: float,
    matrix: Array, centre: Array, field: Array, origin: Array, step: float,
    xs: Array, ys: Array, z: float, offsets: Array,
    p: Any, lut: Array, tile: Array, shift: Array, spheres: Array, out: Array,
) -> None:  # fmt: skip
    """Write the HU of one slice ``(X, Y)`` into ``out``, a mean over ``offsets`` in each voxel.

    A place of the CT, mm, is ``matrix @ (place + displacement) + centre`` in the body, mm.
    """
    nx, ny, nz = tissue.shape
    moved = np.zeros(3)
    n = offsets.shape[0]
    for i in range(xs.size):
        for j in range(ys.size):
            displacement_at(field, origin, step, xs[i], ys[j], z, moved)
            total = 0.0
            for o in range(n):
                px = xs[i] + moved[0] + offsets[o, 0]
                py = ys[j] + moved[1] + offsets[o, 1]
                pz = z + moved[2] + offsets[o, 2]
                x = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + centre[0]
                y = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + centre[1]
                q = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + centre[2]
                a, b, c = int(x / spacing + 0.5), int(y / spacing + 0.5), int(q / spacing + 0.5)
                if x < 0 or y < 0 or a >= nx or b >= ny:
                    total += AIR_HU
                    continue
                c = min(max(c, 0), nz - 1)
                t = tissue[a, b, c]
                if t == NONE:
                    total += _unlabeled(
                        p, lut, tile, shift, hull[a, b, c], 0.5 * depth[a, b, c], x, y, q
                    )
                elif t in (STOMACH, SMALL_BOWEL, COLON, DUODENUM, ESOPHAGUS):
                    total += _hollow(p, tile, shift, t, 0.5 * depth[a, b, c], x, y, q)
                else:
                    total += _solid(p, lut, tile, shift, spheres, t, 0.5 * depth[a, b, c], x, y, q)
            out[i, j] = total / n


@compiled
def label_slice(
    ids: Array, spacing: float,
    matrix: Array, centre: Array, field: Array, origin: Array, step: float,
    xs: Array, ys: Array, z: float, out: Array,
) -> None:  # fmt: skip
    """Write the organ ids at the voxel centres of one slice ``(X, Y)`` into ``out``."""
    nx, ny, nz = ids.shape
    moved = np.zeros(3)
    for i in range(xs.size):
        for j in range(ys.size):
            displacement_at(field, origin, step, xs[i], ys[j], z, moved)
            px, py, pz = xs[i] + moved[0], ys[j] + moved[1], z + moved[2]
            x = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + centre[0]
            y = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + centre[1]
            q = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + centre[2]
            a, b, c = int(x / spacing + 0.5), int(y / spacing + 0.5), int(q / spacing + 0.5)
            if x < 0 or y < 0 or a >= nx or b >= ny or c < 0 or c >= nz:
                out[i, j] = 0
            else:
                out[i, j] = ids[a, b, c]
