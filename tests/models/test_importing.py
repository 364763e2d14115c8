"""What is brought, what is refused and in which words, and where it is kept."""

import dataclasses
import hashlib
import json
import sys

import numpy as np
import pytest
import torch
from tests.models.parity.results import PLANS, new_plans, reference_state, results_folder
from tests.models.parity.seeded import image, state
from tests.models.tiny import body_ct, tiny

from atlas8k.core.errors import CheckpointError
from atlas8k.models.checkpoint import (
    Preprocessing,
    layout,
    load_checkpoint,
    network,
    save_checkpoint,
)
from atlas8k.models.ensemble import mean_probability
from atlas8k.models.importing import Options, import_weights
from atlas8k.models.networks import build
from atlas8k.models.predict import Predictor
from atlas8k.models.preprocess import adapt
from atlas8k.models.store import ModelStore

SMALL = {
    "unet": {"name": "universal", "backbone": "unet", "width": 8, "out_channels": 32},
    "segresnet": {
        "name": "segresnet",
        "init_filters": 16,
        "blocks_down": [1, 2, 2, 4],
        "blocks_up": [1, 1, 1],
        "out_channels": 32,
    },
}


AS = {"suprem_unet": "unet", "universal_swin": "swin_unetr"}
"""What the user calls them, where that is another word."""


def weights(kind):
    """A state dict of the published layout, small."""
    own = build(SMALL[kind]).state_dict()
    indices = {k: v for k, v in own.items() if not v.is_floating_point()}
    found = state({k: v.shape for k, v in own.items()}, indices)
    if kind in ("unet", "suprem_unet"):
        for key in [k for k in found if k.endswith("bn1.weight")]:
            stem, size = key.removesuffix("weight"), found[key].shape
            found |= state({stem + "running_mean": size, stem + "running_var": size})
            found[stem + "num_batches_tracked"] = torch.tensor(7)
    return found


def written(path, tensors, prefix="module."):
    torch.save({"net": {prefix + k: v for k, v in tensors.items()}}, path)
    return path


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("change", ["missing", "renamed", "shape", "more"])
def test_one_tensor_wrong_is_refused_by_name(kind, change, tmp_path):
    tensors = weights(kind)
    key = sorted(k for k in tensors if tensors[k].ndim == 5)[3]
    words = [key]
    if change == "missing":
        del tensors[key]
    elif change == "renamed":
        tensors["other.weight"] = tensors.pop(key)
        words.append("other.weight")
    elif change == "shape":
        tensors[key] = tensors[key][1:]
        words.append(str(tuple(tensors[key].shape)))
    else:
        tensors["one.more"] = torch.zeros(1)
        words = ["one.more"]
    path = written(tmp_path / "w.pth", tensors)
    with pytest.raises(CheckpointError) as refused:
        import_weights(path, AS.get(kind, kind))
    assert all(word in str(refused.value) for word in [*words, "w.pth"]), str(refused.value)


@pytest.mark.parametrize("kind", SMALL)
def test_origin_travels_and_prefixes_do_not_matter(kind, tmp_path):
    tensors = weights(kind)
    one = import_weights(written(tmp_path / "a.pth", tensors), AS.get(kind, kind)).checkpoint
    two = import_weights(written(tmp_path / "b.pth", tensors, "module._orig_mod."), None).checkpoint
    assert one.state.keys() == two.state.keys()
    assert all(torch.equal(one.state[k], two.state[k]) for k in one.state)
    assert (len(one.organs), one.activation) == (9, "sigmoid")
    assert one.preprocessing == Preprocessing((1.5,) * 3, (-175, 250), (96,) * 3, 0.5)
    assert one.origin["sha256"] == hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    assert one.origin["file"] == "a.pth"
    assert one.origin["tensors"] == len(tensors)


def test_kept_as_float32_and_loaded_without_unpickling(tmp_path):
    checkpoint = import_weights(written(tmp_path / "w.pth", weights("unet")), "unet").checkpoint
    installed = ModelStore(tmp_path)
    loaded = load_checkpoint(installed.add_imported(checkpoint))
    assert all(torch.equal(loaded.state[k], v) for k, v in checkpoint.state.items())
    with pytest.raises(CheckpointError, match="--replace"):
        installed.add_imported(checkpoint)
    installed.add_imported(checkpoint, replace=True)
    with pytest.raises(CheckpointError, match="unet"):
        installed.load_imported("nothing")


class Evil:
    def __reduce__(self):
        return (print, ("ran",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"net": {"a": torch.zeros(1)}, "extra": Evil()}, "would run its code"),
        ([1, 2], "not named tensors"),
        ({"epoch": 3}, "no tensors"),
        ({"net": {"a": torch.zeros(1)}}, "--as"),
        (None, "no complete file"),
    ],
)
def test_what_is_no_state_dict_is_refused(content, words, tmp_path, capsys):
    path = tmp_path / "w.pth"
    if content is None:
        path.write_bytes(b"<html>not found</html>")
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=words):
        import_weights(path)
    assert "ran" not in capsys.readouterr().out


def test_a_backbone_alone_segments_nothing_and_says_so(tmp_path):
    tensors = {k: v for k, v in weights("unet").items() if k.startswith("backbone.")}
    with pytest.raises(CheckpointError, match="without an output layer"):
        import_weights(written(tmp_path / "w.pth", tensors), "unet")


def test_classes_the_user_names(tmp_path):
    architecture = {"name": "suprem_unet", "width": 8, "out_channels": 3}
    found = state({k: v.shape for k, v in build(architecture).state_dict().items()})
    for key in [k for k in found if k.endswith("bn1.weight")]:
        stem, size = key.removesuffix("weight"), found[key].shape
        found |= state({stem + "running_mean": size, stem + "running_var": size})
        found[stem + "num_batches_tracked"] = torch.tensor(7)
    path = written(tmp_path / "w.pth", found, "module.backbone.")
    with pytest.raises(CheckpointError, match="--classes"):
        import_weights(path, "unet")
    with pytest.raises(CheckpointError, match="2 are named"):
        import_weights(path, "unet", Options(classes=("background", "liver")))
    with pytest.raises(CheckpointError, match="none of the nine"):
        import_weights(path, "unet", Options(classes=("background", "colon", "bone")))
    options = Options(classes=("background", "Colon", "IVC"))
    imported = import_weights(path, "unet", options)
    assert imported.checkpoint.organs == ("postcava",)
    assert imported.checkpoint.activation == "softmax"
    # The colon's part of the softmax is still there: it counts as background.
    plain = build(architecture).eval()
    plain.load_state_dict(
        {k: v for k, v in found.items() if "running" not in k and "num_b" not in k}
    )
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.inference_mode():
        ours = network(imported.checkpoint)(x).softmax(1)
        theirs = plain(x).softmax(1)
    assert torch.allclose(ours[:, 1], theirs[:, 2], atol=1e-5)
    assert torch.allclose(ours[:, 0], theirs[:, :2].sum(1), atol=1e-5)


def test_normalised_and_flipped_input_as_the_network_was_trained(tmp_path):
    module = tiny("nnunet")
    prep = Preprocessing((1.5,) * 3, (-100, 200), (16,) * 3, 0.5, (50.0, 60.0), "LPS")
    adapted = dataclasses.replace(module, preprocessing=prep)
    path = save_checkpoint(tmp_path / "a.safetensors", adapted, half=False)
    assert load_checkpoint(path).preprocessing == prep
    x = torch.rand(2, 1, 16, 16, 16)
    hu = x * 300 - 100
    with torch.inference_mode():
        ours = network(adapted)(x)
        theirs = network(module)(((hu - 50) / 60).flip(2, 3)).flip(2, 3)
        plain = network(module)(x)
    assert float((ours - theirs).abs().max()) < 1e-4
    assert float((ours - plain).abs().max()) > 1
    assert prep.fill == pytest.approx(0.5)


@pytest.mark.parametrize(
    "values",
    [{"hu_scale": (0, 0)}, {"hu_scale": (1,)}, {"orientation": "SRA"}, {"orientation": ""}],
)
def test_impossible_preprocessing_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Preprocessing(**values)


# --- nnU-Net -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "encoder.stages.1.0.convs.0.conv.weight",
        "encoder.stages.0.0.convs.1.norm.bias",
        "decoder.transpconvs.1.bias",
        "decoder.seg_layers.0.weight",
        "decoder.encoder.stages.2.0.convs.0.all_modules.0.weight",
    ],
)
@pytest.mark.parametrize("change", ["missing", "renamed", "shape"])
def test_one_tensor_of_nnunet_wrong_is_refused_by_name(key, change, tmp_path):
    tensors = reference_state("nnunet_plain")
    value = tensors.pop(key)
    if change == "renamed":
        tensors[key + "s"] = value
    elif change == "shape":
        tensors[key] = value[1:]
    with pytest.raises(CheckpointError) as refused:
        import_weights(results_folder(tmp_path, weights=tensors))
    assert key in str(refused.value)


def test_a_repeated_tensor_that_differs_is_refused(tmp_path):
    tensors = reference_state("nnunet_plain")
    key = "decoder.encoder.stages.2.0.convs.0.conv.weight"
    tensors[key] = tensors[key] + 1
    with pytest.raises(CheckpointError, match="differ"):
        import_weights(results_folder(tmp_path, weights=tensors))


def test_folds_and_folders(tmp_path):
    folder = results_folder(tmp_path, fold="2")
    assert "fold_2" in import_weights(folder).checkpoint.origin["file"]
    with pytest.raises(CheckpointError, match=r"fold_0; folds with one: 2"):
        import_weights(folder, "nnunet", Options(folds=("0", "2")))
    file = folder / "fold_2" / "checkpoint_final.pth"
    assert "fold_2" in import_weights(file).checkpoint.origin["file"]
    with pytest.raises(CheckpointError, match="results folder"):
        import_weights(tmp_path, "nnunet")
    results_folder(tmp_path, fold="all")
    assert import_weights(folder).checkpoint.origin["folds"] == ["all"]


def other_weights():
    """Another fold's: the same network, every tensor a little off."""
    found = reference_state("nnunet_plain")
    return {
        key: value * 0.8 if value.is_floating_point() else value for key, value in found.items()
    }


def test_folds_are_one_network_whose_logits_are_averaged(tmp_path):
    folder = results_folder(tmp_path, fold="0")
    results_folder(tmp_path, fold="1", weights=other_weights())
    results_folder(tmp_path, fold="3")
    both = import_weights(folder, options=Options(folds=("0", "1")))
    every = import_weights(folder)
    assert both.tensors == 2 * 188
    assert both.checkpoint.origin["folds"] == ["0", "1"]
    assert every.checkpoint.origin["folds"] == ["0", "1", "3"]
    assert len({both.checkpoint.origin["sha256"], *every.checkpoint.origin["fold_sha256"]}) == 3
    checkpoint = load_checkpoint(ModelStore(tmp_path).add_imported(both.checkpoint))
    windows = image("folds", (16, 32, 48))
    single = [
        import_weights(folder, options=Options(folds=(fold,))).checkpoint for fold in ("0", "1")
    ]
    with torch.inference_mode():
        first, second = (raw(one, windows) for one in single)
        assert (first - second).abs().max() > 0.1
        expected = joined((first + second) / 2, checkpoint)
        torch.testing.assert_close(network(checkpoint)(windows), expected, atol=1e-4, rtol=1e-4)


def raw(checkpoint, windows):
    """Logits of every class of the file, before they are joined to the organs'."""
    own = dict(checkpoint.architecture)
    own["out_channels"] = own.pop("outputs")["of"]
    module = build(own).eval()
    module.load_state_dict(dict(checkpoint.state))
    adapt(module, checkpoint.preprocessing)
    return module(windows)


def joined(logits, checkpoint):
    take = checkpoint.architecture["outputs"]["take"]
    return torch.cat([logits[:, some].logsumexp(1, keepdim=True) for some in take], 1)


@pytest.mark.parametrize("change", ["missing", "renamed", "shape"])
def test_a_fold_with_one_tensor_wrong_is_refused_by_name(change, tmp_path):
    folder = results_folder(tmp_path, fold="0")
    tensors, key = other_weights(), "decoder.transpconvs.1.bias"
    value = tensors.pop(key)
    if change == "renamed":
        tensors[key + "s"] = value
    elif change == "shape":
        tensors[key] = value[1:]
    results_folder(tmp_path, fold="1", weights=tensors)
    with pytest.raises(CheckpointError, match=rf"fold_1.*{key}"):
        import_weights(folder)


def test_folds_of_two_trainers_are_no_one_network(tmp_path):
    folder = results_folder(tmp_path, fold="0")
    results_folder(tmp_path, fold="1")
    file = folder / "fold_1" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save({**content, "trainer_name": "nnUNetTrainerNoMirroring"}, file)
    with pytest.raises(CheckpointError, match="trainer_name 'nnUNetTrainerNoMirroring'"):
        import_weights(folder)


def changed(path, value):
    plans = json.loads(json.dumps(new_plans()))
    part = plans
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return plans


CONFIGURATION = ("configurations", "3d_fullres")
ARGUMENTS = (*CONFIGURATION, "architecture", "arch_kwargs")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ((*CONFIGURATION, "patch_size"), [32, 32], "not 3D"),
        ((*CONFIGURATION, "previous_stage"), "3d_lowres", "3d_lowres"),
        ((*CONFIGURATION, "inherits_from"), "3d_fullres", "3d_fullres"),
        ((*CONFIGURATION, "normalization_schemes"), ["ZScoreNormalization"], "ZScore"),
        ((*CONFIGURATION, "architecture", "network_class_name"), "a.Primus", "Primus"),
        ((*ARGUMENTS, "conv_op"), "os.system", "os.system"),
        ((*ARGUMENTS, "colour"), 3, "colour"),
        ((*ARGUMENTS, "features_per_stage"), [8, 16], "stages"),
        ((*ARGUMENTS, "features_per_stage"), [8, 16, 24, 32], "of another shape"),
        (("transpose_forward",), [0, 0, 1], "transpose_forward"),
        (("foreground_intensity_properties_per_channel",), {}, "prepare"),
    ],
)
def test_plans_that_are_not_supported_are_refused_by_name(path, value, words, tmp_path):
    with pytest.raises(CheckpointError, match=words):
        import_weights(results_folder(tmp_path, plans=changed(path, value)))


def test_a_residual_network_without_its_package_says_which_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures", None)
    plans = new_plans("ResidualEncoderUNet", "n_blocks_per_stage", (1, 2, 2, 2))
    layout.cache_clear()  # another test may have built it
    with pytest.raises(CheckpointError, match=r"ResidualEncoderUNet.*pip install nnunetv2"):
        import_weights(results_folder(tmp_path, "nnunet_residual", plans))


@pytest.mark.parametrize("change", ["missing", "renamed", "shape"])
def test_one_tensor_of_a_residual_network_wrong_is_refused_by_name(change, tmp_path):
    pytest.importorskip("dynamic_network_architectures")
    plans = new_plans("ResidualEncoderUNet", "n_blocks_per_stage", (1, 2, 2, 2))
    tensors, key = reference_state("nnunet_residual"), "encoder.stages.1.blocks.0.conv1.conv.weight"
    value = tensors.pop(key)
    if change == "renamed":
        tensors[key + "s"] = value
    elif change == "shape":
        tensors[key] = value[1:]
    with pytest.raises(CheckpointError) as refused:
        import_weights(results_folder(tmp_path, "nnunet_residual", plans, weights=tensors))
    assert key in str(refused.value)


def test_regions_have_a_sigmoid_each(tmp_path):
    labels = {"background": 0, "liver": [1, 2], "kidney_left": [2], "a": 3, "b": 4, "spleen": 5}
    checkpoint = import_weights(results_folder(tmp_path, labels=labels)).checkpoint
    assert checkpoint.activation == "sigmoid"
    assert checkpoint.organs == ("liver", "kidney_left", "spleen")
    assert checkpoint.architecture["outputs"] == {"of": 5, "take": [[0], [1], [4]]}


def test_transposed_plans_are_turned_back(tmp_path):
    plans = {**PLANS, "transpose_forward": [2, 0, 1]}
    preprocessing = import_weights(results_folder(tmp_path, plans=plans)).checkpoint.preprocessing
    # The network's axes are x, z, y then.
    assert preprocessing.spacing_mm == (3.0, 1.0, 1.25)


# --- in use --------------------------------------------------------------------------


def test_listed_served_and_used_for_its_own_organs(tmp_path):
    store = ModelStore(tmp_path)
    store.publish({"unet": tiny("unet"), "swin_unetr": tiny("swin_unetr", window=(32, 32, 32))})
    checkpoint = import_weights(results_folder(tmp_path / "r"), None, Options(name="brought"))
    brought = checkpoint.checkpoint
    ModelStore(tmp_path).add_imported(brought)
    before = {n.name: n for n in store.networks()}
    assert not before["brought"].served
    assert before["brought"].organs == ("liver", "aorta", "spleen")
    assert before["brought"].sha256 == brought.origin["sha256"]
    assert before["unet"].served
    store.publish({"brought": brought})
    after = store.networks()
    assert [(n.name, n.served) for n in after if n.name == "brought"] == [("brought", True)]
    served = store.served()
    kept = load_checkpoint(served.checkpoints["brought"])
    assert all(torch.equal(kept.state[k], v) for k, v in brought.state.items())
    prediction = Predictor({n: served.load()[n] for n in ("unet", "brought")}).predict(
        body_ct((16, 16, 16))
    )
    row = prediction.names.index("brought")
    knows = dict(zip(prediction.organs, prediction.covered[row], strict=True))
    assert {organ for organ, covered in knows.items() if covered} == {"liver", "aorta", "spleen"}
    # Elsewhere the mean is the other network's alone.
    other = prediction.probs[1 - row].astype(np.float32)
    organ = prediction.organs.index("stomach")
    mean = mean_probability(prediction.probs, prediction.covered, organ)
    assert mean is not None
    assert np.allclose(mean, other[organ])


def test_a_set_of_its_own(tmp_path):
    store = ModelStore(tmp_path)
    store.publish({"unet": tiny("unet")})
    store.publish({"brought": tiny("nnunet")}, alone=True)
    assert list(store.served().checkpoints) == ["brought"]


def test_a_damaged_file_is_listed_as_such(tmp_path):
    store = ModelStore(tmp_path)
    store.publish({"unet": tiny("unet")})
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "broken.safetensors").write_bytes(b"abc")
    found = {n.name: n for n in store.networks()}
    assert "broken.safetensors" in found["broken"].problem


def test_a_network_that_fails_leaves_the_others(tmp_path, monkeypatch):
    store = ModelStore(tmp_path)
    store.publish({"unet": tiny("unet"), "b": tiny("unet", seed=1), "c": tiny("unet", seed=2)})
    served = store.served()
    served.checkpoints["b"].unlink()
    predictor = Predictor(served)
    assert set(predictor.names) == {"unet", "c"}
    assert "b" in predictor.failures
    module = predictor._networks["c"][1]
    monkeypatch.setattr(
        module, "forward", lambda x: (_ for _ in ()).throw(torch.OutOfMemoryError("no memory"))
    )
    prediction = predictor.predict(body_ct((20, 20, 20)))
    assert prediction.names == ("unet",)
    assert "no memory" in prediction.failures["c"]
    assert "b" in prediction.failures
