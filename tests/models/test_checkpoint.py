"""Checkpoints: what goes in comes out, and what is no checkpoint is refused by name."""

from __future__ import annotations

import dataclasses
import json
import pickle
import resource

import pytest
import safetensors
import safetensors.torch
import torch
from tests.models.tiny import ARCHITECTURES, tiny

from atlas8k.core.errors import CheckpointError
from atlas8k.models.checkpoint import (
    METADATA_KEY,
    Checkpoint,
    Preprocessing,
    load_checkpoint,
    network,
    read_header,
    save_checkpoint,
)


@pytest.fixture
def saved(tmp_path):
    return save_checkpoint(tmp_path / "unet.safetensors", tiny("unet"))


def rewrite(path, *, change=None, tensors=None):
    """Write the file again with its description or its tensors changed."""
    with safetensors.safe_open(path, framework="pt") as stream:
        header = json.loads(stream.metadata()[METADATA_KEY])
    found = safetensors.torch.load_file(path)
    if change is not None:
        change(header)
    if tensors is not None:
        tensors(found)
    safetensors.torch.save_file(found, path, metadata={METADATA_KEY: json.dumps(header)})
    return path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_full_precision_round_trip_is_exact(tmp_path, name):
    before = tiny(name)
    after = load_checkpoint(save_checkpoint(tmp_path / "c.safetensors", before, half=False))
    for field in ("name", "architecture", "activation", "preprocessing", "organs", "origin"):
        assert getattr(after, field) == getattr(before, field)
    assert list(after.state) == list(before.state)
    for key, tensor in before.state.items():
        assert after.state[key].dtype == tensor.dtype
        assert torch.equal(after.state[key], tensor)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_storage_rounds_weights_only_and_predicts_the_same(tmp_path, name):
    before = tiny(name, gain=1)
    path = save_checkpoint(tmp_path / "c.safetensors", before)
    stored = safetensors.torch.load_file(path)
    after = load_checkpoint(path)
    for key, tensor in before.state.items():
        if not tensor.is_floating_point():
            assert stored[key].dtype in (torch.int16, torch.bool)
        elif tensor.ndim >= 2:
            assert stored[key].dtype == torch.float16
        else:
            assert stored[key].dtype == torch.float32
        assert after.state[key].dtype == tensor.dtype
        assert torch.allclose(after.state[key], tensor, rtol=1e-3, atol=1e-6)
    window = torch.rand(1, 1, 64, 32, 32)
    with torch.inference_mode():
        gap = network(before)(window).sigmoid() - network(after)(window).sigmoid()
    assert gap.abs().max() < 0.01


def test_statistics_outside_the_range_of_float16_survive(tmp_path):
    checkpoint = tiny("unet", norm="BATCH")
    state = dict(checkpoint.state)
    variance = next(key for key in state if key.endswith("running_var"))
    state[variance] = torch.full_like(state[variance], 1e9)
    checkpoint = dataclasses.replace(checkpoint, state=state)
    after = load_checkpoint(save_checkpoint(tmp_path / "c.safetensors", checkpoint))
    assert torch.equal(after.state[variance], state[variance])


def test_a_weight_outside_the_range_of_float16_is_not_turned_into_infinity(tmp_path):
    checkpoint = tiny("unet", gain=1e7)
    after = load_checkpoint(save_checkpoint(tmp_path / "c.safetensors", checkpoint))
    for key, tensor in checkpoint.state.items():
        assert torch.allclose(after.state[key], tensor, rtol=1e-3, atol=1e-6)


def test_equal_checkpoints_are_equal_files(tmp_path):
    one = save_checkpoint(tmp_path / "one.safetensors", tiny("nnunet"))
    two = save_checkpoint(tmp_path / "two.safetensors", tiny("nnunet"))
    other = save_checkpoint(tmp_path / "other.safetensors", tiny("nnunet", seed=1))
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_loading_twice_changes_nothing(saved, tmp_path):
    again = save_checkpoint(tmp_path / "again.safetensors", load_checkpoint(saved))
    assert again.read_bytes() == saved.read_bytes()


def test_the_network_is_ready_to_predict(saved):
    module = network(load_checkpoint(saved))
    assert not module.training
    assert {p.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("make", [pickle.dumps, lambda _: b"", lambda _: bytes(range(256)) * 40])
def test_other_files_are_refused_without_being_executed(tmp_path, make):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(make({"state_dict": 1}))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: .*not a complete"):
        load_checkpoint(path)


def test_a_torch_pickle_is_refused(tmp_path):
    path = tmp_path / "supervised.pth"
    torch.save({"net": tiny().state}, path)
    with pytest.raises(CheckpointError, match=r"supervised\.pth: not a complete safetensors"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: no such file"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [4, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: kept if kept > 1 else int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"unet\.safetensors: not a complete safetensors"):
        load_checkpoint(saved)


def test_safetensors_without_our_description_are_refused(tmp_path):
    path = tmp_path / "bare.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"bare\.safetensors: .*description"):
        load_checkpoint(path)


def drop(key):
    return lambda header: header.pop(key)


def put(key, value):
    return lambda header: header.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("format", "atlas8k-checkpoint/9"), "atlas8k-checkpoint/9.*reads"),
        (drop("organs"), "lacks organs"),
        (drop("preprocessing"), "lacks preprocessing"),
        (put("organs", ["liver", "tail"]), "tail"),
        (put("organs", ["liver", "liver"]), "at most once"),
        (put("organs", ["liver", "spleen"]), "9 outputs.*2 organs needs 2"),
        (put("activation", "softmax"), "9 outputs.*needs 10"),
        (put("activation", "relu"), "'relu' is not one of sigmoid, softmax"),
        (put("preprocessing", {"spacing": 3}), "spacing"),
        (put("preprocessing", {"hu_window": [250, -175]}), "low < high"),
        (put("architecture", {"name": "segnet9000", "out_channels": 9}), "segnet9000"),
        (put("architecture", ["unet"]), r"\['unet'\] is not a JSON object"),
        (put("name", "../unet"), "file name"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(saved, change, message):
    with pytest.raises(CheckpointError, match=rf"(?s)unet\.safetensors: .*({message})"):
        load_checkpoint(rewrite(saved, change=change))


def test_a_checkpoint_of_another_architecture_is_refused_with_the_differences(saved):
    other = {**ARCHITECTURES["nnunet"], "out_channels": 9}
    with pytest.raises(CheckpointError, match=r"of dynunet: \d+ missing: .*; \d+ unexpected: "):
        load_checkpoint(rewrite(saved, change=put("architecture", other)))


def test_a_missing_tensor_is_named(saved):
    key = next(iter(tiny("unet").state))
    with pytest.raises(CheckpointError, match=f"1 missing: {key}$"):
        load_checkpoint(rewrite(saved, tensors=lambda found: found.pop(key)))


def test_a_renamed_tensor_is_named_both_ways(saved):
    key = next(iter(tiny("unet").state))

    def rename(found):
        found["module." + key] = found.pop(key)

    with pytest.raises(CheckpointError, match=f"1 missing: {key}; 1 unexpected: module.{key}$"):
        load_checkpoint(rewrite(saved, tensors=rename))


def test_a_tensor_of_another_shape_is_named_with_both_shapes(saved):
    key, tensor = next(iter(tiny("unet").state.items()))

    def grow(found):
        found[key] = torch.zeros(7, *tensor.shape[1:])

    shapes = rf"\(7, .*\) instead of \({tensor.shape[0]}, "
    with pytest.raises(CheckpointError, match=f"1 of another shape: {key} {shapes}"):
        load_checkpoint(rewrite(saved, tensors=grow))


def test_weights_that_are_no_numbers_are_refused(saved, tmp_path):
    key = next(iter(tiny("unet").state))

    def spoil(found):
        found[key] = torch.full_like(found[key], float("nan"))

    with pytest.raises(CheckpointError, match=f"NaN or infinity in {key}"):
        load_checkpoint(rewrite(saved, tensors=spoil))


def test_what_could_not_be_loaded_is_not_saved_and_the_old_file_stays(saved):
    before = saved.read_bytes()
    state = dict(tiny("unet").state)
    state.pop(next(iter(state)))
    with pytest.raises(CheckpointError, match="1 missing"):
        save_checkpoint(saved, dataclasses.replace(tiny("unet"), state=state))
    unwritable = dataclasses.replace(tiny("unet"), origin={"when": object()})
    with pytest.raises(CheckpointError, match="not JSON"):
        save_checkpoint(saved, unwritable)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_is_said_so_and_the_old_file_stays(saved, tmp_path):
    before = saved.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))  # as a disk that fills up
    try:
        with pytest.raises(CheckpointError, match=r"unet\.safetensors: cannot be written .*space"):
            save_checkpoint(saved, tiny("unet", seed=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [saved.name]


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="may be written to"):
        save_checkpoint(tmp_path / "file" / "unet.safetensors", tiny("unet"))


def test_the_description_is_read_without_the_tensors(saved):
    header = read_header(saved)
    assert header["preprocessing"]["spacing_mm"] == [6.0, 6.0, 6.0]
    assert header["origin"] == {"random_weights": 0}


@pytest.mark.parametrize(
    "values",
    [
        {"spacing_mm": (3, 3)},
        {"spacing_mm": (3, 3, 0)},
        {"spacing_mm": (3, 3, float("nan"))},
        {"window_size": (96, 96, 0)},
        {"window_size": (96, 96, 9.5)},
        {"overlap": 1.0},
        {"overlap": -0.1},
        {"hu_window": (0, float("inf"))},
    ],
)
def test_preprocessing_out_of_range_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Preprocessing(**values)


def test_a_checkpoint_without_organs_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Checkpoint("unet", {}, "sigmoid", Preprocessing(), organs=())
