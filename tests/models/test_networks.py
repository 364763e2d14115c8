"""Architectures as JSON: what is built, and what is refused."""

import copy
import json

import pytest
import torch

from atlas8k.core.errors import CheckpointError
from atlas8k.models.networks import build
from atlas8k.training.scratch import EMBEDDED

SMALL = {
    "swin_unetr": {
        "name": "swin_unetr",
        "out_channels": 9,
        "feature_size": 12,
        "num_heads": [1, 2, 4, 8],
        "window_size": 4,
    },
    "unet": {"name": "unet", "out_channels": 9, "channels": [4, 8], "strides": [2]},
    "dynunet": {
        "name": "dynunet",
        "out_channels": 10,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
    },
}


@pytest.mark.parametrize("name", SMALL)
def test_logits_of_full_size_with_one_channel_an_output(name):
    module = build(SMALL[name]).eval()
    with torch.inference_mode():
        logits = module(torch.rand(1, 1, 64, 64, 64))
    assert logits.shape == (1, SMALL[name]["out_channels"], 64, 64, 64)
    # Logits, not probabilities: the head has no activation that would bound them.
    assert float(logits.min()) < 0


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_architectures_survive_json(name):
    text = json.dumps(dict(EMBEDDED[name]))
    module = build(json.loads(text))
    expected = build(EMBEDDED[name]).state_dict()
    assert {k: v.shape for k, v in module.state_dict().items()} == {
        k: v.shape for k, v in expected.items()
    }


def test_patch_merging_is_named_in_the_swin_architecture():
    # Another merging gives other outputs from the same weights, without any error.
    torch.manual_seed(0)
    module = build({**SMALL["swin_unetr"], "downsample": "mergingv2"}).eval()
    other = build({**SMALL["swin_unetr"], "downsample": "merging"}).eval()
    other.load_state_dict(module.state_dict())
    default = build(SMALL["swin_unetr"]).eval()
    default.load_state_dict(module.state_dict())
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        deepest = [net.swinViT(image)[-1] for net in (module, default, other)]
    assert torch.equal(deepest[0], deepest[1])
    assert not torch.allclose(deepest[0], deepest[2])
    assert EMBEDDED["swin_unetr"]["downsample"] == "mergingv2"


def test_every_tensor_of_a_dynunet_has_one_name_and_loads():
    module = build(SMALL["dynunet"]).eval()
    state = module.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) == len(state)
    assert not any("skip_layers" in key for key in state)
    twin = build(SMALL["dynunet"]).eval()
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert not torch.equal(module(image), twin(image))
        twin.load_state_dict(state)
        assert torch.equal(module(image), twin(image))
        assert torch.equal(module(image), copy.deepcopy(module)(image))


def test_deep_supervision_heads_in_training_only():
    module = build({**SMALL["dynunet"], "deep_supervision": True, "deep_supr_num": 1})
    image = torch.rand(1, 1, 16, 16, 16)
    assert module.train()(image).shape == (1, 2, 10, 16, 16, 16)
    assert module.eval()(image).shape == (1, 10, 16, 16, 16)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ({}, "None"),
        (
            {"name": "resnet", "out_channels": 9},
            "dynunet, nnunetv2, segresnet, suprem_unet, swin_unetr, unet, universal",
        ),
        ({"name": "unet", "channels": [4, 8], "strides": [2]}, "out_channels"),
        ({**SMALL["unet"], "out_channels": True}, "out_channels"),
        ({**SMALL["unet"], "out_channels": 0}, "out_channels"),
        ({**SMALL["unet"], "colour": "red"}, "colour"),
        ({**SMALL["unet"], "in_channels": 2}, "in_channels"),
        ({**SMALL["unet"], "channels": [4]}, "cannot be built"),
        ({**SMALL["swin_unetr"], "feature_size": 13}, "cannot be built"),
        ({**SMALL["swin_unetr"], "downsample": "tearing"}, "cannot be built"),
        ({"name": "dynunet", "out_channels": 10}, "cannot be built"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(architecture, words):
    with pytest.raises(CheckpointError, match="architecture") as caught:
        build(architecture)
    assert words in str(caught.value)
