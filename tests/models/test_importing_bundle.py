"""MONAI bundles: read as data, the network's own probabilities, refusals by name."""

import json

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet

from atlas8k.core.errors import CheckpointError
from atlas8k.models.checkpoint import network
from atlas8k.models.importing import import_weights

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
    "norm": "batch",
}
CONFIG = {
    "roi": {"size": [32, 32, 16]},
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [1.5, 1.5, 2.0],
                "mode": "bilinear",
            },
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -57,
                "a_max": 164,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@roi#size", "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
    },
}
CHANNELS = {"0": "background", "1": "Bone", "2": "Spleen"}


def bundle(root, module, config=CONFIG, channels=CHANNELS, version="1.4.0"):
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    metadata = {
        "version": "0.5.1",
        "monai_version": version,
        "network_data_format": {"outputs": {"pred": {"channel_def": channels}}},
    }
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    torch.save(module.state_dict(), root / "models" / "model.pt")
    return root


def unet():
    torch.manual_seed(0)
    return UNet(**{k: v for k, v in NETWORK.items() if k != "_target_"}).eval()


def test_a_bundles_network_and_preprocessing(tmp_path):
    module = unet()
    imported = import_weights(bundle(tmp_path / "spleen", module))
    checkpoint = imported.checkpoint
    assert checkpoint.name == "spleen"
    assert checkpoint.organs == ("spleen",)
    assert imported.left_out == ("Bone",)
    assert checkpoint.preprocessing.spacing_mm == (1.5, 1.5, 2.0)
    assert checkpoint.preprocessing.hu_window == (-57.0, 164.0)
    assert checkpoint.preprocessing.window_size == (32, 32, 16)
    x = torch.rand(1, 1, 32, 32, 16)
    with torch.inference_mode():
        ours = network(checkpoint)(x).softmax(1)
        theirs = module(x).softmax(1)
    assert torch.allclose(ours[:, 1], theirs[:, 2], atol=1e-5)


@pytest.mark.parametrize(
    ("version", "merging"), [("1.3.2", "older"), ("1.5.0", "merging"), ("1.6.1", "merging")]
)
def test_patch_merging_is_that_of_the_bundles_monai(version, merging, tmp_path):
    arguments = {"feature_size": 12, "num_heads": [1, 2, 4, 8], "in_channels": 1, "out_channels": 3}
    described = {"_target_": "SwinUNETR", "img_size": 96, "use_checkpoint": True, **arguments}
    root = bundle(
        tmp_path / "b",
        SwinUNETR(**arguments),
        {**CONFIG, "network_def": described},
        version=version,
    )
    assert import_weights(root).checkpoint.architecture["downsample"] == merging


def with_step(step):
    config = json.loads(json.dumps(CONFIG))
    config["preprocessing"]["transforms"].append(step)
    return config


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({**CONFIG, "network_def": {**NETWORK, "_target_": "os.system"}}, "os.system"),
        ({**CONFIG, "network_def": {**NETWORK, "channels": "$__import__('os')"}}, "expression"),
        ({**CONFIG, "network_def": {**NETWORK, "channels": "@nothing"}}, "@nothing"),
        ({**CONFIG, "network_def": "@network_def"}, "circle"),
        ({**CONFIG, "network_def": {**NETWORK, "in_channels": 4}}, "in_channels"),
        (with_step({"_target_": "NormalizeIntensityd"}), "NormalizeIntensityd"),
        ({**CONFIG, "inferer": {}}, "roi_size"),
        ({**CONFIG, "network_def": {**NETWORK, "channels": [4, 16]}}, "of another shape"),
    ],
)
def test_what_a_bundle_may_not_say_is_refused(config, words, tmp_path):
    with pytest.raises(CheckpointError) as refused:
        import_weights(bundle(tmp_path / "b", unet(), config))
    assert words in str(refused.value)


@pytest.mark.parametrize("change", ["missing", "renamed", "shape"])
def test_a_bundle_with_one_tensor_wrong_is_refused_by_name(change, tmp_path):
    root = bundle(tmp_path / "b", unet())
    file = root / "models" / "model.pt"
    tensors = torch.load(file)
    key = next(k for k in tensors if k.endswith("conv.unit0.conv.weight"))
    value = tensors.pop(key)
    if change == "renamed":
        tensors[key + "s"] = value
    elif change == "shape":
        tensors[key] = value[1:]
    torch.save(tensors, file)
    with pytest.raises(CheckpointError) as refused:
        import_weights(root)
    assert key in str(refused.value)
    assert "model.pt" in str(refused.value)


def dynunet():
    torch.manual_seed(0)
    return DynUNet(**{k: v for k, v in DYNUNET.items() if k != "_target_"}).eval()


def segresnet():
    torch.manual_seed(0)
    return SegResNet(**{k: v for k, v in SEGRESNET.items() if k != "_target_"}).eval()


def swin():
    torch.manual_seed(0)
    return SwinUNETR(**{k: v for k, v in SWIN.items() if k != "_target_"}).eval()


IN_OUT = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}
DYNUNET = {
    "_target_": "DynUNet",
    **IN_OUT,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [4, 8, 8],
}
SEGRESNET = {"_target_": "monai.networks.nets.SegResNet", **IN_OUT, "init_filters": 8}
SWIN = {"_target_": "SwinUNETR", **IN_OUT, "feature_size": 12, "num_heads": [1, 2, 4, 8]}


@pytest.mark.parametrize(
    ("make", "described"),
    [(dynunet, DYNUNET), (segresnet, SEGRESNET), (swin, SWIN)],
    ids=["DynUNet", "SegResNet", "SwinUNETR"],
)
def test_every_kind_of_bundle_to_1e_4_in_probability(make, described, tmp_path):
    module = make()
    config = {**CONFIG, "network_def": described}
    checkpoint = import_weights(bundle(tmp_path / "b", module, config, version="1.6.1")).checkpoint
    x = torch.rand(1, 1, 64, 32, 32)
    with torch.inference_mode():
        ours = network(checkpoint)(x).softmax(1)
        theirs = module(x).softmax(1)
    assert theirs.std() > 0.01
    assert torch.allclose(ours[:, 1], theirs[:, 2], atol=1e-4)
