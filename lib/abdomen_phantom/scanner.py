"""The scanner: a patient's slices on any grid, the kernel, the noise, the file's orientation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from abdomen_phantom.setting import Dice, Phantom, PhantomCase, Setting
from atlas8k.core.volume import Grid, Volume

Array = npt.NDArray[Any]
COMMON_ORIENTATIONS = ("LPS", "LAS", "RAS", "LPI", "RPS")
ALL_ORIENTATIONS = tuple(
    "".join(("RL", "AP", "SI")[axis][flip[axis]] for axis in order)
    for order in permutations(range(3))
    for flip in product((0, 1), repeat=3)
)
LOW_HU, HIGH_HU = -1024, 3071


@dataclass(frozen=True, eq=False)
class Scan:
    """Scan of one patient: lengths and corners mm, noise HU."""

    in_plane_mm: float
    thickness_mm: float
    orientation: str
    noise_hu: float
    kernel_mm: float
    edge_gain: float
    low: Array
    high: Array


def ras_grid(scan: Scan, spacing: tuple[float, float, float]) -> Grid:
    """Return the axis-aligned RAS grid over the scan's field of view, from its lower corner."""
    low, high, step = np.array(scan.low), np.array(scan.high), np.array(spacing)
    shape = np.maximum(2, np.rint((high - low) / step)).astype(int)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = low + step / 2
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def centres(grid: Grid) -> tuple[Array, Array, Array]:
    """Return the voxel centres along each axis of an axis-aligned RAS grid, mm."""
    x, y, z = (
        np.asarray(grid.affine[axis, 3] + grid.affine[axis, axis] * np.arange(n), np.float64)
        for axis, n in enumerate(grid.shape)
    )
    return x, y, z


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
    for k in range(len(hu)):
        noise = _blur(rng.standard_normal(shape, dtype=np.float32), scan.kernel_mm / spacing)
        _sharpen(noise, scan, spacing)
        # Low frequencies that survive any kernel.
        coarse = _blur(rng.standard_normal(shape, dtype=np.float32), 4 / spacing)
        noise /= max(float(noise.std()), 1e-6)
        coarse /= max(float(coarse.std()), 1e-6)
        hu[k] += scan.noise_hu * share_z * (share * 0.96 * noise + 0.28 * coarse)


def enhance_edges(hu: Array, scan: Scan, spacing: float) -> None:
    """Apply the edge enhancement of a sharp kernel to ``(Z, X, Y)``, in place."""
    for plane in hu:
        _sharpen(plane, scan, spacing)


def _sharpen(plane: Array, scan: Scan, spacing: float) -> None:
    if scan.edge_gain > 0:
        wide = max(scan.in_plane_mm, 2 * scan.kernel_mm)
        plane += scan.edge_gain * (plane - _blur(plane, wide / spacing))


def _blur(plane: Array, sigma: float) -> Array:
    return np.asarray(gaussian_filter1d(gaussian_filter1d(plane, sigma, axis=0), sigma, axis=1))


def interpolated_noise(scan: Scan, native: Grid, target: Grid) -> tuple[float, float]:
    """Return the share of the noise's standard deviation that linear resampling leaves.

    Between two voxels, at the part ``u`` of the way, the variance of noise with the
    correlation ``rho`` between neighbours is ``(1-u)^2 + u^2 + 2 u (1-u) rho``.

    Returns
    -------
    tuple
        Within the slice (both axes together) and across slices.
    """
    weights = gaussian_filter1d(np.eye(1, 41, 20)[0], scan.kernel_mm / scan.in_plane_mm)
    rho = float((weights[1:] * weights[:-1]).sum() / (weights**2).sum())
    left = []
    for axis, correlation in ((0, rho), (1, rho), (2, 0.0)):
        u = (centres(target)[axis] - native.affine[axis, 3]) / native.spacing[axis]
        u = np.clip(u, 0, native.shape[axis] - 1) % 1.0
        left.append(float(np.sqrt(((1 - u) ** 2 + u**2 + 2 * u * (1 - u) * correlation).mean())))
    return left[0] * left[1], left[2]


def orient(array: Array, grid: Grid, orientation: str) -> tuple[Array, Grid]:
    """Permute and flip an RAS array ``(X, Y, Z)`` to the given axis codes."""
    transform = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(grid.affine),
        nib.orientations.axcodes2ornt(tuple(orientation)),
    )
    out = np.ascontiguousarray(nib.orientations.apply_orientation(array, transform))
    affine = grid.affine @ nib.orientations.inv_ornt_aff(transform, grid.shape)
    return out, Grid((out.shape[0], out.shape[1], out.shape[2]), affine)


class Painter(ABC):
    """One patient under one scanner: slices become a phantom.

    Arrays are ``(Z, X, Y)`` on axis-aligned RAS grids: float32 HU, and uint8 organ ids at
    the voxel centres.

    Attributes
    ----------
    lowest, highest
        Values the file is cut off at, HU.
    """

    scan: Scan
    lowest, highest = LOW_HU, HIGH_HU

    @abstractmethod
    def paint(self, grid: Grid) -> tuple[Array, Array]:
        """Return densities without noise, averaged over the slice thickness, and labels."""

    @abstractmethod
    def densities(self, grid: Grid) -> Array:
        """Return the densities alone."""

    @abstractmethod
    def labels(self, grid: Grid) -> Array:
        """Return the labels alone."""

    @abstractmethod
    def spoil(self, hu: Array, grid: Grid, share: float = 1.0, share_z: float = 1.0) -> None:
        """Add kernel, artefacts and noise in place; shares as in :func:`add_noise`."""

    def finish(self, hu: Array, label: Array, grid: Grid) -> None:  # noqa: B027  a hook
        """Change the complete CT in place."""

    def phantom(
        self,
        spacing_mm: float | None,
        seed: int,
        setting: Setting,
        phase: str,
        hard_cases: tuple[str, ...],
    ) -> Phantom:
        """Return the CT and its truth: as the scanner writes it, or straight on a coarse grid.

        Parameters
        ----------
        spacing_mm
            Of a RAS grid, on which the CT is what linear resampling of the full one gives;
            ``None`` for the scanner's own grid and orientation.
        seed, setting, phase, hard_cases
            For the record.
        """
        scan = self.scan
        native = ras_grid(scan, (scan.in_plane_mm, scan.in_plane_mm, scan.thickness_mm))
        if spacing_mm is None:
            grid, orientation = native, scan.orientation
            hu, label = self.paint(grid)
            self.spoil(hu, grid)
        else:
            grid, orientation = ras_grid(scan, (spacing_mm,) * 3), "RAS"
            hu, label = self._coarse(native, grid)
        self.finish(hu, label, grid)
        ct = np.clip(np.rint(hu), self.lowest, self.highest).astype(np.int16).transpose(1, 2, 0)
        ct, oriented = orient(ct, grid, orientation)
        truth, _ = orient(label.transpose(1, 2, 0), grid, orientation)
        case = PhantomCase(
            seed=seed,
            setting=setting.name,
            version=setting.version,
            phase=phase,
            spacing_mm=oriented.spacing,
            orientation=orientation,
            noise_hu=round(scan.noise_hu, 2),
            hard_cases=hard_cases,
        )
        return Phantom(Volume(ct, oriented), Volume(truth, oriented), case)

    def _coarse(self, native: Grid, grid: Grid) -> tuple[Array, Array]:
        """Return what linear resampling of the full CT to ``grid`` gives."""
        thickness, spacing = self.scan.thickness_mm, grid.spacing[0]
        share, share_z = interpolated_noise(self.scan, native, grid)
        if thickness <= spacing:
            hu, label = self.paint(grid)
            self.spoil(hu, grid, share, share_z)
            return hu, label
        thick = ras_grid(self.scan, (spacing, spacing, thickness))
        slices = self.densities(thick)
        self.spoil(slices, thick, share)
        at = grid.affine[2, 3] + spacing * np.arange(grid.shape[2]) - thick.affine[2, 3]
        at = np.clip(at / thickness, 0, thick.shape[2] - 1)
        below = np.minimum(at.astype(int), thick.shape[2] - 2)
        part = (at - below).astype(np.float32)[:, None, None]
        return slices[below] * (1 - part) + slices[below + 1] * part, self.labels(grid)


def check_spacing(spacing_mm: float | None) -> None:
    """Raise ValueError where the spacing of a coarse grid is no positive length."""
    if spacing_mm is not None and not spacing_mm > 0:
        raise ValueError(f"the grid spacing must be a positive length in mm, not {spacing_mm}")
