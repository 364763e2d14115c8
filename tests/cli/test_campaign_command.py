"""`atlas8k campaign` as a user runs it, real trainer and files, tiny networks."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.server.tiny import write_networks
from typer.testing import CliRunner, Result

from atlas8k.campaign.reports import Status
from atlas8k.cli import app
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, read_label, write_nifti
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Holder, Ledger

CASES = [f"case_{i}" for i in range(8)]
ANNA = Holder.identify(user="anna")
GRID = Grid((10, 8, 7), np.diag([-12.0, 12.0, 15.0, 1.0]))
"""Small: the attention's own grid is finer."""


def truth_of(number: int) -> np.ndarray:
    """Liver and spleen; every other organ is absent."""
    array = np.zeros(GRID.shape, np.uint8)
    array[1 : 4 + number % 3, 2:7, 1:6] = ORGAN_IDS["liver"]
    array[7:9, 3:6, 2:5] = ORGAN_IDS["spleen"]
    return array


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """CTs in `studies`, their truth in `truth`, networks in `model`."""
    for folder in ("studies", "truth"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(CASES):
        ct = np.random.default_rng(number).normal(40, 60, GRID.shape).astype(np.int16)
        write_nifti(tmp_path / "studies" / f"{name}.nii.gz", ct, GRID)
        write_nifti(tmp_path / "truth" / f"{name}.nii.gz", truth_of(number), GRID)
    write_networks(tmp_path / "model")
    return tmp_path


def run(*arguments: object, fails: str = "") -> Result:
    result = CliRunner().invoke(app, ["campaign", *map(str, arguments)], env={"COLUMNS": "220"})
    if fails:
        assert isinstance(result.exception, Atlas8kError), result.output
        assert re.search(fails, str(result.exception)), str(result.exception)
    elif result.exception:
        raise result.exception
    return result


def simulation(place: Path, *more: str) -> list[str]:
    return [
        "campaign", "simulate", "--studies", str(place / "studies"), "--truth",
        str(place / "truth"), "--models", str(place / "model"), "--budget", "0.25",
        "--audit-percent", "15", "--epochs", "1", "--steps", "2", "--conf", "gate_margin=1",
        *more,
    ]  # fmt: skip


def status(studies: Path, models: Path) -> Status:
    result = run("status", "--studies", studies, "--models", models, "--json")
    return Status.model_validate_json(result.stdout)


def test_two_rounds_with_an_oracle_killed_in_the_middle(place: Path) -> None:
    out = place / "studies-simulation"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = simulation(place, "--stroke-seconds", "6")
    started = [sys.executable, "-c", "from atlas8k.cli import main; main()", *command]
    with open(place / "log", "wb") as log:
        process = subprocess.Popen(started, stdout=log, stderr=log, env=environment)
        end = time.monotonic() + 300
        ledger = out / "studies" / ".atlas8k" / "ledger.sqlite"
        # Killed once the first label is in: the budget is two volumes and an audit.
        while not (ledger.exists() and b"round 1: case_" in (place / "log").read_bytes()):
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = {path: path.read_bytes() for path in (place / "studies").iterdir()}

    text = run(*command[1:]).output
    assert "DSC of the fused labels" in text
    assert "6 s a stroke" in text
    kept = json.loads((out / "simulation.json").read_text())["rounds"]
    assert [one["round"] for one in kept] == [1, 2]
    assert [one["reviewed"] for one in kept] == [3, 3]
    assert kept[0]["after"] == kept[1]["before"]
    for one in kept:
        assert one["revised"]["dsc"] > one["before"]["dsc"]
        assert one["training"]["verdict"] == "published"
        drawn = one["drawing"]
        assert 0 < drawn["strokes"] <= 10 * drawn["organs"]
        assert drawn["minutes_brushed"] == pytest.approx(3 * 3 + 4 * drawn["organs"])
        least = 3 * 3 + drawn["strokes"] * 6 / 60
        assert drawn["minutes_drawn"] >= least
    assert kept[1]["after"]["reviewed"] == 6
    assert len({one["model_version"] for one in kept}) == 2

    book = Ledger(ledger)
    work = book.worked()
    assert len(work) == len({one.volume for one in work}) == 6
    for one in work:
        label = read_label(out / "studies" / "labels" / "original" / f"{one.volume}.nii.gz")
        assert (label.array == truth_of(int(one.volume[-1]))).all()
        states = {organ: change.state for organ, change in one.organs.items()}
        assert states["aorta"] == "absent"
        assert states["liver"] == "revised"
    book.close()

    rows = list(csv.DictReader((out / "simulation.csv").open()))
    assert [(row["round"], row["phase"]) for row in rows] == [
        (number, phase) for number in "12" for phase in ("before", "revised", "after")
    ]
    assert float(rows[1]["liver"]) == pytest.approx(kept[0]["revised"]["organs"]["liver"], abs=1e-4)
    assert (out / "simulation.png").stat().st_size > 10_000
    # What was simulated on is as it was.
    assert {path: path.read_bytes() for path in (place / "studies").iterdir()} == before
    assert sorted(p.name for p in (place / "model").iterdir()) == ["embedded"]

    found = status(out / "studies", out / "model")
    assert [one.audited for one in found.rounds] == [1, 1, 0]
    assert [one.trainings[-1].verdict for one in found.rounds[:2]] == ["published"] * 2
    assert found.audit is not None
    assert found.audit.volumes.wrong == 1
    again = run(*simulation(place)[1:])
    assert "round 3" not in again.output
    shown = run("status", "--studies", out / "studies", "--plot", place / "p.png").output
    for words in (
        "annotator 1",
        "Stop rule, round 2",
        "Audit, round 2",
        "15 minutes a volume",
        "fine-tuning: published",
        "an annotator revises the top of the list",
    ):
        assert words in shown
    assert "client:oracle" not in shown
    assert (place / "p.png").stat().st_size > 10_000


def test_orders_of_review_side_by_side(place: Path) -> None:
    text = run(*simulation(place, "--strategies", "--seeds", "2", "--rounds", "1")[1:]).output
    assert "as a share of its own" in text
    found = json.loads((place / "studies-simulation" / "strategies.json").read_text())
    assert {"pairwise_dice", "random_foreground", "stratified"} <= set(found)
    # On so few small volumes all may have one score, and a ranking that tells none from another
    # is named instead of compared.
    assert ("salient" in found) != ("salient is left out" in text)
    assert found["random_foreground"]["revisions"] == 1
    assert all(one["final"] > 0 for one in found.values())
    # Another annotator on the same predictions, whose figures are kept apart.
    out = place / "studies-simulation"
    more = ("--strategies", "--seeds", "2", "--rounds", "1", "--oracle", "places")
    run(*simulation(place, *more)[1:])
    places = json.loads((out / "strategies-places.json").read_text())
    assert places["random_foreground"]["final"] <= found["random_foreground"]["final"]
    for oracle in ("everything", "places"):
        assert len(list((out / "measured" / oracle).iterdir())) == len(CASES)


def submit(place: Path, count: int) -> None:
    """Anna at work: the next samples, corrected."""
    label_service = LabelService.open(place / "studies")
    model_version = label_service.ledger.rounds()[-1].model_version
    for _ in range(count):
        sample = label_service.ledger.next_sample(holder=ANNA, model_version=model_version)
        assert sample is not None
        made = write_nifti(place / "label.nii.gz", truth_of(int(sample.volume[-1])), GRID)
        names = [{"name": name, "idx": number} for name, number in ORGAN_IDS.items()]
        label_service.submit(sample.volume, made, ANNA, {"label_info": names}, lease=sample.lease)
    label_service.close()


def test_rounds_with_people_from_the_command_line(place: Path) -> None:
    studies, models = place / "studies", place / "model"
    where = ("--studies", studies, "--models", models)
    run("status", *where, fails=r"no ledger yet; run `atlas8k score \S+`, or start the server")
    run("next", *where, "--audit-percent", "101", fails="audit_percent 101")

    text = run("next", *where, "--budget", "0.25").output
    assert "round 1 is open" in text
    found = status(studies, models)
    assert found.steps[3].state == "done"
    assert found.steps[4].detail == "0 of 2 volumes, and 0 of 1 audits"
    run("close-round", "--studies", studies, fails="nothing was submitted in it")

    submit(place, 1)
    text = run("next", *where, "--epochs", "1", "--steps", "1").output
    assert "has ended" not in text
    assert "for step 5: 1 volume and 1 audit left" in text
    submit(place, 2)
    assert "due" in run("next", "--dry-run", *where).output
    conf = ("--epochs", "1", "--steps", "1", "--conf", "gate_margin=1")
    text = run("next", *where, *conf).output
    assert re.search(r"round 1 has ended: published, served as", text)
    assert "stop rule of round 1: the list's top still needs revision: case_" in text
    assert "round 2 is open" in text
    assert "has ended" not in run("next", *where, *conf).output
    found = status(studies, models)
    assert [one.budget for one in found.rounds] == [2, 2]  # the budget goes on
    assert found.rounds[0].trainings[0].cases == 3
    assert (found.rounds[0].reviewed, found.rounds[0].audited) == (3, 1)

    submit(place, 1)
    closed = run("close-round", "--studies", studies, "--json", "--note", "enough for today")
    assert json.loads(closed.stdout) == {"closed": 2, "open": None}
    assert (
        "no round is open; round 2 was the last" in run("close-round", "--studies", studies).output
    )
    assert status(studies, models).rounds[1].closing == "enough for today"
    text = run("next", *where, "--json").stdout
    assert Status.model_validate_json(text).round == 3
    assert "round 3 is closed" in run("close-round", "--studies", studies, "--force").output


def told(studies: Path) -> tuple[float, int]:
    book = Ledger(studies / ".atlas8k" / "ledger.sqlite")
    try:
        return book.campaign_settings()
    finally:
        book.close()


def test_what_is_set_by_any_option_is_kept(place: Path) -> None:
    studies, models = place / "studies", place / "model"
    where = ("--studies", studies, "--models", models, "--no-score", "--no-train")
    run("next", *where)
    assert told(studies) == (1.0, 10)
    run("next", *where, "--conf", "audit_percent=5", "--conf", "stop_after=3")
    assert told(studies) == (5.0, 3)
    run("next", *where, "--conf", "audit_percent=5", "--audit-percent", "20")
    assert told(studies) == (20.0, 3)
    # A server that publishes networks first opens the round with what was asked for here.
    book = Ledger(studies / ".atlas8k" / "ledger.sqlite", budget=0.05)
    book.submit(CASES[0], ANNA)
    run("next", *where, "--conf", "budget=0.25")
    book.register_model_version("of the server")
    assert [one.budget for one in book.rounds()] == [0.05, 0.25]
    book.close()


def test_status_is_of_the_networks_served_last_and_of_their_trainings(place: Path) -> None:
    studies, models = place / "studies", place / "model"
    run("next", "--studies", studies, "--models", models)
    assert status(studies, models).steps[1].detail == "8 of 8"
    book = Ledger(studies / ".atlas8k" / "ledger.sqlite")
    served = book.rounds()[0].model_version
    book.register_model_version("other attention settings", new_round=False)
    found = status(studies, models)
    assert (found.model_version, found.steps[1].detail) == ("other attention settings", "0 of 8")

    # Another campaign has trained the networks of the folder that is looked into.
    stats = {"start_ts": time.time(), "total_time": 1.0, "trained_from": "theirs", "message": "x"}
    (models / "train_stats.json").write_text(json.dumps(stats))
    assert status(studies, models).rounds[0].trainings == []
    (models / "train_stats.json").write_text(json.dumps({**stats, "trained_from": served}))
    assert len(status(studies, models).rounds[0].trainings) == 1
    book.close()


def test_next_looks_into_the_folder_of_networks_that_it_was_given(place: Path) -> None:
    studies = place / "studies"
    (place / "none").mkdir()
    conf = ("--models", place / "none", "--conf", f"models={place / 'model'}")
    found = Status.model_validate_json(run("next", "--studies", studies, *conf, "--json").stdout)
    assert found.model_version == found.rounds[0].model_version
    assert found.steps[1].detail == "8 of 8"
    lock = place / "model" / ".training.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        text = run("next", "--studies", studies, *conf, "--no-train", "--json").stdout
    assert Status.model_validate_json(text).steps[6].state == "running"


def test_the_schema_is_one(place: Path) -> None:
    schema = json.loads(run("schema").stdout)
    assert schema["title"] == "Status"
    assert set(schema["properties"]) == set(Status.model_fields)


def test_what_cannot_be_simulated_says_why(place: Path) -> None:
    more = simulation(place)[1:]
    (place / "truth" / "case_3.nii.gz").unlink()
    run(*more, fails=r"no true label of case_3;")
    (place / "empty").mkdir()
    studies = more.index("--studies") + 1
    run(*more[:studies], place / "empty", *more[studies + 1 :], fails="no CT is there")


def test_cts_are_excluded_and_included_by_command(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    book = Ledger(path)
    book.sync_volumes(["one_with_a_long_name.2", "b"])
    run("exclude", "one_with_a_long_name.2", "zzz", "--reason", "motion", "--ledger", path,
        fails="zzz: no such volume")  # fmt: skip
    assert book.not_usable() == []
    run("exclude", "one_with_a_long_name.2", "--reason", "motion", "--ledger", path)
    shown = run("status", "--ledger", path).output
    assert "1 not usable" in shown
    assert "not usable: one_with_a_long_name.2: motion" in shown
    found = Status.model_validate_json(run("status", "--json", "--ledger", path).output)
    assert [(one.volume, one.reason) for one in found.not_usable] == [
        ("one_with_a_long_name.2", "motion")
    ]
    assert "counts again" in run("include", "one_with_a_long_name.2", "--ledger", path).output
    assert "counts already" in run("include", "b", "--ledger", path).output
    assert [one.usable for one in book.usability("one_with_a_long_name.2")] == [False, True]
    book.close()
