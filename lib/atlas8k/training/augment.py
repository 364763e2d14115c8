"""One random patch of a prepared volume: where it lies, how it is turned, how bright it is.

Nothing is mirrored: only its side tells the left kidney from the right one. MONAI's random
transforms would resample a whole volume to turn one patch of it, and draw from a state of
their own, where a patch must depend on its step alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.layers import separable_filtering
from scipy.spatial.transform import Rotation
from torch.nn import functional

from atlas8k.training.data import Prepared

Patch = tuple[int, int, int]

ROTATION_DEG = 8.0
SCALE = 0.12
P_TURNED = 0.6
P_INTENSITY = 0.3


def draw(
    case: Prepared, patch: Patch, rng: np.random.Generator, *, balance: float, augment: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a random patch.

    Parameters
    ----------
    balance
        Probability that it is placed at a voxel of an organ, each organ alike, and not
        anywhere.
    augment
        Strength of the augmentation, 0 for none.

    Returns
    -------
    image : (X, Y, Z) float32 in [0, 1]
    label : (X, Y, Z) uint8
        Organ ids, and 255 where nothing is learned, see :class:`Prepared`. Outside the
        volume both are 0: air, background.
    """
    centre = _centre(case, patch, rng, balance)
    if augment > 0 and rng.random() < P_TURNED:
        image, label = _turned(case, patch, centre, _random_matrix(rng, augment))
    else:
        image, label = _straight(case, patch, centre)
    if augment > 0:
        image = vary_intensity(image, rng, augment)
    return image, label


def _centre(
    case: Prepared, patch: Patch, rng: np.random.Generator, balance: float
) -> npt.NDArray[np.float64]:
    """Draw the voxel to centre the patch on; it leaves the volume no further than it must."""
    shape = np.asarray(case.image.shape, dtype=np.float64)
    size = np.asarray(patch, dtype=np.float64)
    low = np.where(shape >= size, size / 2, shape - size / 2)
    high = np.where(shape >= size, shape - size / 2, size / 2)
    organs = sorted(case.points)
    if organs and rng.random() < balance:
        points = case.points[organs[rng.integers(len(organs))]]
        centre = points[rng.integers(len(points))] + rng.uniform(-0.33, 0.33, 3) * size
        clipped: npt.NDArray[np.float64] = np.clip(centre, low, high)
        return clipped
    return rng.uniform(low, high)


def _straight(
    case: Prepared, patch: Patch, centre: npt.NDArray[np.float64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut the patch out of the volume, voxel for voxel."""
    image = torch.zeros(patch, dtype=torch.float32)
    label = torch.zeros(patch, dtype=case.label.dtype)
    source, target = [], []
    for middle, size, n in zip(centre, patch, case.image.shape, strict=True):
        start = round(middle - size / 2)
        low, high = max(0, start), min(n, start + size)
        source.append(slice(low, max(low, high)))
        target.append(slice(low - start, max(low, high) - start))
    image[tuple(target)] = case.image[tuple(source)].float()
    label[tuple(target)] = case.label[tuple(source)]
    return image, label


def _turned(
    case: Prepared,
    patch: Patch,
    centre: npt.NDArray[np.float64],
    matrix: npt.NDArray[np.float64],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample the patch, turned and scaled about its centre by ``matrix`` (patch to volume)."""
    shape = np.asarray(case.image.shape, dtype=np.float64)
    half = (np.asarray(patch, dtype=np.float64) - 1) / 2
    # torch counts from -1 to 1 between the outer voxel centres, last array axis first.
    linear = (2 / (shape - 1))[:, None] * matrix * half[None, :]
    offset = 2 * (centre - 0.5) / (shape - 1) - 1
    theta = np.concatenate([linear[::-1, ::-1], offset[::-1, None]], axis=1)
    grid = functional.affine_grid(
        torch.from_numpy(theta[None].astype(np.float32)), [1, 1, *patch], align_corners=True
    )
    image = functional.grid_sample(case.image[None, None].float(), grid, align_corners=True)
    label = functional.grid_sample(
        case.label[None, None].float(), grid, mode="nearest", align_corners=True
    )
    return image[0, 0], label[0, 0].to(case.label.dtype)


def _random_matrix(rng: np.random.Generator, augment: float) -> npt.NDArray[np.float64]:
    """Draw a rotation about each axis, one common scale, and a small own one of each axis."""
    angles = rng.uniform(-1, 1, 3) * ROTATION_DEG * augment * [1, -1, 1]
    matrix = Rotation.from_euler("XYZ", angles, degrees=True).as_matrix()
    common = rng.uniform(-SCALE, SCALE) * augment
    own = rng.uniform(-SCALE / 2, SCALE / 2, 3) * augment
    scaled: npt.NDArray[np.float64] = matrix * np.exp(common + own)[None, :]
    return scaled


def cut_to(
    image: torch.Tensor, label: torch.Tensor, field: Patch, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Set a patch ``(X, Y, Z)`` to 0 outside a box of ``field`` voxels, somewhere within it.

    A scan of a narrow field looks so in a larger window: the body ends at a plane, and
    beyond are air and background.
    """
    box = []
    for size, width in zip(image.shape, field, strict=True):
        start = int(rng.integers(max(1, size - width + 1)))
        box.append(slice(start, start + width))
    cut, ids = torch.zeros_like(image), torch.zeros_like(label)
    cut[tuple(box)], ids[tuple(box)] = image[tuple(box)], label[tuple(box)]
    return cut, ids


def vary_intensity(image: torch.Tensor, rng: np.random.Generator, augment: float) -> torch.Tensor:
    """Vary an image as another scanner, kernel, dose and contrast would; in and out in [0, 1].

    Each change is made with its own probability: smoothing, thicker slices, noise,
    contrast and brightness, gamma.
    """
    if rng.random() < P_INTENSITY:
        image = _smooth(image, rng.uniform(0.3, 0.9) * augment)
    if rng.random() < P_INTENSITY / 2:
        image = _thick_slices(image, rng.uniform(1.0, 1.0 + augment))
    if rng.random() < P_INTENSITY:
        noise = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        sigma = rng.uniform(0.0, 0.06) * augment
        image = image + sigma * torch.randn(image.shape, generator=noise)
    if rng.random() < P_INTENSITY:
        middle = rng.uniform(0.35, 0.65)
        gain = math.exp(rng.uniform(-0.25, 0.25) * augment)
        image = (image - middle) * gain + middle + rng.uniform(-0.06, 0.06) * augment
    image = image.clamp(0.0, 1.0)
    if rng.random() < P_INTENSITY:
        image = image ** math.exp(rng.uniform(-0.3, 0.3) * augment)
    return image


def _smooth(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth by a Gaussian of ``sigma`` voxels along every axis."""
    radius = max(1, math.ceil(2.5 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / max(sigma, 1e-3)) ** 2)
    weights = weights / weights.sum()
    out: torch.Tensor = separable_filtering(image[None, None], [weights] * 3)
    return out[0, 0]


def _thick_slices(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Imitate slices ``factor`` times as thick, resampled along the last axis."""
    x, y, z = image.shape
    size = (x, y, max(2, round(z / factor)))
    coarse = functional.interpolate(image[None, None], size, mode="trilinear", align_corners=False)
    return functional.interpolate(coarse, (x, y, z), mode="trilinear", align_corners=False)[0, 0]
