"""Fixtures read, and files of the published layouts written from them."""

from __future__ import annotations

import json

import numpy as np
import torch
from tests.models.parity.seeded import FOLDER, digest, state

from atlas8k.models.networks import build

SWIN = {
    "universal_swin_unetr": {"name": "universal", "backbone": "swin_unetr", "out_channels": 9},
    "suprem_swin_unetr": {
        "name": "swin_unetr",
        "feature_size": 48,
        "downsample": "older",
        "out_channels": 32,
    },
}
"""Ours, where the reference's state holds index tensors."""


def fixture(name):
    described = json.loads((FOLDER / f"{name}.json").read_text())
    return described, np.load(FOLDER / f"{name}.npz")["probabilities"]


def reference_state(name):
    """The reference's state dict; its index tensors are ours where they are equal."""
    described, _ = fixture(name)
    indices = {}
    if described["indices"]:
        own = build(SWIN[name]).state_dict()
        indices = {key: own[key] for key in described["indices"]}
        assert {key: digest(value) for key, value in indices.items()} == described["indices"]
    return state(described["keys"], indices)


PLANS = {
    "dataset_name": "Dataset224_Small",
    "image_reader_writer": "NibabelIOWithReorient",
    "transpose_forward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 60.0, "std": 80.0, "percentile_00_5": -100.0, "percentile_99_5": 220.0}
    },
    "configurations": {
        "3d_fullres": {
            "spacing": [3.0, 1.25, 1.0],
            "patch_size": [16, 32, 48],
            "normalization_schemes": ["CTNormalization"],
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 8,
            "unet_max_num_features": 24,
            "n_conv_per_stage_encoder": [2, 2, 2, 2],
            "n_conv_per_stage_decoder": [2, 2, 2],
            "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
            "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
        }
    },
}
LABELS = {"background": 0, "liver": 1, "esophagus": 2, "aorta": 3, "spleen": 4}


def new_plans(class_name="PlainConvUNet", counted="n_conv_per_stage", counts=(2, 2, 2, 2)):
    """The same network in the form of newer plans."""
    plans = json.loads(json.dumps(PLANS))
    chosen = plans["configurations"]["3d_fullres"]
    plans["configurations"]["3d_fullres"] = {
        "spacing": chosen["spacing"],
        "patch_size": chosen["patch_size"],
        "normalization_schemes": ["CTNormalization"],
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{class_name}",
            "arch_kwargs": {
                "n_stages": 4,
                "features_per_stage": [8, 16, 24, 24],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": chosen["conv_kernel_sizes"],
                "strides": chosen["pool_op_kernel_sizes"],
                counted: list(counts),
                "n_conv_per_stage_decoder": [2, 2, 2],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return plans


def results_folder(root, name="nnunet_plain", plans=PLANS, labels=LABELS, weights=None, fold="0"):
    folder = root / "Dataset224_Small" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    dataset = {"labels": labels, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(
        {
            "network_weights": reference_state(name) if weights is None else weights,
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": "3d_fullres", "fold": 0, "plans": plans},
            "inference_allowed_mirroring_axes": (0, 1),
            # Numbers of numpy, as nnU-Net's log has them.
            "_best_ema": np.float64(0.9),
            "logging": {"ema_fg_dice": [np.float64(0.8), np.float32(0.9)]},
        },
        folder / f"fold_{fold}" / "checkpoint_final.pth",
    )
    return folder
