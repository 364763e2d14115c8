"""A GPU that goes away in the middle of a run: told at once, and blamed on no CT.

No driver here loses one; the networks raise what PyTorch raises when CUDA does not answer.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.server.tiny import write_ct

from atlas8k.core.errors import CheckpointError, DeviceLostError
from atlas8k.core.settings import Settings
from atlas8k.core.structures import in_use
from atlas8k.core.volume import read_grid, write_nifti
from atlas8k.models import predict, resources
from atlas8k.models.store import ModelStore
from atlas8k.server.faults import status
from atlas8k.services.cluster.worker import Job, Task, Worker, package_version
from atlas8k.services.context import Context
from atlas8k.services.device_lock import DeviceLock, Turn
from atlas8k.services.scoring import Scoring, ThisProcess
from atlas8k.training.data import TrainingCase
from atlas8k.training.measuring import measure_both

LOCKS = Path("none"), "another machine"
LOST = "CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`"


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the networks' GPU answer so many volumes, and none after."""

    def after(volumes: int) -> None:
        whole, begun = predict.Predictor.predict, []

        def counted(self: Any, ct: Any) -> Any:
            begun.append(ct)
            return whole(self, ct)

        def forward(*arguments: Any) -> torch.Tensor:
            if len(begun) > volumes:
                raise torch.AcceleratorError(LOST)
            return answers(*arguments)

        answers = predict.forward
        monkeypatch.setattr(predict.Predictor, "predict", counted)
        monkeypatch.setattr(predict, "forward", forward)
        monkeypatch.setattr(resources, "answers", lambda device: False)

    return after


@pytest.mark.parametrize("ahead", [0, 2])
def test_the_run_ends_and_no_volume_has_failed(context: Context, lose: Any, ahead: int) -> None:
    lose(1)
    with pytest.raises(DeviceLostError, match=r"cpu cannot be used .*launch failure\).*CTs"):
        Scoring(context, workers=ThisProcess(context, ahead)).run()
    progress = context.ledger.progress(context.model_version())
    assert (progress.scored, progress.failed) == (1, 0)
    assert len(context.ledger.stale(context.model_version())) == 2
    assert all("launch failure" in why for why in context.engine.left_out().values())


def test_short_memory_is_another_matter(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = predict.forward, []

    def forward(*arguments: Any) -> torch.Tensor:
        asked.append(arguments)
        if len(asked) == 1:
            raise torch.AcceleratorError("CUDA error: out of memory")
        return answers(*arguments)

    monkeypatch.setattr(predict, "forward", forward)
    assert Scoring(context).run()["failed"] == 0


def test_an_error_of_one_ct_is_that_cts_where_the_device_answers(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, begun = predict.Predictor.predict, []

    def counted(self: Any, ct: Any) -> Any:
        begun.append(ct)
        return whole(self, ct)

    def forward(*arguments: Any) -> torch.Tensor:
        if len(begun) == 2:
            raise torch.AcceleratorError("CUDA error: invalid configuration argument")
        return answers(*arguments)

    answers = predict.forward
    monkeypatch.setattr(predict.Predictor, "predict", counted)
    monkeypatch.setattr(predict, "forward", forward)
    assert Scoring(context).run() == {"scored": 2, "failed": 1, "set_aside": 0}
    assert not resources.is_device_lost(torch.AcceleratorError(LOST), torch.device("cpu"))


def test_the_device_is_let_go_of_though_its_memory_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError(LOST)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    lock = DeviceLock(tmp_path)
    with pytest.raises(DeviceLostError), lock.turn(Turn.SCORING):
        raise DeviceLostError("cuda", "CUDA error: device lost")
    with lock.turn(Turn.SCORING):  # nobody holds it
        pass


def test_the_gate_judges_nothing_by_a_device_that_is_gone(
    context: Context, lose: Any, tmp_path: Path
) -> None:
    served = context.models.served().load()
    grid = read_grid(context.studies.image_path("a"))
    label = write_nifti(tmp_path / "label.nii.gz", np.zeros(grid.shape, np.uint8), grid)
    case = TrainingCase("a", context.studies.image_path("a"), label, ("liver",))
    lose(0)
    with pytest.raises(DeviceLostError):
        measure_both([case], served, served)


def test_a_worker_says_so_and_is_begun_again_only_with_a_gpu(
    tmp_path: Path, models: Path, lose: Any
) -> None:
    version = ModelStore(models).served().model_version
    job = Job(
        Settings(device="cpu"), in_use(), models, tmp_path, version, package_version(), *LOCKS
    )
    path = write_ct(tmp_path / "a.nii.gz", 1)
    lose(0)
    with pytest.raises(DeviceLostError):
        Worker(job, 1).score(Task("a", path))
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: it is there for the worker")
    with pytest.raises(CheckpointError, match="finds no GPU"):
        Worker(job, 1, gpu=True).ready()


def test_it_is_said_over_http_and_between_processes() -> None:
    error = DeviceLostError("cuda:0", "CUDA error: device lost")
    assert status(error) == 503
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.device) == (str(error), "cuda:0")
