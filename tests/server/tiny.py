"""Networks and CTs of a size at which the server's parts run in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from atlas8k.core.structures import ORGANS
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import Checkpoint, Preprocessing, save_checkpoint
from atlas8k.models.networks import build

NETWORKS = ("swin_unetr", "unet", "nnunet")


def checkpoint(name: str, seed: int = 0) -> Checkpoint:
    """A network of some hundred weights; the name is that of a role, not of a class."""
    softmax = name == "nnunet"
    architecture = {
        "name": "unet",
        "out_channels": len(ORGANS) + softmax,
        "channels": [4, 8],
        "strides": [2],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + NETWORKS.index(name))
        state = build(architecture).state_dict()
    return Checkpoint(
        name=name,
        architecture=architecture,
        activation="softmax" if softmax else "sigmoid",
        preprocessing=Preprocessing(spacing_mm=(12.0,) * 3, window_size=(16,) * 3),
        origin={"random_weights": seed},
        state=state,
    )


def write_networks(folder: Path, seed: int = 0) -> Path:
    """Three tiny networks as the embedded set of a model folder."""
    for name in NETWORKS:
        save_checkpoint(folder / "embedded" / f"{name}.safetensors", checkpoint(name, seed))
    return folder


GRID = Grid((20, 18, 16), np.diag([-12.0, 12.0, 15.0, 1.0]))


def write_ct(path: Path, seed: int = 0, scale: float = 1.0) -> Path:
    """A noisy ellipsoid of soft tissue in air; `scale` is its size."""
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in GRID.shape)]
    inside = sum(axis**2 for axis in axes) < (0.85 * scale) ** 2
    noise = np.random.default_rng(seed).normal(0, 60, GRID.shape)
    return write_nifti(path, np.where(inside, 40 + noise, -1000).astype(np.int16), GRID)
