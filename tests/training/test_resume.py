"""A training killed with SIGKILL, three times, ends with the weights of one that was not."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import random
import signal
import threading
from pathlib import Path

import pytest
import torch

from atlas8k.models.checkpoint import load_checkpoint, save_checkpoint
from atlas8k.training.config import Optimiser, TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import fine_tune
from atlas8k.training.resume import state_folder
from atlas8k.volume import read_label, write_nifti

from .conftest import tiny

NETWORKS = ("unet", "nnunet")
CONFIG = TrainingConfig(
    epochs=5,
    steps_per_epoch=4,
    workers=2,
    amp=False,
    averaging=0.9,
    optimisers={
        "unet": Optimiser(kind="adam", lr=1e-2),
        "nnunet": Optimiser(kind="sgd", lr=1e-2, weight_decay=3e-5),
    },
)
STEPS_BEFORE = ((3, 10), (2, 8), (2, 6))
"""After how many steps each run is killed, at random: of 40 in all, so that none of them can
be through before, wherever the ones before it left off."""
LATER_S = 0.05
"""And so long after the step began, at random: in it, in the next, or while a state is written."""


def train(
    root: Path,
    served: dict[str, Path],
    cases: list[TrainingCase],
    stop_at: int | None = None,
    later_s: float = 0.0,
):
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == stop_at:
            threading.Timer(later_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return False

    folder = state_folder(root, served, NETWORKS, cases, CONFIG)
    return fine_tune(served, cases, CONFIG, should_stop=stop, state_folder=folder)


def child(*arguments) -> None:
    torch.set_num_threads(1)
    train(*arguments)


@pytest.fixture
def served(tmp_path: Path) -> dict[str, Path]:
    return {
        name: save_checkpoint(tmp_path / f"{name}.safetensors", tiny(name), half=False)
        for name in NETWORKS
    }


def same(a, b) -> bool:
    return all(torch.equal(a.state[key], b.state[key]) for key in a.state)


def test_killed_three_times_and_resumed_it_ends_with_the_same_weights(case, served, tmp_path):
    cases = [case("a", 1), case("b", 2)]
    whole = train(tmp_path / "whole", served, cases)
    root = tmp_path / "state"
    assert CONFIG.workers > 0
    assert CONFIG.augment > 0
    rng, points = random.SystemRandom(), []
    for low, high in STEPS_BEFORE:
        point = rng.randint(low, high), rng.uniform(0, LATER_S)
        process = multiprocessing.get_context("spawn").Process(
            target=child, args=(root, served, cases, *point)
        )
        process.start()
        process.join()
        points.append(point)
        assert process.exitcode == -signal.SIGKILL, points
    assert (root / "training.json").is_file()
    resumed = train(root, served, cases)
    for name in NETWORKS:
        assert same(whole[name], resumed[name]), (name, points)
        assert same(load_checkpoint(root / f"{name}.done.safetensors"), whole[name])


def test_another_training_begins_anew_and_says_what_differs(case, served, tmp_path, caplog):
    cases = [case("a", 1), case("b", 2)]
    root = tmp_path / "state"

    def folder(**change) -> bool:
        """Whether a mark left there is still there."""
        arguments = {"networks": NETWORKS, "cases": cases, "config": CONFIG, **change}
        state_folder(
            root,
            {**served, **change.pop("served", {})},
            **{key: arguments[key] for key in ("networks", "cases", "config")},
        )
        there = (root / "mark").exists()
        (root / "mark").touch()
        return there

    with caplog.at_level(logging.INFO):
        assert not folder()
        assert caplog.text == ""
        assert folder()
        assert "going on" in caplog.text
        assert folder(config=CONFIG.model_copy(update={"workers": 0, "validate_every": 1}))
        assert not folder(config=CONFIG.model_copy(update={"epochs": 6}))
        assert "(config differ)" in caplog.text
        assert not folder(cases=cases[:1])
        assert "(config, cases differ)" in caplog.text
        assert not folder(networks=("unet",))
        assert not folder()
        known = dataclasses.replace(cases[0], known_organs=("liver",))
        assert not folder(cases=[known, cases[1]])
        assert not folder()
        save_checkpoint(served["unet"], tiny("unet", seed=9), half=False)
        assert not folder()
        label = read_label(cases[0].label_path)
        label.array[0, 0, 0] = 5
        write_nifti(cases[0].label_path, label.array, label.grid)
        assert not folder()
    (root / "training.json").write_text("{")
    assert not folder()


def test_a_damaged_state_is_not_the_end(case, served, tmp_path, caplog):
    cases = [case("a", 1)]
    root = tmp_path / "state"
    whole = train(tmp_path / "whole", served, cases)
    state_folder(root, served, NETWORKS, cases, CONFIG)
    (root / "unet.done.safetensors").write_bytes(b"x")
    (root / "nnunet.state.pt").write_bytes(b"x")
    again = train(root, served, cases)
    assert "begins anew" in caplog.text
    assert all(same(whole[name], again[name]) for name in NETWORKS)
