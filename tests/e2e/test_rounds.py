"""Two rounds of training on the running server, with an annotator who never stops working."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tests.e2e.harness import APP, Server, running
from tests.server.tiny import write_networks
from typer.testing import CliRunner

from atlas8k.campaign.reports import Status
from atlas8k.cli import app
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, read_label, write_nifti
from atlas8k.store import Ledger

IMAGES = tuple(f"case_{i:02d}" for i in range(10))
GRID = Grid((8, 7, 6), np.diag([-12.0, 12.0, 15.0, 1.0]))
"""Small: every volume is scored three times, on the attention's own fine grid."""
CONF = {"budget": "0.2", "audit_percent": "20", "gate_margin": "1.0", "stop_after": "2"}


@dataclass
class Annotator:
    """Takes a sample, draws, submits, until told to stop; remembers every answer.

    When nothing is left it corrects an earlier case once more.
    """

    server: Server
    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)
    sent: dict[str, bytes] = field(default_factory=dict)
    count: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    failure: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.case()
                self.stop.wait(1.5)
        except Exception as error:
            self.failure = error

    def case(self) -> None:
        answer = requests.post(
            f"{self.server.url}/activelearning/attention",
            json={"client_id": "anna"},
            timeout=60,
        )
        self.statuses.append(answer.status_code)
        reply = answer.json()
        if reply:
            self.samples.append(reply)
        volume = reply["id"] if reply else next(iter(self.sent))
        self.count += 1
        array = np.random.default_rng(self.count).integers(0, 10, GRID.shape).astype(np.uint8)
        path = write_nifti(self.folder / f"{volume}.nii.gz", array, GRID)
        names = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]
        answer = requests.put(
            f"{self.server.url}/datastore/label?image={volume}",
            files={"label": ("label.nii.gz", path.read_bytes())},
            data={"params": json.dumps({"client_id": "anna", "label_info": names})},
            timeout=60,
        )
        self.statuses.append(answer.status_code)
        self.sent[volume] = array.tobytes()


def until(what: str, condition: Any, limit_s: float = 300.0) -> Any:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"not in {limit_s:.0f} s: {what}")


def info(server: Server) -> dict[str, Any]:
    answer = requests.get(f"{server.url}/info/", timeout=60)
    assert answer.status_code == 200
    return dict(answer.json())


def campaign(server: Server) -> Status:
    answer = requests.get(f"{server.url}/atlas8k/campaign", timeout=60)
    assert answer.status_code == 200, answer.text
    return Status.model_validate(answer.json())


def statistics(server: Server) -> dict[str, Any]:
    """What the first trainer says of its last training, as 3D Slicer asks for it."""
    return dict(next(iter(info(server)["train_stats"].values())))


def train(server: Server, before: str) -> list[int]:
    """Train over REST, watch it, wait until all is ranked anew; the epochs that were seen."""
    earlier = statistics(server)
    started = requests.post(
        f"{server.url}/train/atlas8k", json={"max_epochs": 2, "steps_per_epoch": 3}, timeout=60
    )
    assert started.status_code == 200, started.text
    epochs = []

    def ended() -> bool:
        task = requests.get(f"{server.url}/train/", timeout=60).json()
        assert task["status"] != "ERROR", task
        stats = statistics(server)  # asked for after the task: its last word is seen
        if stats.get("start_ts") != earlier.get("start_ts"):
            epochs.append(int(stats["epoch"]))
        return bool(task["status"] == "DONE")

    until("trained", ended)
    until("ranked anew", lambda: info(server)["atlas8k"].get("ranked_by") not in (None, before))
    return epochs


@contextlib.contextmanager
def server_of(folder: Path) -> Iterator[Server]:
    """A server with tiny networks and smaller CTs, started as a user starts it."""
    app_folder, studies = folder / "app", folder / "studies"
    app_folder.mkdir()
    studies.mkdir()
    shutil.copy(APP / "main.py", app_folder)
    write_networks(app_folder / "model")
    for seed, name in enumerate(IMAGES):
        ct = np.random.default_rng(seed).normal(40, 60, GRID.shape).astype(np.int16)
        write_nifti(studies / f"{name}.nii.gz", ct, GRID)
    more = [word for key, value in CONF.items() for word in ("--conf", key, value)]
    with running(app_folder, studies, folder, *more) as server:
        yield server


@pytest.mark.slow
def test_trained_and_ranked_anew_twice_while_somebody_works(tmp_path: Path) -> None:
    with server_of(tmp_path) as server:
        assert server.score()["status"] == "DONE"
        annotator = Annotator(server, tmp_path)
        thread = threading.Thread(target=annotator.run)
        thread.start()
        model_versions = [info(server)["atlas8k"]["model_version"]]
        try:
            for _ in range(2):
                seen = annotator.count
                until("a label more", lambda seen=seen: annotator.count > seen)
                epochs = train(server, model_versions[-1])
                assert max(epochs) == 6  # two of each network
                assert epochs == sorted(epochs)
                model_versions.append(info(server)["atlas8k"]["ranked_by"])
        finally:
            annotator.stop.set()
            thread.join(120)
        found = campaign(server)
        by_command = CliRunner().invoke(
            app, ["campaign", "status", "--json", "--studies", str(server.studies),
                  "--models", str(server.app / "model")],
        )  # fmt: skip
        beside = CliRunner().invoke(
            app, ["campaign", "next", "--no-train", "--json", "--studies", str(server.studies),
                  "--models", str(server.app / "model")],
        )  # fmt: skip
        assert "Traceback" not in server.text()
    assert annotator.failure is None
    assert set(annotator.statuses) == {200}
    assert len(set(model_versions)) == 3

    # Nothing that was submitted is lost, and the last word on every volume is current.
    ledger = Ledger(server.studies / ".atlas8k" / "ledger.sqlite")
    worked = ledger.worked()
    assert {one.volume for one in worked} == set(annotator.sent)
    for volume, content in annotator.sent.items():
        label = read_label(server.studies / "labels" / "final" / f"{volume}.nii.gz")
        assert label.array.tobytes() == content, volume

    # Every sample was handed out by the list that the reply says.
    assert {sample["model_version"] for sample in annotator.samples} <= set(model_versions)
    assert all(isinstance(sample["audit"], bool) for sample in annotator.samples)
    marked = {s["id"] for s in annotator.samples if s["audit"]}
    drawn = {line.volume for n in (1, 2, 3) if (plan := ledger.plan(n))
             for line in plan.lines if line.audit is not None}  # fmt: skip
    assert marked <= drawn
    ledger.close()

    # The campaign's page tells the same.
    assert [one.model_version for one in found.rounds] == model_versions
    assert [[t.model_version for t in one.trainings] for one in found.rounds] == [
        [model_versions[1]],
        [model_versions[2]],
        [],
    ]
    done = {(one.round, one.volume) for one in worked}
    assert sum(one.reviewed for one in found.rounds) == len(done)
    assert found.rounds[0].annotators[0].name == "annotator 1"
    assert "anna" not in found.model_dump_json()
    assert found.stop_after == 2
    same = Status.model_validate_json(by_command.stdout)
    assert same.rounds == found.rounds
    assert Status.model_validate_json(beside.stdout).rounds[:2] == found.rounds[:2]
