"""Make the fixtures again: outputs of the reference networks on seeded weights and inputs.

    python -m tests.models.parity.make atlas ATLAS_FOLDER COMMIT
    python -m tests.models.parity.make suprem SUPREM_FOLDER COMMIT
    python -m tests.models.parity.make nnunet FOLDER COMMIT
    python -m tests.models.parity.make segresnet

ATLAS_FOLDER is a checkout of https://github.com/MrGiovanni/AbdomenAtlas, SUPREM_FOLDER one
of https://github.com/MrGiovanni/SuPreM, FOLDER one of
https://github.com/MIC-DKFZ/dynamic-network-architectures; their code is run, not kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from tests.models.parity.seeded import FOLDER, digest, image, sampled, state
from torch import nn

ATLAS = "https://github.com/MrGiovanni/AbdomenAtlas"
SUPREM = "https://github.com/MrGiovanni/SuPreM"
NNUNET = "https://github.com/MIC-DKFZ/dynamic-network-architectures"
MONAI = "https://github.com/Project-MONAI/MONAI"
ORGAN_ROWS = [7, 3, 2, 1, 5, 10, 8, 0, 6]
"""Of aorta ... stomach among the 32 classes."""


def keep(
    name: str,
    module: nn.Module,
    x: torch.Tensor,
    source: dict[str, object],
    *,
    softmax: bool = False,
    rows: list[int] | None = None,
) -> None:
    own = module.state_dict()
    integers = {k: v for k, v in own.items() if not v.is_floating_point()}
    indices = {k: v for k, v in integers.items() if not k.endswith("num_batches_tracked")}
    keys = {key: list(value.shape) for key, value in own.items()}
    module.load_state_dict(state(keys, indices))
    with torch.inference_mode():
        logits = module.eval()(x)[0]
    probs = logits.softmax(0) if softmax else logits.sigmoid()
    probs = probs if rows is None else probs[rows]
    sys.stdout.write(f"{name}: {len(keys)} keys; logits sd {float(logits.std()):.2f}\n")
    np.savez_compressed(FOLDER / f"{name}.npz", probabilities=sampled(probs))
    (FOLDER / f"{name}.json").write_text(
        json.dumps(
            {
                "source": source,
                "torch": torch.__version__,
                "input": list(x.shape[2:]),
                "keys": keys,
                "indices": {k: digest(v) for k, v in indices.items()},
            },
            indent=None,
            separators=(",", ":"),
        )
        + "\n"
    )


def atlas(folder: Path, commit: str) -> None:
    sys.path.insert(0, str(folder))
    from model.Universal_model import Universal_model

    for backbone, shape in (("unet", (32, 32, 16)), ("swinunetr", (64, 32, 32))):
        name = {"unet": "universal_unet", "swinunetr": "universal_swin_unetr"}[backbone]
        module = Universal_model(
            img_size=(96, 96, 96),
            in_channels=1,
            out_channels=32,
            backbone=backbone,
            encoding="word_embedding",
        )
        source = {"repository": ATLAS, "commit": commit, "code": "model/Universal_model.py"}
        keep(name, module, image(name, shape), source, rows=ORGAN_ROWS)


PLAIN = {
    "n_stages": 4,
    "features_per_stage": [8, 16, 24, 24],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
    "n_conv_per_stage_decoder": [2, 2, 2],
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin_kwargs": {"inplace": True},
}


def suprem(folder: Path, commit: str) -> None:
    """The networks with a plain output layer, as SuPreM fine-tunes them."""
    code = Path("target_applications") / "totalsegmentator"
    sys.path.insert(0, str(folder / code))
    from model.SwinUNETR import SwinUNETR
    from model.unet3d import UNet3D

    def source(file: str) -> dict[str, object]:
        return {"repository": SUPREM, "commit": commit, "code": str(code / "model" / file)}

    module = UNet3D(n_class=32)
    keep(
        "suprem_unet",
        module,
        image("suprem_unet", (32, 32, 16)),
        source("unet3d.py"),
        rows=ORGAN_ROWS,
    )
    module = SwinUNETR((96, 96, 96), in_channels=1, out_channels=32, feature_size=48)
    x = image("suprem_swin_unetr", (64, 32, 32))
    keep("suprem_swin_unetr", module, x, source("SwinUNETR.py"), rows=ORGAN_ROWS)


def nnunet(folder: Path, commit: str) -> None:
    sys.path.insert(0, str(folder))
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    fixed = {
        "input_channels": 1,
        "num_classes": 5,
        "conv_op": nn.Conv3d,
        "norm_op": nn.InstanceNorm3d,
        "nonlin": nn.LeakyReLU,
        "deep_supervision": False,
    }
    source = {"repository": NNUNET, "commit": commit, "code": "architectures/unet.py"}
    for name, module in (
        ("nnunet_plain", PlainConvUNet(**PLAIN, **fixed, n_conv_per_stage=[2, 2, 2, 2])),
        ("nnunet_residual", ResidualEncoderUNet(**PLAIN, **fixed, n_blocks_per_stage=[1, 2, 2, 2])),
    ):
        # What nnU-Net's normalisation makes of HU; axes as in its arrays, z first.
        x = 4 * image(name, (16, 32, 48)) - 2
        keep(name, module, x, source, softmax=True)
    full = PlainConvUNet(
        **{
            **PLAIN,
            "n_stages": 6,
            "features_per_stage": [32, 64, 128, 256, 320, 320],
            "kernel_sizes": [[3, 3, 3]] * 6,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
            "n_conv_per_stage_decoder": [2] * 5,
        },
        **{**fixed, "num_classes": 10},
        n_conv_per_stage=[2] * 6,
    )
    keys = {key: list(value.shape) for key, value in full.state_dict().items()}
    (FOLDER / "nnunet_full_keys.json").write_text(
        json.dumps({"source": source, "keys": keys}) + "\n"
    )


def segresnet() -> None:
    import monai
    from monai.networks.nets import SegResNet

    module = SegResNet(
        blocks_down=[1, 2, 2, 4],
        blocks_up=[1, 1, 1],
        init_filters=16,
        in_channels=1,
        out_channels=32,
        dropout_prob=0.0,
    )
    source = {
        "repository": MONAI,
        "commit": monai.__version__,
        "code": "SegResNet as SuPreM's train.py makes it",
    }
    keep("segresnet", module, image("segresnet", (32, 32, 16)), source, rows=ORGAN_ROWS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "segresnet":
        segresnet()
    else:
        made = {"atlas": atlas, "suprem": suprem, "nnunet": nnunet}[sys.argv[1]]
        made(Path(sys.argv[2]), sys.argv[3])
