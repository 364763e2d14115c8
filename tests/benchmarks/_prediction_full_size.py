"""Networks of the size that is published, with random weights: for speed alone."""

from __future__ import annotations

from typing import Any

import torch

from atlas8k.models.checkpoint import Checkpoint, Preprocessing
from atlas8k.models.networks import build

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "unet": {"name": "suprem_unet", "out_channels": 9},
    "swin_unetr": {"name": "swin_unetr", "feature_size": 48, "out_channels": 9},
    "nnunet": {
        "name": "dynunet",
        "kernel_size": [3] * 6,
        "strides": [1, 2, 2, 2, 2, 2],
        "upsample_kernel_size": [2] * 5,
        "filters": [32, 64, 128, 256, 320, 320],
        "out_channels": 10,
    },
}


def full_size() -> dict[str, Checkpoint]:
    """SuPreM's U-Net and Swin UNETR and a plain nnU-Net, 96 voxels of 1.5 mm."""
    torch.manual_seed(0)
    preprocessing = Preprocessing((1.5,) * 3, (-175, 250), (96, 96, 96))
    return {
        name: Checkpoint(
            name=name,
            architecture=architecture,
            activation="softmax" if architecture["out_channels"] == 10 else "sigmoid",
            preprocessing=preprocessing,
            state=build(architecture).state_dict(),
        )
        for name, architecture in ARCHITECTURES.items()
    }
