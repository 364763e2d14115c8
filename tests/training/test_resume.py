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

from atlas8k.core.volume import read_label, write_nifti
from atlas8k.models.checkpoint import load_checkpoint, save_checkpoint
from atlas8k.training.config import Optimiser, TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import fine_tune
from atlas8k.training.resume import state_folder, times_added
from atlas8k.training.split import held_out

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
        assert not folder(cases=[known, cases[1]])  # an organ was taken back
        assert "(cases differ)" in caplog.text
        assert folder()  # and came again: that is more, not less
        assert not folder(cases=cases[1:])
        assert not folder(cases=cases[:1])
        save_checkpoint(served["unet"], tiny("unet", seed=9), half=False)
        assert not folder()
        label = read_label(cases[0].label_path)
        label.array[0, 0, 0] = 5
        write_nifti(cases[0].label_path, label.array, label.grid)
        assert not folder()
    for damaged in ("{", "[]", '{"training": {"cases": [1]}, "added": 0}', '{"training": {}}'):
        (root / "training.json").write_text(damaged)
        assert not folder(), damaged


def test_labels_that_were_added_do_not_begin_it_anew(case, served, tmp_path, caplog):
    root = tmp_path / "state"
    two = case("b", 2, known=("liver", "spleen"))
    part = dataclasses.replace(two, label_path=case("b_part", 2, known=("liver",)).label_path)
    part = dataclasses.replace(part, known_organs=("liver",))
    cases, third = [case("a", 1), part], case("c", 3)

    def goes_on(cases: list[TrainingCase]) -> bool:
        (root / "mark").touch()
        state_folder(root, served, NETWORKS, cases, CONFIG)
        return (root / "mark").exists()

    with caplog.at_level(logging.INFO):
        state_folder(root, served, NETWORKS, cases, CONFIG)
        assert goes_on([*cases, third])
        assert "1 more volumes, 0 of them to measure on, and more organs of 0" in caplog.text
        assert times_added(root) == 1
        assert goes_on([cases[0], two, third])
        assert "0 more volumes, 0 of them to measure on, and more organs of 1" in caplog.text
        assert times_added(root) == 2
        assert goes_on([cases[0], two, third])
        assert times_added(root) == 2
        # Another CT under the name, whatever was labeled in it.
        other = case("b", 4, known=("liver", "spleen", "aorta"))
        assert not goes_on([cases[0], other, third])
        assert times_added(root) == 0


def test_what_was_learned_from_is_never_measured_on(case, served, tmp_path):
    """The fifth label holds cases out; a training that has learned from one begins anew."""
    names = [f"v{i}" for i in range(40)]
    apart = [name for name in names if held_out(name, CONFIG.validation)]
    within = [name for name in names if name not in apart]
    four = [case(apart[0], 1), *(case(name, i) for i, name in enumerate(within[:3]))]
    root = tmp_path / "state"
    state_folder(root, served, NETWORKS, four, CONFIG)
    (root / "mark").touch()
    five = [*four, case(within[3], 7)]
    state_folder(root, served, NETWORKS, five, CONFIG)
    assert not (root / "mark").exists()
    (root / "mark").touch()
    state_folder(root, served, NETWORKS, [*five, case(apart[1], 8)], CONFIG)
    assert (root / "mark").exists()


def test_stopped_for_a_label_it_learns_from_it_and_ends(case, served, tmp_path):
    """What was learned before is kept, and the epochs that are left see the new label."""
    cases = [case("a", 1), case("b", 2)]
    whole = train(tmp_path / "whole", served, cases)
    root = tmp_path / "state"
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3 * CONFIG.steps_per_epoch + 1  # the first time is before the first step

    folder = state_folder(root, served, NETWORKS, cases, CONFIG)
    fine_tune(served, cases, CONFIG, should_stop=stop, state_folder=folder)
    epochs = []
    more = [*cases, case("c", 3)]
    folder = state_folder(root, served, NETWORKS, more, CONFIG)
    made = fine_tune(
        served,
        more,
        CONFIG,
        on_epoch=lambda progress: epochs.append((progress.network, progress.epoch)),
        state_folder=folder,
    )
    assert epochs[:2] == [("unet", 4), ("unet", 5)]
    assert epochs[2:] == [("nnunet", n) for n in range(1, 6)]
    assert made["unet"].origin["cases"] == 3
    assert not same(made["unet"], whole["unet"])


def test_killed_before_its_result_is_stored_nothing_is_trained_again(
    case, served, tmp_path, monkeypatch
):
    cases = [case("a", 1)]
    root = tmp_path / "state"

    def cut(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("atlas8k.training.finetune.save_checkpoint", cut)
        with pytest.raises(KeyboardInterrupt):
            train(root, served, cases)
    folder = state_folder(root, served, NETWORKS, cases, CONFIG)
    epochs: list[str] = []
    fine_tune(
        served,
        cases,
        CONFIG,
        on_epoch=lambda progress: epochs.append(progress.network),
        state_folder=folder,
    )
    assert epochs == ["nnunet"] * CONFIG.epochs
    assert not list(root.glob("*.state.pt"))


def test_a_label_made_anew_from_the_same_is_the_same(case, served, tmp_path):
    """As at every prediction, for organs that nobody has labeled: it names other networks."""
    one = dataclasses.replace(case("a", 1), content="submission 3")
    root = tmp_path / "state"
    state_folder(root, served, NETWORKS, [one], CONFIG)
    (root / "mark").touch()
    label = read_label(one.label_path)
    label.array[0, 0, 0] = 1  # a pseudo label, which is not learned from
    write_nifti(one.label_path, label.array, label.grid)
    state_folder(root, served, NETWORKS, [one], CONFIG)
    assert (root / "mark").exists()
    other = dataclasses.replace(one, content="submission 4")
    state_folder(root, served, NETWORKS, [other], CONFIG)
    assert not (root / "mark").exists()


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
