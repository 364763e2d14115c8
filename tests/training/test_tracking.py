"""Curves of a training, as TensorBoard and MLflow read them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atlas8k.training.loop import Progress
from atlas8k.training.tracking import MOST_RUNS, Tracker


def progress(epoch: int, dsc: dict[str, float]) -> Progress:
    return Progress("unet", epoch, 2, epoch / 2, 1 / epoch, dsc, 1.0, 1.0, 1e-4, lambda: None)  # type: ignore[arg-type,return-value]


def followed(root: Path, uri: str = "") -> None:
    with Tracker(root, uri, {"epochs": 2, "cases": 3}) as tracker:
        tracker.epoch(progress(1, {}))
        tracker.epoch(progress(2, {"liver": 0.9, "spleen": 0.7}))
        tracker.result("published")


def test_tensorboard_shows_loss_and_dsc_by_organ(tmp_path: Path) -> None:
    followed(tmp_path)
    (events,) = (tmp_path / "runs").iterdir()
    read = EventAccumulator(str(events)).Reload()
    assert [(e.step, e.value) for e in read.Scalars("unet/loss")] == [(1, 1.0), (2, 0.5)]
    assert [(e.step, round(e.value, 6)) for e in read.Scalars("unet/dsc")] == [(2, 0.8)]
    assert read.Scalars("unet/dsc_spleen")[0].value == pytest.approx(0.7)
    assert any("result" in tag for tag in read.Tags()["tensors"])


def test_mlflow_has_the_run_its_settings_and_how_it_ended(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    followed(tmp_path, uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("atlas8k")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "2", "cases": "3"}
    assert run.data.tags["result"] == "published"
    history = client.get_metric_history(run.info.run_id, "unet/loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]


def test_what_cannot_be_recorded_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        followed(tmp_path, "http://127.0.0.1:9")
    assert caplog.text.count("curves are not recorded") == 2


def test_only_the_last_runs_are_kept(tmp_path: Path) -> None:
    for i in range(MOST_RUNS + 3):
        (tmp_path / "runs" / f"events_2000010{i:02d}T000000Z").mkdir(parents=True)
    followed(tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == MOST_RUNS
