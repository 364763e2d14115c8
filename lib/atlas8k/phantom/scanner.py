"""The scanner: slices of an anatomy, the kernel, the noise, and the file's orientation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from atlas8k.phantom.anatomy import Anatomy
from atlas8k.phantom.raster import paint_slice
from atlas8k.phantom.setting import Dice, Range, Setting
from atlas8k.volume import Grid

Array = npt.NDArray[Any]
THICKNESSES = (0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.75, 4.0, 5.0, 6.0, 7.0)
COMMON_ORIENTATIONS = ("LPS", "LAS", "RAS", "LPI", "RPS")
ALL_ORIENTATIONS = tuple(
    "".join(axes[i][flip[i]] for i in order)
    for order in permutations(range(3))
    for axes in (("RL", "AP", "SI"),)
    for flip in [dict(enumerate(f)) for f in product((0, 1), repeat=3)]
)
TILE_MM = 2.0
LOW_HU, HIGH_HU = -1024, 3071


@dataclass(frozen=True)
class Scan:
    """How one phantom is scanned: lengths mm, noise HU."""

    in_plane_mm: float
    thickness_mm: float
    orientation: str
    noise_hu: float
    kernel_mm: float
    edge_gain: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]


def draw_scan(dice: Dice, setting: Setting, anatomy: Anatomy, hard_cases: frozenset[str]) -> Scan:
    """Voxel size, field of view, noise and orientation."""
    rng = dice("scan")
    low_t, high_t = setting.thickness_mm
    options = np.array([t for t in THICKNESSES if low_t <= t <= high_t])
    thickness = float(rng.choice(options, p=options**0.5 / (options**0.5).sum()))
    noise = rng.uniform(*setting.noise_hu) * float(np.clip((2.5 / thickness) ** 0.5, 0.75, 1.4))
    in_plane = round(float(rng.uniform(*setting.in_plane_mm)), 3)
    f = anatomy.frame
    margin = rng.uniform(2, 45) if setting.people else rng.uniform(4, 14)
    side = f.half_width + 18 + f.fat_side + margin
    front = f.front + 12 + f.fat_front + margin
    back = f.back + 42 + f.fat_back + margin
    bottom, top = (rng.uniform(*ends) * f.scale[2] for ends in _ends(setting, hard_cases))
    if "arms_at_side" in hard_cases:
        side += dice("arms_in_view").uniform(0, 100)
    shift = rng.uniform(-6, 6, 2)
    low = np.array([-side + shift[0], -back + shift[1], bottom])
    high = np.array([side + shift[0], front + shift[1], top])
    cut = dice("cut")
    if "cut_off_field_of_view" in hard_cases:
        where = cut.integers(0, 3)
        if where == 0:
            high[2] = cut.uniform(20, 60) * f.scale[2]
        elif where == 1:
            low[2] = cut.uniform(-40, 0) * f.scale[2]
        else:
            loss = cut.uniform(40, 75)
            if cut.random() < 0.5:
                low[0] += loss
            else:
                high[0] -= loss
    if "half_abdomen" in hard_cases:
        axis, middle = int(cut.integers(0, 2)), cut.uniform(-25, 25)
        if cut.random() < 0.5:
            low[axis] = middle
        else:
            high[axis] = middle
    if rng.random() < setting.common_orientation:
        orientation = str(rng.choice(COMMON_ORIENTATIONS))
    else:
        orientation = str(rng.choice(ALL_ORIENTATIONS))
    return Scan(
        in_plane,
        thickness,
        orientation,
        float(noise),
        float(rng.uniform(*setting.kernel_mm)),
        float(rng.uniform(*setting.edge_gain)),
        (float(low[0]), float(low[1]), float(low[2])),
        (float(high[0]), float(high[1]), float(high[2])),
    )


def _ends(setting: Setting, hard_cases: frozenset[str]) -> tuple[Range, Range]:
    """Where a scan ends and begins, in the mean anatomy, mm."""
    if not setting.people:
        return (-150, -110), (112, 150)
    low = (-320, -200) if "ends_in_pelvis" in hard_cases else (-190, -135)
    return low, (165, 240) if "begins_at_lungs" in hard_cases else (100, 160)


def ras_grid(scan: Scan, spacing: tuple[float, float, float]) -> Grid:
    """Axis-aligned RAS grid over the scan's field of view, from its lower corner."""
    low, high, step = np.array(scan.low), np.array(scan.high), np.array(spacing)
    shape = np.maximum(2, np.rint((high - low) / step)).astype(int)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = low + step / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _centers(grid: Grid, axis: int) -> Array:
    start, step = grid.affine[axis, 3], grid.affine[axis, axis]
    return np.asarray(start + step * np.arange(grid.shape[axis]), dtype=np.float64)


def paint(
    anatomy: Anatomy,
    grid: Grid,
    edge: float,
    thickness: float,
    *,
    labels: bool = True,
    threads: int = 1,
) -> tuple[Array, Array]:
    """Densities averaged over the slice thickness, and labels at the voxel centres.

    Edges are soft along z too, so that only thick slices need more than one sample.

    Parameters
    ----------
    labels
        Whether the labels are needed; they cost a sample at the centre of each slice.
    threads
        Slices painted at once; they change nothing in the result.

    Returns
    -------
    hu, label
        ``(Z, X, Y)`` float32 and uint8 on an axis-aligned RAS grid.
    """
    xs, ys, zs = (_centers(grid, c) for c in range(3))
    if thickness <= 3.0:
        offsets = np.zeros(1)
    elif labels:
        offsets = np.array([0.0, -thickness / 3, thickness / 3])
    else:
        offsets = np.array([-thickness / 4, thickness / 4])
    hu = np.zeros((zs.size, xs.size, ys.size), np.float32)
    label = np.empty((zs.size, xs.size, ys.size), np.uint8)
    fixed = (anatomy.field, anatomy.origin, anatomy.step, anatomy.reach, anatomy.tile)

    def one(k: int) -> None:
        part, part_label = np.empty(hu.shape[1:], np.float32), np.empty(hu.shape[1:], np.uint8)
        for n, offset in enumerate(offsets):
            target = label[k] if n == 0 else part_label
            paint_slice(xs, ys, zs[k] + offset, edge, *fixed, *anatomy.shapes, part, target)
            hu[k] += part
        hu[k] /= len(offsets)

    if threads == 1:
        for k in range(zs.size):
            one(k)
    else:  # slices do not depend on one another, and the painting holds no lock
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(zs.size)))
    return hu, label


def add_noise(
    hu: Array,
    dice: Dice,
    scan: Scan,
    spacing: float,
    share: float = 1.0,
    share_z: float = 1.0,
) -> None:
    """Add noise with the kernel's correlation to ``(Z, X, Y)`` in place.

    Parameters
    ----------
    spacing
        In-plane voxel size of ``hu``, mm.
    share, share_z
        Factors on the standard deviation for what interpolation within and across
        slices would take away; the low frequencies lose nothing within a slice.
    """
    rng = dice("noise")
    shape = hu.shape[1:]
    sigma = scan.kernel_mm / spacing
    for k in range(len(hu)):
        noise = _kernel(
            rng.standard_normal(shape, dtype=np.float32),
            sigma,
            scan.edge_gain,
            _wide(scan) / spacing,
        )
        # Low frequencies that survive any kernel.
        coarse = _blur(rng.standard_normal(shape, dtype=np.float32), 4 / spacing)
        noise /= max(float(noise.std()), 1e-6)
        coarse /= max(float(coarse.std()), 1e-6)
        hu[k] += scan.noise_hu * share_z * (share * 0.96 * noise + 0.28 * coarse)


def _wide(scan: Scan) -> float:
    """Scale of the edge enhancement, mm."""
    return max(scan.in_plane_mm, 2 * scan.kernel_mm)


def _blur(plane: Array, sigma: float) -> Array:
    return np.asarray(gaussian_filter1d(gaussian_filter1d(plane, sigma, axis=0), sigma, axis=1))


def _kernel(plane: Array, sigma: float, edge_gain: float, wide: float) -> Array:
    out = _blur(plane, sigma)
    return out if edge_gain <= 0 else np.asarray(out + edge_gain * (out - _blur(out, wide)))


def enhance_edges(hu: Array, scan: Scan, spacing: float) -> None:
    """The edge enhancement of a sharp kernel on ``(Z, X, Y)``, in place."""
    if scan.edge_gain > 0:
        for k, plane in enumerate(hu):
            hu[k] += scan.edge_gain * (plane - _blur(plane, _wide(scan) / spacing))


def interpolated_noise(scan: Scan, native: Grid, target: Grid) -> tuple[float, float]:
    """Share of the noise's standard deviation that linear resampling leaves.

    Between two voxels, at the part ``u`` of the way, the variance of noise with the
    correlation ``rho`` between neighbours is ``(1-u)^2 + u^2 + 2 u (1-u) rho``.

    Returns
    -------
    tuple
        Within the slice (both axes together) and across slices.
    """
    weights = gaussian_filter1d(np.eye(1, 41, 20)[0], scan.kernel_mm / scan.in_plane_mm)
    rho = float((weights[1:] * weights[:-1]).sum() / (weights**2).sum())
    kept = []
    for axis, correlation in ((0, rho), (1, rho), (2, 0.0)):
        u = (_centers(target, axis) - native.affine[axis, 3]) / native.spacing[axis]
        u = np.clip(u, 0, native.shape[axis] - 1) % 1.0
        kept.append(float(np.sqrt(((1 - u) ** 2 + u**2 + 2 * u * (1 - u) * correlation).mean())))
    return kept[0] * kept[1], kept[2]


def orient(array: Array, grid: Grid, orientation: str) -> tuple[Array, Grid]:
    """Permute and flip an RAS array ``(X, Y, Z)`` to the given axis codes."""
    transform = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(grid.affine),
        nib.orientations.axcodes2ornt(tuple(orientation)),
    )
    out = np.ascontiguousarray(nib.orientations.apply_orientation(array, transform))
    affine = grid.affine @ nib.orientations.inv_ornt_aff(transform, grid.shape)
    return out, Grid((out.shape[0], out.shape[1], out.shape[2]), affine)
