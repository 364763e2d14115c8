"""One training in two processes, as torch's launcher starts them: one result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.e2e.harness import free_port
from tests.server.tiny import GRID, write_ct, write_networks
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.errors import TrainingError
from atlas8k.core.settings import Settings
from atlas8k.core.volume import write_nifti
from atlas8k.models.checkpoint import Checkpoint, load_checkpoint
from atlas8k.models.store import ModelStore
from atlas8k.services.opening import open_context
from atlas8k.store import Holder
from atlas8k.training import ranks

SETTINGS = {
    "optimisers": {"unet": {"kind": "sgd", "lr": 0.05, "schedule": "polynomial"}},
    "averaging": 0.0,
    "patch": [8, 8, 8],
    "amp": False,
    "batch_size": 1,
    "workers": 0,
}


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies with two submitted labels, and networks."""
    folder = tmp_path_factory.mktemp("labeled")
    (folder / "studies").mkdir()
    write_networks(folder / "model")
    for seed, name in enumerate("ab"):
        write_ct(folder / "studies" / f"{name}.nii.gz", seed)
    context = open_context(Settings(device="cpu"), str(folder / "studies"), folder / "model")
    assert context.label_service is not None
    for first, name in enumerate("ab"):
        array = np.zeros(GRID.shape, np.uint8)
        array[8:12, 4:15, 6:10] = 5 + first
        array[4:7, 8:12, 6:10] = 8 + first
        path = write_nifti(folder / "sent.nii.gz", array, GRID)
        context.label_service.submit(name, path, Holder.identify(user="anna"))
    context.close()
    return folder


def command(folder: Path, **more: object) -> list[str]:
    given = ["fine-tune", str(folder / "studies"), "--models", str(folder / "model")]
    given += ["--network", "unet", "--epochs", "2", "--steps", "4", "--device", "cpu", "--no-gate"]
    return [*given, "--training", json.dumps({**SETTINGS, **more})]


def published(folder: Path) -> Checkpoint:
    served = ModelStore(folder / "model").served()
    assert served.folder != "embedded"
    return load_checkpoint(served.checkpoints["unet"])


def copied(labeled: Path, to: Path) -> Path:
    shutil.copytree(labeled, to)
    return to


def apart(a: Checkpoint, b: Checkpoint) -> float:
    return max(float((a.state[k].float() - b.state[k].float()).abs().max()) for k in a.state)


def launched(folder: Path, *launchers: Sequence[str]) -> Checkpoint:
    """What torch's launchers, beside each other, make of the labels of a folder."""
    begin = [sys.executable, "-m", "torch.distributed.run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    running = [
        subprocess.Popen(
            [*begin, *options, "-m", "atlas8k", *command(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for options in launchers
    ]
    said = [one.communicate(timeout=300) for one in running]
    assert [one.returncode for one in running] == [0] * len(running), said
    out, log = ("".join(texts) for texts in zip(*said, strict=True))
    assert out.count("are served") == 1
    assert log.count("unet: epoch 2 of 2") == 1
    result = published(folder)
    assert result.origin["processes"] == 2
    assert len(list((folder / "model" / "runs").iterdir())) == 1
    assert len(ModelStore(folder / "model").history()) == 1
    return result


def test_two_processes_are_one_training_with_twice_the_batches(
    labeled: Path, tmp_path: Path
) -> None:
    """Gradients averaged over two processes are those of two batches one after another.

    On one machine, and on two that share the studies and the networks.
    """
    torch.set_num_threads(1)
    machine = ["--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    result = launched(copied(labeled, tmp_path / "together"), machine)
    meet = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{free_port()}"]
    each = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv_id", "atlas8k", *meet]
    apart_ = launched(copied(labeled, tmp_path / "apart"), each, each)

    alone = {n: copied(labeled, tmp_path / f"alone{n}") for n in (1, 2)}
    for n, folder in alone.items():
        one = CliRunner().invoke(app, command(folder, accumulate=n))
        assert one.exit_code == 0, one.output
    moved = apart(result, load_checkpoint(labeled / "model" / "embedded" / "unet.safetensors"))
    assert apart(result, published(alone[2])) < 0.02 * moved
    assert apart(result, published(alone[1])) > 0.05 * moved
    assert apart(result, apart_) < 0.02 * moved


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match="2 processes and 1 GPUs"), ranks.together("cuda"):
        pass


def test_without_a_launcher_there_is_one_process() -> None:
    with ranks.together("cpu") as device:
        assert device == "cpu"
        assert (ranks.size(), ranks.number(), ranks.first()) == (1, 0, True)
        assert ranks.broadcast("x") == "x"
        assert ranks.mean(2.0, torch.device("cpu")) == 2.0
