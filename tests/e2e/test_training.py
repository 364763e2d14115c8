"""A training over HTTP: watched, stopped by a submission, and refused by the gate."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import requests
from tests.e2e.harness import APP, Server, running
from tests.e2e.small import LIMIT_S, get_label, put_label
from tests.services.training.test_gate import (
    GRID,
    HELD_OUT,
    NETWORKS,
    TRAINED,
    make_good,
    shuffled_truth,
    truth,
    write_case,
)

from atlas8k.core.volume import read_label, write_nifti

pytestmark = pytest.mark.slow
LONG = {"max_epochs": 10_000, "steps_per_epoch": 1, "networks": "unet,nnunet"}
SHORT = {"max_epochs": 2, "steps_per_epoch": 20}
RATE = {"kind": "adam", "lr": 1e-2, "weight_decay": 0}
VOLUMES = [*HELD_OUT[:2], *TRAINED]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Networks that know a liver from a spleen, and six CTs with both."""
    folder = tmp_path_factory.mktemp("training")
    app, studies = folder / "app", folder / "studies"
    (app / "model" / "embedded").mkdir(parents=True)
    studies.mkdir()
    shutil.copy(APP / "main.py", app)
    for path in make_good(tmp_path_factory.mktemp("good")).iterdir():
        shutil.copy(path, app / "model" / "embedded")
    for name in VOLUMES:
        write_case(studies / f"{name}.nii.gz", number(name))
    # MONAI Label's start script splits arguments at spaces.
    given = {"optimisers": dict.fromkeys(NETWORKS, RATE), "amp": False}
    training = json.dumps(given, separators=(",", ":"))
    # Their CTs are blocks of tissue without air: no content to look at.
    conf = ("--conf", "training", training, "--conf", "check_content", "false")
    with running(app, studies, folder, *conf) as started:
        yield started


def number(name: str) -> int:
    return [*HELD_OUT, *TRAINED].index(name)


def submit(server: Server, name: str, ids: npt.NDArray[np.uint8]) -> None:
    path = write_nifti(server.log.parent / "sent.nii.gz", ids, GRID)
    answer = put_label(server, path.read_bytes(), name)
    assert answer.status_code == 200, answer.text


def train(server: Server, **params: Any) -> requests.Response:
    return requests.post(f"{server.url}/train/atlas8k", json=params, timeout=LIMIT_S)


def stop(server: Server) -> Any:
    answer = requests.delete(f"{server.url}/train/", timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


def info(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{server.url}/info/", timeout=LIMIT_S).json()
    return found


def test_a_training_is_watched_and_a_submission_that_stops_it_loses_nothing(
    server: Server,
) -> None:
    """As 3D Slicer's auto-update: it stops what runs, submits, and starts again."""
    submit(server, HELD_OUT[0], truth(number(HELD_OUT[0])))
    for name in TRAINED:
        submit(server, name, shuffled_truth(name))
    before = info(server)["atlas8k"]["model_version"]
    assert train(server, **LONG).status_code == 200
    refused = train(server, **LONG)
    assert refused.status_code == 429
    assert "already running" in refused.json()["detail"]

    limit = time.monotonic() + 2 * LIMIT_S
    while (stats := info(server)["train_stats"].get("atlas8k", {})).get("epoch", 0) < 6:
        assert time.monotonic() < limit, server.text()[-3000:]
        time.sleep(0.2)
    assert stats["total_epochs"] == 20_000
    assert stats["network"] == "unet"
    assert stats["loss"] > 0
    assert stats["seconds_left"] > 0
    assert 0 < stats["best_metric"] <= 1
    assert set(stats["dsc"]) == {"liver", "spleen"}
    assert "total_time" not in stats  # 3D Slicer takes it for the end
    line = r"unet: epoch 5 of 10000, loss \d\.\d+, DSC \d\.\d+ \(liver .*\), about .+ left"
    assert re.search(line, server.text()), server.text()[-3000:]

    ids = truth(number(HELD_OUT[1]))
    submit(server, HELD_OUT[1], ids)
    assert stop(server)["status"] == "STOPPED"
    server.finish("train", LIMIT_S)
    kept = server.log.parent / "kept.nii.gz"
    kept.write_bytes(get_label(server, HELD_OUT[1]))
    assert np.array_equal(read_label(kept).array, ids)
    assert info(server)["datastore"]["completed"] == len(VOLUMES)
    assert info(server)["atlas8k"]["model_version"] == before

    # And started again it goes on where it was, with the label that made it stop.
    learned = info(server)["train_stats"]["atlas8k"]["epoch"]
    assert train(server, **LONG).status_code == 200
    limit = time.monotonic() + 2 * LIMIT_S
    while (stats := info(server)["train_stats"]["atlas8k"])["epoch"] <= learned:
        assert time.monotonic() < limit, server.text()[-3000:]
        time.sleep(0.2)
    assert stats["cases"] == len(VOLUMES)
    said = "with what was labeled since: 1 more volumes, 1 of them to measure on"
    assert said in server.text(), server.text()[-3000:]
    assert not re.search(r"unet: epoch 1 of 10000.*\n(.*\n)*.*unet: epoch 1 of", server.text())
    stop(server)
    server.finish("train", LIMIT_S)


def test_a_training_can_be_stopped_before_its_process_is_there(server: Server) -> None:
    assert stop(server) is None
    started = train(server, **LONG)
    assert stop(server)["id"] == started.json()["id"]
    running = requests.get(
        f"{server.url}/train/", params={"check_if_running": True}, timeout=LIMIT_S
    )
    assert running.status_code == 404, running.text
    assert stop(server) is None


def test_shuffled_labels_are_refused_and_the_reason_is_read_over_http(server: Server) -> None:
    before = info(server)["atlas8k"]["model_version"]
    assert train(server, **SHORT, networks="unet").status_code == 200
    task = server.finish("train", 5 * LIMIT_S)
    assert task["status"] == "DONE", task["details"]
    assert "an interrupted training was another one" in server.text()
    found = info(server)
    assert found["atlas8k"]["model_version"] == before
    stats = found["train_stats"]["atlas8k"]
    assert stats["model_version"] == before
    gate = stats["gate"]
    assert gate["publish"] == []
    assert (gate["basis"], gate["cases"]) == ("held out", 2)
    assert "fell from" in gate["refused"]["unet"]
    assert found["atlas8k"]["training"] == stats["message"]
    assert stats["message"].startswith(f"not published, {before} is served still: unet: ")
    assert (server.app / "model" / gate["kept_aside"] / "gate.json").is_file()
    assert stats["total_time"] > 0
    assert stats["seconds_left"] == 0
    assert list((server.app / "model" / "runs").glob("events_*"))  # TensorBoard's
