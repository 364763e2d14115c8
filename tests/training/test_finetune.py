"""Fine-tuning of a served set, new networks from phantoms, and the command for both."""

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.server.tiny import GRID, write_ct
from typer.testing import CliRunner

from atlas8k.cli import app, train_synthetic
from atlas8k.core.errors import TrainingError
from atlas8k.core.volume import write_nifti
from atlas8k.models.checkpoint import load_checkpoint, network, save_checkpoint
from atlas8k.services.training.cases import Seen
from atlas8k.training import finetune
from atlas8k.training.config import PAPER, TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import fine_tune
from atlas8k.training.generated import PhantomTrainingCase, make_missing
from atlas8k.training.scratch import EMBEDDED, new_checkpoint
from atlas8k.training.split import held_out

from .conftest import tiny

QUICK = TrainingConfig(epochs=1, steps_per_epoch=2, batch_size=1, workers=0)


def same(a, b) -> bool:
    return all(torch.equal(a.state[key], b.state[key]) for key in a.state)


def test_trains_the_named_networks_and_returns_the_whole_set(case, tmp_path):
    served = {"unet": tiny("unet"), "nnunet": tiny("nnunet")}
    path = save_checkpoint(tmp_path / "unet.safetensors", served["unet"], half=False)
    seen = []
    result = fine_tune(
        {**served, "unet": path},
        [case("a")],
        QUICK,
        networks=["unet"],
        on_epoch=lambda p: seen.append(p.network),
    )
    assert list(result) == ["unet", "nnunet"]
    assert seen == ["unet"]
    assert result["nnunet"] is served["nnunet"]
    assert not same(result["unet"], served["unet"])


def test_a_stop_leaves_the_rest_as_it_was(case):
    served = {"unet": tiny("unet"), "nnunet": tiny("nnunet")}
    stopped = False

    def stop(progress) -> None:
        nonlocal stopped
        stopped = True

    result = fine_tune(served, [case("a")], QUICK, on_epoch=stop, should_stop=lambda: stopped)
    assert not same(result["unet"], served["unet"])
    assert result["nnunet"] is served["nnunet"]


def test_what_is_watched_holds_every_organ(tmp_path, monkeypatch):
    """Not the first in the order of names, which are those of the first dataset."""
    made = [TrainingCase(f"A{i}", tmp_path, tmp_path, ("liver",)) for i in range(300)]
    made += [TrainingCase(f"Z{i}", tmp_path, tmp_path) for i in range(40)]
    watched = []

    def trained(start, cases, config, *, validation, **more):
        watched.extend(validation)
        return start

    monkeypatch.setattr(finetune, "train_network", trained)
    fine_tune({"unet": tiny("unet")}, made, QUICK)
    assert len(watched) == finetune.WATCHED
    assert any("stomach" in case.known_organs for case in watched)


def test_what_cannot_start_says_why(case):
    served = {"unet": tiny("unet")}
    with pytest.raises(TrainingError, match="no labeled case"):
        fine_tune(served, [], QUICK)
    with pytest.raises(TrainingError, match="no network"):
        fine_tune({}, [case("a")], QUICK)
    with pytest.raises(TrainingError, match="resnet is not served"):
        fine_tune(served, [case("a")], QUICK, networks=["resnet"])


def test_settings_are_checked():
    assert TrainingConfig().optimiser_for("nnunet") == PAPER["nnunet"]
    assert TrainingConfig.from_scratch().optimiser_for("unet").lr > PAPER["unet"].lr
    for wrong in ({"epoch": 3}, {"epochs": 0}, {"patch": (4, 4, 4)}, {"validation": 1.0}):
        with pytest.raises(ValidationError):
            TrainingConfig(**wrong)


def test_the_papers_rates_are_the_defaults_and_every_one_can_be_set():
    config = TrainingConfig()
    for name in ("swin_unetr", "unet"):
        adam = config.optimiser_for(name)
        assert (adam.kind, adam.lr, adam.weight_decay) == ("adam", 1e-4, 1e-5)
    sgd = config.optimiser_for("nnunet")
    assert (sgd.kind, sgd.lr, sgd.weight_decay, sgd.schedule) == ("sgd", 1e-2, 3e-5, "polynomial")
    assert TrainingConfig.fine_tuning(optimisers="paper").optimisers == PAPER
    with pytest.raises(ValidationError, match="none of paper"):
        TrainingConfig(optimisers="fast")
    own = TrainingConfig(optimisers={"unet": {"lr": 3e-4}}, accumulate=4, augment=0.5)
    assert own.optimiser_for("unet").lr == 3e-4


def test_networks_of_the_papers_size_train_and_predict():
    sizes = {}
    for name in EMBEDDED:
        new = new_checkpoint(name, 0, "paper")
        assert new.preprocessing.spacing_mm == (1.5,) * 3
        assert new.preprocessing.window_size == (96,) * 3
        sizes[name] = sum(tensor.numel() for tensor in new.state.values())
    assert sizes["swin_unetr"] > 60e6
    assert min(sizes.values()) > 15e6
    module = network(new, torch.device("cpu"))
    image = torch.zeros(1, 1, 64, 64, 64)
    with torch.no_grad():
        assert module.train()(image).shape[:3] == (1, 4, 10)  # deep supervision
        assert module.eval()(image).shape == (1, 10, 64, 64, 64)
    with pytest.raises(TrainingError, match="small, paper"):
        new_checkpoint("unet", 0, "huge")


def test_a_new_network_learns_from_public_labels_that_were_imported(tmp_path):
    """Step 1, M0: each dataset has labeled organs of its own."""
    studies, labels = tmp_path / "studies", {n: tmp_path / n for n in ("LiTS", "MSD09")}
    for folder in (studies, *labels.values()):
        folder.mkdir()
    for seed, (name, dataset) in enumerate([("a", "LiTS"), ("b", "MSD09"), ("c", "LiTS")]):
        write_ct(studies / f"{name}.nii.gz", seed)
        array = np.zeros(GRID.shape, np.uint8)
        array[6:12, 6:12, 5:11] = 1  # the liver there, the spleen here
        write_nifti(labels[dataset] / f"{name}.nii.gz", array, GRID)
    for dataset, folder in labels.items():
        arguments = ["labels", "import", dataset, str(folder), "--studies", str(studies)]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    arguments = ["train", str(out), "--studies", str(studies), "--network", "unet", "--steps", "2"]
    arguments += ["--epochs", "1", "--threads", "1", "--training", '{"patch": [32, 32, 32]}']
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    made = load_checkpoint(out / "unet.safetensors")
    assert made.origin["cases"] == 3
    assert made.origin["config"]["patch"] == [32, 32, 32]
    assert not same(made, new_checkpoint("unet", 0))


def test_new_networks_are_three_small_ones_of_their_own_kind():
    checkpoints = [new_checkpoint(name, 0) for name in EMBEDDED]
    assert {c.architecture["name"] for c in checkpoints} == {"swin_unetr", "unet", "dynunet"}
    assert [c.activation for c in checkpoints] == ["sigmoid", "sigmoid", "softmax"]
    weights = [t for c in checkpoints for t in c.state.values() if t.is_floating_point()]
    assert 2 * sum(weight.numel() for weight in weights) < 16e6
    assert same(new_checkpoint("unet", 0), checkpoints[1])
    assert not same(new_checkpoint("unet", 1), checkpoints[1])
    with pytest.raises(TrainingError, match="swin_unetr, unet, nnunet"):
        new_checkpoint("resnet", 0)


def test_a_phantom_is_made_once_and_again_if_its_file_is_damaged(tmp_path):
    case = PhantomTrainingCase(123, tmp_path)
    make_missing([case])
    before = case.path.read_bytes()
    first = case.load(new_checkpoint("unet", 0).preprocessing)
    assert {5, 6, 8, 9} <= set(first.points)
    make_missing([case])
    assert case.path.read_bytes() == before
    case.path.write_bytes(before[:500])
    again = case.load(new_checkpoint("unet", 0).preprocessing)
    assert torch.equal(first.image, again.image)


def test_the_command_trains_on_with_own_labels(case, tmp_path):
    images, labels, models = (tmp_path / n for n in ("images", "labels", "models"))
    for folder in (images, labels):
        folder.mkdir()
    made = case("a", known=("liver",))
    made.ct_path.rename(images / "a.nii.gz")
    made.label_path.rename(labels / "a.nii.gz")
    start = tiny("unet")
    save_checkpoint(models / "unet.safetensors", start, half=False)
    common = ["train", str(tmp_path / "out"), "--images", str(images), "--labels", str(labels)]
    common += ["--checkpoints", str(models), "--network", "unet", "--epochs", "1", "--steps", "2"]
    done = CliRunner().invoke(app, [*common, "--organs", "Liver", "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "epoch 1" in done.output
    trained = load_checkpoint(tmp_path / "out" / "unet.safetensors")
    assert trained.architecture == start.architecture
    assert not same(trained, start)


def test_the_command_trains_a_new_network_and_then_trains_it_on(tmp_path, monkeypatch):
    monkeypatch.setattr(train_synthetic, "MEASURED_ON", 1)
    cache = tmp_path / "phantoms"
    seeds = (train_synthetic.FIRST_SEED - 1, train_synthetic.FIRST_SEED)
    make_missing([PhantomTrainingCase(seed, cache, train_synthetic.PHANTOMS) for seed in seeds])
    arguments = ["--phantoms", "1", "--cache", str(cache), "--network", "unet", "--threads", "1"]
    arguments += ["--epochs", "1", "--steps", "2", "--batch", "1"]
    first, second = tmp_path / "first", tmp_path / "second"
    done = CliRunner().invoke(app, ["train", str(first), *arguments])
    assert done.exit_code == 0, done.output
    assert "DSC" in done.output
    new = load_checkpoint(first / "unet.safetensors")
    assert new.origin["trained_from"] == {"random_weights": 0}
    again = ["train", str(second), *arguments, "--checkpoints", str(first)]
    done = CliRunner().invoke(app, [*again, "--learning-rate", "1e-9"])
    assert done.exit_code == 0, done.output
    onward = load_checkpoint(second / "unet.safetensors")
    assert onward.origin["trained_from"]["steps"] == 2
    for key, tensor in new.state.items():  # nothing moved at such a rate but by rounding
        assert torch.allclose(onward.state[key], tensor, atol=1e-3), key


def test_the_command_goes_on_with_the_network_it_was_at(case, tmp_path, monkeypatch):
    images, labels, models, out = (tmp_path / n for n in ("images", "labels", "models", "out"))
    for folder in (images, labels):
        folder.mkdir()
    for name in "abcdef":
        made = case(name, known=("liver",))
        made.ct_path.rename(images / f"{name}.nii.gz")
        made.label_path.rename(labels / f"{name}.nii.gz")
    for name in ("swin_unetr", "unet", "nnunet"):
        network = dataclasses.replace(tiny("nnunet" if name == "nnunet" else "unet"), name=name)
        save_checkpoint(models / f"{name}.safetensors", network, half=False)
    arguments = ["train", str(out), "--images", str(images), "--labels", str(labels)]
    arguments += ["--checkpoints", str(models), "--epochs", "2", "--steps", "2", "--threads", "1"]
    real = finetune.train_network

    def cut(start, *args, **more):
        if start.name == "nnunet":
            raise KeyboardInterrupt
        return real(start, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "train_network", cut)
        assert CliRunner().invoke(app, arguments).exit_code != 0
    assert sorted(path.name for path in out.glob("*.safetensors")) == [
        "swin_unetr.safetensors",
        "unet.safetensors",
    ]
    before = (out / "unet.safetensors").read_bytes()
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "nnunet  epoch 1" in done.output
    assert "unet  epoch 1 " not in done.output.replace("nnunet", "")
    assert load_checkpoint(out / "nnunet.safetensors").origin["steps"] == 4
    assert (out / "unet.safetensors").read_bytes() == before
    assert not (out / "training-state").exists()
    # Whom it has learned from is known to who serves it, as its own networks or embedded ones.
    (tmp_path / "served").mkdir()
    out.rename(tmp_path / "served" / "embedded")
    held = [name for name in "abcdef" if held_out(name, 0.1)]
    seen = Seen(tmp_path / "served")
    assert {name for name in "abcdef" if name in seen} == set("abcdef") - set(held)


def test_the_command_does_not_take_another_trainings_state_for_its_own(case, tmp_path, monkeypatch):
    images, labels, out = (tmp_path / n for n in ("images", "labels", "out"))
    for folder in (images, labels):
        folder.mkdir()
    made = case("a")
    made.ct_path.rename(images / "a.nii.gz")
    made.label_path.rename(labels / "a.nii.gz")
    for name, seed in (("one", 1), ("two", 2)):
        save_checkpoint(tmp_path / name / "unet.safetensors", tiny("unet", seed), half=False)
    arguments = ["train", str(out), "--images", str(images), "--labels", str(labels), "--threads"]
    arguments += ["1", "--network", "unet", "--epochs", "2", "--steps", "1", "--checkpoints"]
    real = finetune.train_network

    def cut(*args, **more):
        real(*args, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "train_network", cut)
        CliRunner().invoke(app, [*arguments, str(tmp_path / "one")])
    assert list(out.rglob("unet.state.pt"))
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "two")])
    assert done.exit_code == 0, done.output
    assert "epoch 1" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of --studies, --images with --labels, or --phantoms"),
        (
            ["--images", "x", "--phantoms", "3"],
            "one of --studies, --images with --labels, or --phantoms",
        ),
        (["--images", "x"], "--images needs --labels"),
        (["--phantoms", "1", "--training", "[1]"], "give a JSON object"),
        (["--images", "x", "--labels", "y", "--checkpoints", "z"], "x: no such folder"),
        (
            ["--images", "x", "--labels", "y", "--checkpoints", "z", "--organs", "lung"],
            "'lung' is none of",
        ),
    ],
)
def test_the_command_says_what_is_missing(arguments, words, tmp_path):
    done = CliRunner().invoke(app, ["train", str(tmp_path / "out"), *arguments])
    assert isinstance(done.exception, TrainingError)
    assert words in str(done.exception)
