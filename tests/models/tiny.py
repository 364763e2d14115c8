"""Tiny real networks and small synthetic CTs, for tests that are about everything else."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, Volume
from atlas8k.models.checkpoint import Checkpoint, Preprocessing
from atlas8k.models.networks import build

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "unet": {"name": "unet", "channels": [4, 8], "strides": [2], "num_res_units": 1},
    "nnunet": {
        "name": "dynunet",
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
    },
    "swin_unetr": {
        "name": "swin_unetr",
        "feature_size": 12,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": 2,
    },
}


def tiny(
    name: str = "unet",
    *,
    organs: tuple[str, ...] = ORGAN_NAMES,
    spacing: float = 6.0,
    window: tuple[int, int, int] = (16, 16, 16),
    seed: int = 0,
    gain: float = 6.0,
    **architecture: Any,
) -> Checkpoint:
    """A checkpoint with random weights; `gain` on the weights spreads its probabilities."""
    activation = "softmax" if name == "nnunet" else "sigmoid"
    arguments = {
        **ARCHITECTURES[name],
        "out_channels": len(organs) + (activation == "softmax"),
        **architecture,
    }
    torch.manual_seed(seed)
    state = build(arguments).state_dict()
    if gain != 1:
        last = [key for key, tensor in state.items() if tensor.ndim == 5][-1]
        state[last] = state[last] * gain
    return Checkpoint(
        name=name,
        architecture=arguments,
        activation=activation,
        preprocessing=Preprocessing((spacing,) * 3, (-175, 250), window),
        organs=organs,
        origin={"random_weights": seed},
        state=state,
    )


def body_ct(
    shape: tuple[int, int, int] = (40, 34, 28),
    spacing: tuple[float, float, float] = (6.0, 6.0, 6.0),
    seed: int = 0,
    air: float = -1000.0,
) -> Volume:
    """An ellipsoid of smooth random tissue in air, axes RAS, position off the origin."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n) for n in shape]
    radius = sum((a / 0.85) ** 2 for a in np.meshgrid(*axes, indexing="ij"))
    tissue = ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    tissue = 40 + 120 * tissue / tissue.std()
    array = np.where(radius < 1, np.maximum(tissue, -300), air).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-101.5, 37.25, -412.0)
    return Volume(array, Grid(shape, affine))


def turned(volume: Volume, orientation: str) -> Volume:
    """The same patient with the array axes along other directions, such as ``"PIL"``."""
    transform = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(volume.grid.affine),
        nib.orientations.axcodes2ornt(orientation),
    )
    array = nib.orientations.apply_orientation(volume.array, transform)
    affine = volume.grid.affine @ nib.orientations.inv_ornt_aff(transform, volume.grid.shape)
    return Volume(np.ascontiguousarray(array), Grid(array.shape, affine))


def back(array: np.ndarray, orientation: str) -> np.ndarray:
    """An array in the axes of `orientation`, in RAS axes."""
    transform = nib.orientations.axcodes2ornt(orientation)
    return nib.orientations.apply_orientation(array, transform)
