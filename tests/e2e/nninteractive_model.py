"""Write a tiny network as nnInteractive's server loads one; run by the Python that has it.

    python nninteractive_model.py FOLDER [THRESHOLD]

With a threshold, its proposal is every voxel whose z-score of HU is above it, whatever is drawn:
so a test can say what comes back. Without one its weights are random.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CHANNELS = 8
"""The image, the segmentation before, and pairs for boxes, points and scribbles."""
LICENCE = "CC BY-NC-SA 4.0"
UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
PATCH = [64, 64, 64]
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset999_Tiny",
    "plans_name": "tiny",
    "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
    "original_median_shape_after_transp": PATCH,
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "experiment_planner_used": "ExperimentPlanner",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {},
    "configurations": {
        "tiny": {
            "data_identifier": "tiny",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 1,
            "patch_size": PATCH,
            "spacing": [1.0, 1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "batch_dice": False,
            "architecture": {
                "network_class_name": UNET,
                "arch_kwargs": {
                    "n_stages": 2,
                    "features_per_stage": [2, 2],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
                    "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1],
                    "conv_bias": True,
                },
                "_kw_requires_import": ["conv_op"],
            },
        }
    },
}


def write(folder: Path, threshold: float | None) -> None:
    """Write plans, checkpoint, what it can do, and its licence."""
    import torch
    from nnInteractive.trainer.nnInteractiveTrainer import nnInteractiveTrainer_stub
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    torch.manual_seed(0)
    plans = PlansManager(PLANS)
    net = nnInteractiveTrainer_stub.build_network_architecture(
        plans, plans.get_configuration("tiny"), CHANNELS, 2, enable_deep_supervision=False
    )
    if threshold is not None:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.zero_()
            net.encoder.stages[0][0].convs[0].conv.weight[0, 0, 1, 1, 1] = 1
            net.decoder.stages[0].convs[0].conv.weight[0, 2, 1, 1, 1] = 1  # the skip, after two
            net.decoder.seg_layers[-1].weight[1, 0] = 1
            net.decoder.seg_layers[-1].bias[1] = -threshold
    (folder / "fold_0").mkdir(parents=True)
    torch.save(
        {
            "network_weights": net.state_dict(),
            "trainer_name": "nnInteractiveTrainer_stub",
            "init_args": {"configuration": "tiny"},
        },
        folder / "fold_0" / "checkpoint_final.pth",
    )
    files = {
        "plans.json": PLANS,
        "dataset.json": {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "object": 1},
            "numTraining": 1,
            "file_ending": ".nii.gz",
        },
        "inference_session_class.json": {"point_radius": 2, "preferred_scribble_thickness": 2},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "LICENSE").write_text(f"{LICENCE}\nhttps://creativecommons.org\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else None)
