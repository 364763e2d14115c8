"""Build architectures with random weights.

Three architectures that fail differently: attention over windows, residual convolutions,
plain convolutions at full resolution. Small at 4 mm, so that a CT takes seconds on a
processor, as the embedded networks are; or of the paper's size at 1.5 mm, for a GPU.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from atlas8k.core.errors import TrainingError
from atlas8k.core.structure_sets import NINE
from atlas8k.models.checkpoint import Checkpoint, Preprocessing
from atlas8k.models.networks import build

SPACING_MM = 4.0

WHOLE = 32
"""A network that sees whole volumes sees them in multiples of this: Swin UNETR's five halvings."""
WHOLE_MOST = (128, 128, 128)
"""Largest volume at once, 512 mm a side; what is longer is seen in parts."""

EMBEDDED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "swin_unetr": {
            "name": "swin_unetr",
            "out_channels": len(NINE),
            "feature_size": 12,
            "num_heads": [1, 2, 4, 8],
            "window_size": 4,
            "downsample": "mergingv2",
        },
        "unet": {
            "name": "unet",
            "out_channels": len(NINE),
            "channels": [32, 64, 96, 128],
            "strides": [2, 2, 2],
            "num_res_units": 2,
        },
        "nnunet": {
            "name": "dynunet",
            "out_channels": len(NINE) + 1,
            "kernel_size": [3, 3, 3, 3, 3],
            "strides": [1, 2, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2, 2],
            "filters": [8, 32, 48, 64, 64],
        },
    }
)

PAPER: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "swin_unetr": {
            "name": "swin_unetr",
            "out_channels": len(NINE),
            "feature_size": 48,
            "downsample": "mergingv2",
        },
        "unet": {"name": "suprem_unet", "out_channels": len(NINE)},
        "nnunet": {
            "name": "dynunet",
            "out_channels": len(NINE) + 1,
            "kernel_size": [3, 3, 3, 3, 3, 3],
            "strides": [1, 2, 2, 2, 2, 2],
            "upsample_kernel_size": [2, 2, 2, 2, 2],
            "filters": [32, 64, 128, 256, 320, 320],
            "deep_supervision": True,
            "deep_supr_num": 3,
        },
    }
)
"""Swin UNETR and U-Net as SuPreM's, nnU-Net as it plans a CT of 1.5 mm in windows of 96."""


@dataclass(frozen=True)
class Size:
    """Architectures, voxel size and window that go together."""

    architectures: Mapping[str, Mapping[str, Any]]
    spacing_mm: float
    window: int


SIZES: Mapping[str, Size] = MappingProxyType(
    {"small": Size(EMBEDDED, SPACING_MM, 64), "paper": Size(PAPER, 1.5, 96)}
)


def new_checkpoint(name: str, seed: int, size: str = "small") -> Checkpoint:
    """Return an architecture with random weights, the same ones for the same seed.

    Parameters
    ----------
    name
        Key of :data:`EMBEDDED`.
    size
        Key of :data:`SIZES`.

    Raises
    ------
    TrainingError
        Unknown name or size.
    """
    if name not in EMBEDDED:
        raise TrainingError(f"network {name!r} is unknown; known are {', '.join(EMBEDDED)}")
    if size not in SIZES:
        raise TrainingError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
    chosen = SIZES[size]
    architecture = chosen.architectures[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + zlib.crc32(name.encode()))
        state = build(architecture).state_dict()
    return Checkpoint(
        name=name,
        architecture=architecture,
        activation="softmax" if name == "nnunet" else "sigmoid",
        preprocessing=Preprocessing(
            spacing_mm=(chosen.spacing_mm,) * 3, window_size=(chosen.window,) * 3
        ),
        origin={"random_weights": seed},
        state=state,
    )


def seeing_whole(checkpoint: Checkpoint) -> Checkpoint:
    """Return the network, set to see whole volumes instead of windows."""
    if checkpoint.preprocessing.whole is not None:
        return checkpoint
    changed = replace(checkpoint.preprocessing, whole=WHOLE, window_size=WHOLE_MOST)
    return replace(checkpoint, preprocessing=changed)
