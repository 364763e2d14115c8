"""Networks trained on whole volumes: one window over the patient, several where it must be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.models.tiny import body_ct, tiny

from atlas8k.core.grid_alignment import box_on
from atlas8k.models.body import body_box
from atlas8k.models.checkpoint import Checkpoint, Preprocessing, network
from atlas8k.models.predict import Predictor
from atlas8k.models.preprocess import prepare


def whole(name: str = "unet", most: tuple[int, int, int] = (64, 64, 64)) -> Checkpoint:
    checkpoint = tiny(name)
    wants = dataclasses.replace(checkpoint.preprocessing, window_size=most, whole=8)
    return dataclasses.replace(checkpoint, preprocessing=wants)


def windows_of(module: torch.nn.Module) -> list[tuple[int, ...]]:
    """Every shape that the module is run on from now on."""
    seen: list[tuple[int, ...]] = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    return seen


@pytest.mark.parametrize("name", ["unet", "nnunet", "swin_unetr"])
def test_the_probabilities_are_those_of_one_run_over_the_patient(name):
    checkpoint = whole(name)
    if name == "swin_unetr":
        wants = dataclasses.replace(checkpoint.preprocessing, whole=32)
        checkpoint = dataclasses.replace(checkpoint, preprocessing=wants)
    ct = body_ct()
    found = Predictor({name: checkpoint}, grid_mm=6.0).predict(ct)

    array, grid = prepare(ct, checkpoint.preprocessing)
    box = box_on(body_box(ct), ct.grid, grid)
    part = torch.from_numpy(array[box])
    pads = []
    for n in part.shape:
        lack = -n % checkpoint.preprocessing.whole
        pads.append((lack // 2, lack - lack // 2))
    padded = torch.nn.functional.pad(part, [n for pair in reversed(pads) for n in pair])
    with torch.inference_mode():
        logits = network(checkpoint)(padded[None, None])[0]
    probs = logits.softmax(0)[1:] if name == "nnunet" else logits.sigmoid()
    inside = tuple(slice(a, a + n) for (a, _), n in zip(pads, part.shape, strict=True))
    assert found.grid.shape == part.shape  # the meeting grid is the network's own here
    assert np.abs(found.probs[0].astype(np.float32) - probs[:, *inside].numpy()).max() < 2e-3


def test_what_is_beyond_the_largest_window_takes_several():
    predictor = Predictor({"unet": whole(most=(64, 64, 16))})
    seen = windows_of(predictor._networks["unet"][1])
    predictor.predict(body_ct((30, 30, 60)))
    assert set(seen) == {(32, 32, 16)}
    assert len(seen) > 3


def test_a_network_short_of_memory_goes_on_with_smaller_windows():
    predictor = Predictor({"unet": whole()}, grid_mm=6.0)
    module = predictor._networks["unet"][1]

    def short(_, inputs):
        if inputs[0].numel() > 16 * 32 * 32:
            raise torch.OutOfMemoryError("8 GiB asked for")

    module.register_forward_pre_hook(short)
    seen = windows_of(module)
    prediction = predictor.predict(body_ct((30, 30, 60)))
    assert not prediction.failures
    assert set(seen) == {(16, 32, 32)}  # 56 along z was tried, then 32


def test_networks_beside_each_other_predict_what_they_do_alone():
    networks = {name: whole(name) for name in ("unet", "nnunet")}
    both = Predictor(networks, grid_mm=6.0).predict(body_ct())
    for row, name in enumerate(networks):
        alone = Predictor({name: networks[name]}, grid_mm=6.0).predict(body_ct())
        assert np.array_equal(both.probs[row], alone.probs[0])


def test_one_that_fails_beside_others_is_left_out_and_named():
    predictor = Predictor({name: whole(name) for name in ("unet", "nnunet")})

    def fail(_, inputs):
        raise RuntimeError("a layer that is broken")

    predictor._networks["unet"][1].register_forward_pre_hook(fail)
    prediction = predictor.predict(body_ct())
    assert prediction.names == ("nnunet",)
    assert "a layer that is broken" in prediction.failures["unet"]


def test_a_window_is_made_of_whole_multiples():
    wants = Preprocessing(window_size=(64, 64, 96), whole=32)
    assert wants.window_for((33, 10, 500)) == (64, 32, 96)
    assert wants.smaller_window((64, 32, 96)) == (64, 32, 64)
    assert wants.smaller_window((64, 32, 64)) == (32, 32, 64)
    assert wants.smaller_window((32, 32, 32)) is None
    assert Preprocessing().window_for((5, 5, 5)) == (96, 96, 96)
    assert Preprocessing().smaller_window((96, 96, 96)) is None
    with pytest.raises(ValueError, match="whole 32"):
        Preprocessing(window_size=(64, 64, 100), whole=32)


def test_a_checkpoint_says_so_and_one_that_does_not_is_as_before(tmp_path):
    assert "whole" not in Preprocessing().as_json()
    assert Preprocessing(**Preprocessing(whole=32).as_json()).whole == 32
