"""Trained networks are served only if they are no worse, and can be rolled back."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.server.tiny import NETWORKS, checkpoint
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.errors import CheckpointError, TrainingError
from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import Checkpoint, Preprocessing, load_checkpoint, save_checkpoint
from atlas8k.models.networks import build
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context
from atlas8k.services.training import fine_tuning, publishing
from atlas8k.services.training.cases import Seen
from atlas8k.services.training.fine_tuning import STATE, FineTuning
from atlas8k.store import Holder
from atlas8k.training import data, measuring
from atlas8k.training.config import Optimiser, TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import fine_tune
from atlas8k.training.split import held_out

ANNA = Holder.identify(user="anna")
GRID = Grid((24, 20, 16), np.diag([-4.0, 4.0, 4.0, 1.0]))
FAST = {n: Optimiser(kind="adam", lr=1e-2, weight_decay=0) for n in NETWORKS}
SHORT = {"max_epochs": 2, "steps_per_epoch": 20}
SHARE = TrainingConfig().validation
NAMES = [f"v{i}" for i in range(400)]
HELD_OUT = [name for name in NAMES if held_out(name, SHARE)][:5]
TRAINED = [name for name in NAMES if not held_out(name, SHARE)][:4]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def truth(seed: int) -> npt.NDArray[np.uint8]:
    """A liver on the one side and a spleen on the other."""
    ids = np.zeros(GRID.shape, np.uint8)
    shift = seed % 3
    ids[14 + shift : 21, 5:15, 4:12] = 5
    ids[3 : 9 + shift, 5:15, 4:12] = 8
    return ids


def write_case(path: Path, seed: int) -> npt.NDArray[np.uint8]:
    ids = truth(seed)
    hu = np.random.default_rng(seed).normal(20, 5, GRID.shape)
    hu[ids == 5] += 150
    hu[ids == 8] -= 150
    write_nifti(path, hu.astype(np.int16), GRID)
    return ids


def untrained(name: str) -> Checkpoint:
    architecture = {
        **checkpoint(name).architecture,
        "channels": [8, 16],
        "num_res_units": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(NETWORKS.index(name))
        state = build(architecture).state_dict()
    return dataclasses.replace(
        checkpoint(name),
        architecture=architecture,
        preprocessing=Preprocessing(spacing_mm=(4.0,) * 3, window_size=(16,) * 3),
        state=state,
    )


def make_good(folder: Path) -> Path:
    """Networks that know a liver from a spleen."""
    cases = []
    for seed in range(3):
        ids = write_case(folder / f"{seed}.nii.gz", seed)
        label = write_nifti(folder / f"{seed}_label.nii.gz", ids, GRID)
        cases.append(TrainingCase(str(seed), folder / f"{seed}.nii.gz", label))
    config = TrainingConfig(
        epochs=4, steps_per_epoch=25, optimisers=FAST, workers=0, amp=False, averaging=0.9
    )
    trained = fine_tune({n: untrained(n) for n in NETWORKS}, cases, config)
    for name, one in trained.items():
        save_checkpoint(folder / "embedded" / f"{name}.safetensors", one)
    return folder / "embedded"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_good(tmp_path_factory.mktemp("good"))


@pytest.fixture
def models(tmp_path: Path, good: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "embedded").mkdir(parents=True)
    for path in good.iterdir():
        (folder / "embedded" / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    for seed, name in enumerate([*HELD_OUT, *TRAINED]):
        write_case(folder / f"{name}.nii.gz", seed)
    return folder


@pytest.fixture
def context(studies: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setattr("atlas8k.training.config.FINE_TUNING", FAST)
    opened = open_context(Settings(device="cpu"), str(studies), models)
    yield opened
    opened.close()


def shuffled_truth(name: str) -> npt.NDArray[np.uint8]:
    """Other organs than the true ones, and others in every case."""
    n = TRAINED.index(name)
    ids = truth([*HELD_OUT, *TRAINED].index(name))
    return np.choose(ids, [0, 0, 0, 0, 0, 8 - n, 0, 0, 5 - n, 0]).astype(np.uint8)


def submit(context: Context, tmp_path: Path, name: str, *, shuffled: bool = False) -> None:
    ids = shuffled_truth(name) if shuffled else truth([*HELD_OUT, *TRAINED].index(name))
    assert context.label_service is not None
    path = write_nifti(tmp_path / "sent.nii.gz", ids, GRID)
    context.label_service.submit(name, path, ANNA, {"volume_is_right": list(ORGAN_NAMES)})


def submit_all(
    context: Context, tmp_path: Path, held: int, *, shuffled: bool, trained: int = 4
) -> None:
    for name in HELD_OUT[:held]:
        submit(context, tmp_path, name)
    for name in TRAINED[:trained]:
        submit(context, tmp_path, name, shuffled=shuffled)


def run(context: Context, **request: Any) -> dict[str, Any]:
    return FineTuning(context).run({**SHORT, **request})


@pytest.mark.parametrize("held", [1, 5])
def test_shuffled_labels_are_refused_and_the_reason_is_there_to_read(
    context: Context, tmp_path: Path, held: int
) -> None:
    submit_all(context, tmp_path, held, shuffled=True)
    before = context.model_version()
    stats = run(context)
    assert context.model_version() == stats["model_version"] == before
    gate = stats["gate"]
    assert gate["publish"] == []
    assert (gate["basis"], gate["cases"]) == ("held out", held)
    assert set(gate["refused"]) == set(NETWORKS)
    assert all("fell from" in reason for reason in gate["refused"].values())
    # /info/ and the trainer's statistics are what clients read.
    message = context.status()["training"]
    assert message.startswith(f"not published, {before} is served still: swin_unetr: ")
    assert FineTuning(context).stats()["gate"] == gate
    aside = context.models.root / gate["kept_aside"]
    assert {path.stem for path in aside.glob("*.safetensors")} == set(NETWORKS)
    assert json.loads((aside / "gate.json").read_text())["refused"] == gate["refused"]
    load_checkpoint(aside / "unet.safetensors")
    assert any("fewer than 5" in warning for warning in gate["warnings"]) == (held < 5)
    assert HELD_OUT[0] not in Seen(context.models.root)
    assert not (context.models.root / STATE).exists()


def test_right_labels_are_published_and_rolled_back(context: Context, tmp_path: Path) -> None:
    submit_all(context, tmp_path, 5, shuffled=False)
    before = context.model_version()
    for name in context.studies.now().ids():
        context.ledger.record_failure(name, before, "as good as a score")
    stats = run(context, networks="unet")
    assert stats["gate"]["publish"] == ["unet"], stats["message"]
    assert context.model_version() == stats["model_version"] != before
    assert context.status()["failed"] == 0
    seen = Seen(context.models.root)
    assert all(name in seen for name in TRAINED)
    assert not any(name in seen for name in HELD_OUT)

    command = ["weights", "rollback", "--models", str(context.models.root)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert before in done.output
    assert context.model_version() == before
    assert context.status()["failed"] == len(HELD_OUT + TRAINED)  # valid again
    new = stats["model_version"]
    done = CliRunner().invoke(app, [*command, new[:6]])
    assert done.exit_code == 0, done.output
    assert context.model_version() == new
    done = CliRunner().invoke(app, [*command, "embedded"])
    assert context.model_version() == before
    done = CliRunner().invoke(app, [*command, "--history"])
    assert new in done.output
    assert f"served now: {before}" in done.output
    done = CliRunner().invoke(app, [*command, "abc"])
    assert isinstance(done.exception, CheckpointError)
    assert "no such set" in str(done.exception)
    assert context.model_version() == before


def test_without_the_gate_everything_is_published_and_said_loudly(
    studies: Path, context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    submit_all(context, tmp_path, 1, shuffled=True)
    before = context.model_version()
    open_gate = dataclasses.replace(context, settings=Settings(device="cpu", gate=False))
    with caplog.at_level(logging.WARNING):
        stats = run(open_gate, networks="unet")
    assert caplog.text.count("the gate is off") >= 2
    assert "the gate is off" in stats["message"]
    assert "the gate is off" in context.models.served().note
    assert stats["model_version"] == context.model_version() != before


def test_without_a_held_out_case_what_was_forgotten_is_seen(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_all(context, tmp_path, 0, shuffled=False, trained=2)
    real = fine_tuning.fine_tune

    def forgetful(*args: Any, **settings: Any) -> Any:
        return {name: untrained(name) for name in real(*args, **settings)}

    monkeypatch.setattr(fine_tuning, "fine_tune", forgetful)
    before = context.model_version()
    stats = run(context, max_epochs=1, steps_per_epoch=1)
    assert stats["gate"]["basis"] == "trained on"
    assert stats["gate"]["publish"] == []
    assert "no held-out case" in stats["message"]
    assert context.model_version() == before


def test_with_one_labeled_organ_what_is_forgotten_of_the_others_is_seen(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one organ that was trained on gets better, and every other one is gone."""
    label_service = context.label_service
    assert label_service is not None
    for name in HELD_OUT[:2]:
        label_service.keep_pseudo(name, truth(HELD_OUT.index(name)), GRID, {"model_version": "m"})
    ids = truth(len(HELD_OUT))
    path = write_nifti(tmp_path / "s.nii.gz", np.where(ids == 5, ids, 0).astype(np.uint8), GRID)
    label_service.submit(TRAINED[0], path, ANNA, {"volume_is_right": ["liver"]})
    real = fine_tuning.fine_tune

    def forgetful(*args: Any, **settings: Any) -> Any:
        made = real(*args, **settings)
        return {**made, "unet": without_spleen(made["unet"])}

    monkeypatch.setattr(fine_tuning, "fine_tune", forgetful)
    before = context.model_version()
    stats = run(context, max_epochs=1, steps_per_epoch=1, networks="unet")
    assert "pseudo labels of 2 volumes" in stats["gate"]["refused"]["unet"], stats["message"]
    assert "liver fell" not in stats["message"]
    assert context.model_version() == before


def without_spleen(one: Checkpoint) -> Checkpoint:
    """The network with its spleen channel switched off."""
    state = dict(one.state)
    key = [k for k, value in state.items() if k.endswith("bias") and value.shape == (9,)][-1]
    bias = state[key].clone()
    bias[7] -= 1000
    return dataclasses.replace(one, state={**state, key: bias})


def test_a_training_that_was_killed_goes_on_and_another_one_does_not(
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*args: Any, **settings: Any) -> Any:
        raise KilledError

    submit_all(context, tmp_path, 1, shuffled=False)
    two = {"networks": "unet, nnunet", "max_epochs": 3, "steps_per_epoch": 2}
    monkeypatch.setattr(fine_tuning, "settle", killed)
    with pytest.raises(KilledError):
        run(context, **two)
    state = context.models.root / STATE
    made = {p.name: p.read_bytes() for p in state.glob("*.done.safetensors")}
    assert set(made) == {"unet.done.safetensors", "nnunet.done.safetensors"}

    # Killed while it trained the second network.
    (state / "nnunet.done.safetensors").unlink()
    seen: list[str] = []
    monkeypatch.setattr(
        fine_tuning.Shown, "epoch", lambda _, progress: seen.append(progress.network)
    )
    with caplog.at_level(logging.INFO), pytest.raises(KilledError):
        run(context, **two)
    assert "going on with the training that was interrupted" in caplog.text
    assert seen == ["nnunet"] * 3
    assert (state / "nnunet.done.safetensors").read_bytes() == made["nnunet.done.safetensors"]

    submit(context, tmp_path, HELD_OUT[1])  # added: what is through needs it not
    with caplog.at_level(logging.INFO), pytest.raises(KilledError):
        run(context, **two)
    assert "with what was labeled since" in caplog.text
    submit(context, tmp_path, TRAINED[0], shuffled=True)  # replaced: it was learned from
    seen.clear()
    with caplog.at_level(logging.INFO), pytest.raises(KilledError):
        run(context, **two)
    assert "another one (cases differ)" in caplog.text
    assert seen == ["unet"] * 3 + ["nnunet"] * 3


def test_a_folder_that_cannot_be_written_is_named(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_all(context, tmp_path, 0, shuffled=False, trained=1)
    before = context.model_version()

    def full(*args: Any, **settings: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publishing, "_publish", full)
    with pytest.raises(TrainingError, match=r"No space left.*space"):
        run(context, max_epochs=1, steps_per_epoch=1)
    assert context.model_version() == before
    assert "failed" in context.status()["training"]
    assert FineTuning(context).stats()["total_time"] > 0


def test_an_inference_does_not_wait_for_volumes_that_are_read(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit_all(context, tmp_path, 1, shuffled=False)
    lock = context.state / "device" / "device.lock"
    read: dict[str, list[bool]] = {}

    def free() -> bool:
        with open(lock, "rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    for module in (data, measuring):

        def watched(path: Path, module: Any = module, real: Any = module.read_ct) -> Any:
            read.setdefault(module.__name__, []).append(free())
            return real(path)

        monkeypatch.setattr(module, "read_ct", watched)
    run(context, networks="unet", max_epochs=1, steps_per_epoch=1)
    assert len(read) == 2  # to train and watch, and for the gate
    assert all(all(found) for found in read.values())


def test_the_command_does_what_the_button_does(
    context: Context, studies: Path, models: Path, tmp_path: Path
) -> None:
    submit_all(context, tmp_path, 1, shuffled=True)
    before = context.model_version()
    command = ["fine-tune", str(studies), "--models", str(models), "--device", "cpu"]
    command += ["--epochs", "2", "--steps", "20", "--network", "unet"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert f"not published, {before} is served still: unet: " in done.output
    assert "kept-aside" in done.output
    done = CliRunner().invoke(app, [*command, "--no-gate"])
    assert done.exit_code == 0, done.output
    assert "the gate is off" in done.output
    assert context.model_version() != before
