"""Killed, failing or out of disk at every step of a training's save: one can go on from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.apart import CONTEXT
from tests.faults import MODES, Mode, at_every_step

from atlas8k.training import resume
from atlas8k.training.resume import Average, TrainingState

pytestmark = pytest.mark.slow


def state(epoch: int) -> TrainingState:
    """A network after so many epochs, with its optimiser's memory."""
    torch.manual_seed(0)
    module = torch.nn.Conv3d(2, 8, 3)
    optimiser = torch.optim.Adam(module.parameters())
    made = TrainingState("this training", module, optimiser, Average(module, 0.9), epoch)
    for _ in range(epoch):
        optimiser.zero_grad()
        module(torch.ones(1, 2, 4, 4, 4)).sum().backward()
        optimiser.step()
        made.average.update(module)
    return made


def save_state(path: Path, made: TrainingState) -> None:
    made.save(path)


def load_state(path: Path) -> int:
    """The epoch of a state that is whole: its weights are those of that epoch."""
    loaded = state(0)
    loaded.load(path)
    expected = state(loaded.epoch)
    for mine, theirs in zip(loaded.module.parameters(), expected.module.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    return loaded.epoch


def save_identity(path: Path, epoch: int) -> None:
    resume._write(path, {"cases": {}, "networks": {"unet": "x" * 20_000}}, epoch)


def load_identity(path: Path) -> int:
    identity, times = resume._read(path)
    assert identity
    return times


@pytest.mark.parametrize(
    ("make", "save", "load"),
    [(state, save_state, load_state), (int, save_identity, load_identity)],
    ids=["weights", "which training"],
)
@pytest.mark.parametrize("mode", MODES)
def test_at_every_step_one_of_both_epochs_is_there(
    tmp_path: Path,
    make: Callable[[int], Any],
    save: Callable[[Path, Any], None],
    load: Callable[[Path], int],
    mode: Mode,
) -> None:
    path = tmp_path / "state" / "unet.pt"
    path.parent.mkdir()
    save(path, make(1))
    shutil.copytree(path.parent, tmp_path / "kept")
    found = []
    for _ in at_every_step(mode, partial(make, 2), partial(save, path), context=CONTEXT):
        found.append(load(path))
        save(path, make(3))  # started again it goes on
        assert load(path) == 3
        shutil.rmtree(path.parent)
        shutil.copytree(tmp_path / "kept", path.parent)
    assert found[0] == 1
    assert found[-1] == 2
    assert len(found) > 3
