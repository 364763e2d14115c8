"""From a place in a body to a density and a label, compiled: voxel by voxel, nothing held.

A voxel is the mean over a few places within it, so that edges are soft as a scanner sees
them; its label is that of its centre.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.phantom.bodies.look import AT
from atlas8k.phantom.bodies.tissues import Tissue
from atlas8k.phantom.implicit import compiled, noise_at

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

(
    FAT_SIDE, FAT_FRONT, FAT_BACK, WALL_SIDE, WALL_FRONT, WALL_BACK, VISCERAL, SKIN, SKIN_HU,
    UP, MIDDLE, RADIUS, FAT_HU, FAT_TEXTURE, VISCERAL_HU, MUSCLE_FAT, NEAR_BONE, MESENTERY,
    VESSEL_HU, TEXTURE, BONE_TEXTURE, CORTEX, CORTEX_HU, KIDNEY_CORTEX, MEDULLA_HU, SINUS,
    VESSELS, STOMACH_WALL, STOMACH_WALL_HU, STOMACH_LEVEL, STOMACH_HU, STOMACH_TEXTURE,
    BOWEL_WALL, BOWEL_WALL_HU, BOWEL_GAS, BOWEL_FLUID, BOWEL_FLUID_HU, BOWEL_CONTRAST,
    BOWEL_CONTRAST_HU, COLON_GAS, COLON_HU, COLON_TEXTURE, COLON_BUBBLES, CALCIFICATION,
    CALCIFICATION_HU, THROMBUS, THROMBUS_HU, CAVA_LOW_HU, CAVA_FROM, CAVA_OVER, MYOCARDIUM_HU,
    LUNG_TEXTURE, EFFUSION, FLUID_HU, ASCITES, GRAIN, SEGMENT,
) = range(len(AT))  # fmt: skip
if [AT["segment"], AT["ascites"], AT["vessels"]] != [SEGMENT, ASCITES, VESSELS]:
    raise AssertionError("the fields of Look and their places here are not in one order")


@compiled
def _noise(tile: Array, shift: Array, c: int, size: float, x: float, y: float, z: float) -> float:
    """Smooth noise of unit SD, `size` mm from one node to the next; `c` is which one."""
    s = 1.0 / size
    return float(noise_at(tile, x * s + shift[c, 0], y * s + shift[c, 1], z * s + shift[c, 2]))


@compiled
def _unlabeled(
    p: Array, lut: Array, tile: Array, shift: Array,
    hull: float, bone: float, x: float, y: float, z: float,
) -> Any:  # fmt: skip
    """Density of what no structure covers."""
    w = (y - p[MIDDLE]) / p[RADIUS]
    w = min(max(w, -1.0), 1.0)
    if w > 0:
        fat = p[FAT_SIDE] + (p[FAT_FRONT] - p[FAT_SIDE]) * w
        wall = p[WALL_SIDE] + (p[WALL_FRONT] - p[WALL_SIDE]) * w
        visceral = p[VISCERAL] * (0.4 + 0.6 * w)
    else:
        fat = p[FAT_SIDE] + (p[FAT_BACK] - p[FAT_SIDE]) * -w
        wall = p[WALL_SIDE] + (p[WALL_BACK] - p[WALL_SIDE]) * -w
        visceral = p[VISCERAL] * 0.4 * (1 + w)
    if hull > visceral + wall + fat + p[SKIN]:
        return AIR_HU
    if hull > visceral + wall + fat:
        return p[SKIN_HU]
    broad = _noise(tile, shift, 0, 14.0, x, y, z)
    if hull > visceral + wall + 1.5 * broad:
        # Septa in the fat.
        fine = _noise(tile, shift, 1, 5.0, x, y, z)
        return p[FAT_HU] + p[FAT_TEXTURE] * fine + (18.0 if abs(broad) < 0.04 else 0.0)
    if hull > visceral + 1.0 * broad or bone < p[NEAR_BONE] + 3.0 * broad:
        fine = _noise(tile, shift, 2, 4.0, x, y, z)
        if fine > p[MUSCLE_FAT] or abs(hull - visceral - 0.5 * wall + 2 * broad) < 0.6:
            return 0.5 * (lut[MUSCLE] + p[FAT_HU])
        return lut[MUSCLE] + p[TEXTURE] * fine
    if p[ASCITES] > 0 and (hull > -p[ASCITES] or broad > 1.2):
        return p[FLUID_HU]
    fine = _noise(tile, shift, 3, 6.0, x, y, z)
    other = _noise(tile, shift, 4, 7.0, x, y, z)
    if abs(fine) < 1.6 * p[MESENTERY] and abs(other) < 1.6 * p[MESENTERY]:
        return p[VESSEL_HU]
    if abs(other) < 0.5 * p[MESENTERY]:
        return lut[MUSCLE] - 15.0  # folds, small bowel that was not segmented, fascia
    return p[VISCERAL_HU] + 1.3 * p[FAT_TEXTURE] * fine + 4.0 * broad


@compiled
def _hollow(
    p: Array, tile: Array, shift: Array, t: int, depth: float, x: float, y: float, z: float
) -> Any:
    """Density of stomach and bowel: wall, gas, fluid, contrast, food."""
    if t == STOMACH:
        if depth < p[STOMACH_WALL]:
            return p[STOMACH_WALL_HU]
        fine = _noise(tile, shift, 5, 4.0, x, y, z)
        if p[UP] * (y - p[MIDDLE]) > p[STOMACH_LEVEL]:
            return GAS_HU
        return p[STOMACH_HU] + p[STOMACH_TEXTURE] * fine
    if depth < p[BOWEL_WALL]:
        return p[BOWEL_WALL_HU]
    part = _noise(tile, shift, 6, p[SEGMENT], x, y, z)
    if t == COLON:
        rise = 0.012 * p[UP] * (y - p[MIDDLE])
        if part + rise > p[COLON_GAS]:
            return GAS_HU
        fine = _noise(tile, shift, 7, 4.5, x, y, z)
        if fine > p[COLON_BUBBLES]:
            return -400.0
        if part < -p[BOWEL_CONTRAST]:
            return p[BOWEL_CONTRAST_HU] + p[COLON_TEXTURE] * fine
        return p[COLON_HU] + p[COLON_TEXTURE] * fine
    if t == ESOPHAGUS:
        return GAS_HU if part > 1.2 and depth > 4.0 else p[BOWEL_WALL_HU]
    if part > p[BOWEL_GAS] and depth > 3.0:
        return GAS_HU
    if part < -p[BOWEL_CONTRAST]:
        return p[BOWEL_CONTRAST_HU]
    fold = _noise(tile, shift, 7, 4.5, x, y, z)
    if part < p[BOWEL_FLUID] and fold < 0.9:
        return p[BOWEL_FLUID_HU]
    return p[BOWEL_WALL_HU] - 12.0 + 12.0 * fold


@compiled
def _solid(
    p: Array, lut: Array, tile: Array, shift: Array, spheres: Array,
    t: int, depth: float, x: float, y: float, z: float,
) -> Any:  # fmt: skip
    """Density within a structure that is not hollow."""
    if t == LUNG:
        if p[UP] * (y - p[MIDDLE]) < p[EFFUSION]:
            return p[FLUID_HU]
        fine = _noise(tile, shift, 5, 5.0, x, y, z)
        other = _noise(tile, shift, 4, 6.0, x, y, z)
        if abs(fine) < 0.2 and abs(other) < 0.2:
            return 20.0
        return lut[LUNG] + p[LUNG_TEXTURE] * fine
    if t in (BONE, SPINE):
        if depth < p[CORTEX] * (0.6 if t == SPINE else 1.0):
            return p[CORTEX_HU]
        return lut[t] + p[BONE_TEXTURE] * _noise(tile, shift, 5, 3.5, x, y, z)
    fine = _noise(tile, shift, 5, p[GRAIN], x, y, z)
    value = lut[t] + p[TEXTURE] * fine
    if t in (KIDNEY_LEFT, KIDNEY_RIGHT):
        if depth > p[SINUS]:
            value = 0.5 * (p[FAT_HU] + p[MEDULLA_HU])
        elif depth > p[KIDNEY_CORTEX] + 2.0 * fine:
            value = p[MEDULLA_HU] + p[TEXTURE] * fine
    elif t == LIVER:
        one = _noise(tile, shift, 3, 13.0, x, y, z)
        if abs(one) < p[VESSELS] and abs(_noise(tile, shift, 6, 16.0, x, y, z)) < p[VESSELS]:
            return p[VESSEL_HU]
        value += 0.6 * p[TEXTURE] * one
    elif t == AORTA:
        if depth < 3.0 and _noise(tile, shift, 6, 6.0, x, y, z) > p[CALCIFICATION]:
            return p[CALCIFICATION_HU]
        if depth < p[THROMBUS] * (1.0 + _noise(tile, shift, 3, 40.0, x, y, z)):
            return p[THROMBUS_HU]
    elif t == POSTCAVA:
        low = min(max((p[CAVA_FROM] - z) / p[CAVA_OVER], 0.0), 1.0)
        mixed = 1.0 + 0.15 * _noise(tile, shift, 3, 20.0, x, y, z) * low
        return (lut[POSTCAVA] + (p[CAVA_LOW_HU] - lut[POSTCAVA]) * low) * mixed
    elif t == HEART:
        if depth < 8.0 + 4.0 * _noise(tile, shift, 3, 30.0, x, y, z):
            return p[MYOCARDIUM_HU]
        return value
    elif t in (MUSCLE, PANCREAS) and fine > p[MUSCLE_FAT]:
        return 0.5 * (lut[t] + p[FAT_HU])  # between the fibres, between the lobules
    if t in (LIVER, SPLEEN, PANCREAS, KIDNEY_LEFT, KIDNEY_RIGHT):
        for k in range(spheres.shape[0]):
            dx, dy, dz = x - spheres[k, 0], y - spheres[k, 1], z - spheres[k, 2]
            if dx * dx + dy * dy + dz * dz < spheres[k, 3] * spheres[k, 3]:
                return spheres[k, 4] + 0.5 * p[TEXTURE] * fine
    return value


@compiled
def _moved(
    field: Array, origin: Array, step: float, x: float, y: float, z: float, out: Array
) -> None:
    """Displacement at a place, linear between the nodes of the field, into ``out``."""
    nx, ny, nz = field.shape[0], field.shape[1], field.shape[2]
    u = min(max((x - origin[0]) / step, 0.0), nx - 1.001)
    v = min(max((y - origin[1]) / step, 0.0), ny - 1.001)
    w = min(max((z - origin[2]) / step, 0.0), nz - 1.001)
    a, b, c = int(u), int(v), int(w)
    r, s, t = u - a, v - b, w - c
    for d in range(3):
        low = (field[a, b, c, d] * (1 - r) + field[a + 1, b, c, d] * r) * (1 - s) + (
            field[a, b + 1, c, d] * (1 - r) + field[a + 1, b + 1, c, d] * r
        ) * s
        high = (field[a, b, c + 1, d] * (1 - r) + field[a + 1, b, c + 1, d] * r) * (1 - s) + (
            field[a, b + 1, c + 1, d] * (1 - r) + field[a + 1, b + 1, c + 1, d] * r
        ) * s
        out[d] = low * (1 - t) + high * t


@compiled
def paint_slice(
    tissue: Array, depth: Array, hull: Array, spacing: float,
    matrix: Array, centre: Array, field: Array, origin: Array, step: float,
    xs: Array, ys: Array, z: float, offsets: Array,
    p: Array, lut: Array, tile: Array, shift: Array, spheres: Array, out: Array,
) -> None:  # fmt: skip
    """Densities of one slice ``(X, Y)`` into ``out``; ``offsets`` are the places in a voxel.

    A place of the CT, mm, is ``matrix @ (place + displacement) + centre`` in the body, mm.
    """
    nx, ny, nz = tissue.shape
    moved = np.zeros(3)
    n = offsets.shape[0]
    for i in range(xs.size):
        for j in range(ys.size):
            _moved(field, origin, step, xs[i], ys[j], z, moved)
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
    tissue: Array, spacing: float,
    matrix: Array, centre: Array, field: Array, origin: Array, step: float,
    xs: Array, ys: Array, z: float, organ_of: Array, out: Array,
) -> None:  # fmt: skip
    """Organ ids at the voxel centres of one slice ``(X, Y)`` into ``out``."""
    nx, ny, nz = tissue.shape
    moved = np.zeros(3)
    for i in range(xs.size):
        for j in range(ys.size):
            _moved(field, origin, step, xs[i], ys[j], z, moved)
            px, py, pz = xs[i] + moved[0], ys[j] + moved[1], z + moved[2]
            x = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] * pz + centre[0]
            y = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] * pz + centre[1]
            q = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] * pz + centre[2]
            a, b, c = int(x / spacing + 0.5), int(y / spacing + 0.5), int(q / spacing + 0.5)
            if x < 0 or y < 0 or a >= nx or b >= ny or c < 0 or c >= nz:
                out[i, j] = 0
            else:
                out[i, j] = organ_of[tissue[a, b, c]]
