"""Imported networks give the reference networks' numbers, on fixtures made by those."""

import json

import numpy as np
import pytest
import torch
from tests.models.parity.results import PLANS, fixture, new_plans, reference_state, results_folder
from tests.models.parity.seeded import FOLDER, image, sampled, state

from atlas8k.models.checkpoint import load_checkpoint, network
from atlas8k.models.importing import Options, import_weights
from atlas8k.models.networks import build
from atlas8k.models.store import ModelStore

TOLERANCE = 1e-4
AXES = (4, 3, 2)
"""nnU-Net's z, y, x to ours."""


def saved_and_loaded(imported, folder):
    return load_checkpoint(ModelStore(folder).add_imported(imported.checkpoint))


@pytest.mark.parametrize(
    ("name", "kind", "tensors"),
    [
        ("universal_unet", "unet", 117),
        ("universal_swin_unetr", "swin_unetr", 170),
        ("suprem_unet", "unet", 106),
        ("suprem_swin_unetr", "swin_unetr", 159),
        ("segresnet", "segresnet", 83),
    ],
)
def test_published_networks_to_1e_4_in_probability(name, kind, tensors, tmp_path):
    described, expected = fixture(name)
    path = tmp_path / f"{name}.pth"
    content = {f"module.{key}": value for key, value in reference_state(name).items()}
    torch.save({"net": content, "epoch": 2100, "optimizer": {"state": {}}}, path)
    imported = import_weights(path, kind)
    assert imported.tensors == tensors == len(described["keys"])
    assert len(imported.left_out) == 23
    checkpoint = saved_and_loaded(imported, tmp_path)
    with torch.inference_mode():
        logits = network(checkpoint)(image(name, described["input"]))[0]
    order = ["aorta", "gall_bladder", "kidney_left", "kidney_right", "liver", "pancreas"]
    order += ["postcava", "spleen", "stomach"]
    rows = [checkpoint.organs.index(organ) for organ in order]
    found = sampled(logits.sigmoid()[rows])
    # The fixture can tell networks apart: its probabilities are spread out.
    assert expected.std() > 0.1
    assert np.abs(found - expected).max() < TOLERANCE


def test_merging_of_newer_monai_would_be_another_network(tmp_path):
    # What silently goes wrong without the older merging, measured on the fixture.
    described, expected = fixture("universal_swin_unetr")
    architecture = {"name": "universal", "backbone": "swin_unetr", "out_channels": 32}
    module = build(architecture).eval()
    module.load_state_dict(reference_state("universal_swin_unetr"))
    from monai.networks.nets.swin_unetr import PatchMerging

    for part in module.modules():
        if type(part).__name__ == "OlderPatchMerging":
            part.__class__ = PatchMerging
    with torch.inference_mode():
        found = module(image("universal_swin_unetr", described["input"]))[0].sigmoid()
    rows = [7, 3, 2, 1, 5, 10, 8, 0, 6]
    assert np.abs(sampled(found[rows]) - expected).max() > 100 * TOLERANCE


def test_a_window_does_not_depend_on_the_others_in_its_batch(tmp_path):
    module = build({"name": "universal", "backbone": "unet", "width": 8, "out_channels": 3}).eval()
    module.load_state_dict(state({k: v.shape for k, v in module.state_dict().items()}))
    one, other = image("one", (16, 16, 16)), image("other", (16, 16, 16)) * 0.1
    with torch.inference_mode():
        alone = module(one)
        together = module(torch.cat((one, other)))
    assert torch.allclose(alone[0], together[0], atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def reference_input(name, preprocessing):
    """The fixture's input, normalised HU along z, y, x, as 0..1 along x, y, z."""
    described, _ = fixture(name)
    (low, high), (mean, deviation) = preprocessing.hu_window, preprocessing.hu_scale
    hu = (4 * image(name, described["input"]) - 2) * deviation + mean
    return ((hu - low) / (high - low)).permute(0, 1, *AXES)


def probabilities(checkpoint, name):
    with torch.inference_mode():
        logits = network(checkpoint)(reference_input(name, checkpoint.preprocessing))
    return logits.softmax(1)[0, 1:].permute(0, 3, 2, 1)


@pytest.mark.parametrize("plans", [PLANS, new_plans()], ids=["older plans", "newer plans"])
def test_nnunet_results_folder_to_1e_4_in_probability(plans, tmp_path):
    imported = import_weights(results_folder(tmp_path, plans=plans).parent)
    assert imported.tensors == 188
    assert imported.left_out == ("esophagus",)
    checkpoint = saved_and_loaded(imported, tmp_path)
    assert checkpoint.organs == ("liver", "aorta", "spleen")
    assert checkpoint.architecture["name"] == "dynunet"
    assert checkpoint.preprocessing.spacing_mm == (1.0, 1.25, 3.0)
    assert checkpoint.preprocessing.window_size == (48, 32, 16)
    assert checkpoint.preprocessing.hu_window == (-100.0, 220.0)
    assert checkpoint.origin["mirroring_axes"] == [1, 2]  # nnU-Net's z and y
    _, expected = fixture("nnunet_plain")
    found = sampled(probabilities(checkpoint, "nnunet_plain"))
    assert np.abs(found - expected[[1, 3, 4]]).max() < TOLERANCE


def test_nnunet_residual_encoder_through_its_own_package(tmp_path):
    pytest.importorskip("dynamic_network_architectures")
    plans = new_plans("ResidualEncoderUNet", "n_blocks_per_stage", (1, 2, 2, 2))
    imported = import_weights(results_folder(tmp_path, "nnunet_residual", plans))
    assert imported.tensors == 324
    checkpoint = saved_and_loaded(imported, tmp_path)
    _, expected = fixture("nnunet_residual")
    found = sampled(probabilities(checkpoint, "nnunet_residual"))
    assert np.abs(found - expected[[1, 3, 4]]).max() < TOLERANCE


def test_full_size_nnunet_has_the_tensors_that_are_expected(tmp_path):
    keys = json.loads((FOLDER / "nnunet_full_keys.json").read_text())["keys"]
    plans = new_plans()
    chosen = plans["configurations"]["3d_fullres"]
    chosen["patch_size"] = [128, 128, 128]
    chosen["architecture"]["arch_kwargs"] |= {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 320, 320],
        "kernel_sizes": [[3, 3, 3]] * 6,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
        "n_conv_per_stage": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
    }
    organs = ["aorta", "gall_bladder", "kidney_left", "kidney_right", "liver", "pancreas"]
    organs += ["postcava", "spleen", "stomach"]
    labels = {name: i for i, name in enumerate(["background", *organs])}
    # One number a tensor: the file is small, the shapes are those of the real one.
    weights = {key: torch.zeros(1).expand(shape) for key, shape in keys.items()}
    folder = results_folder(tmp_path, plans=plans, labels=labels, weights=weights)
    imported = import_weights(folder, "nnunet", Options(name="big"))
    assert imported.checkpoint.organs == tuple(organs)
    assert "outputs" not in imported.checkpoint.architecture
