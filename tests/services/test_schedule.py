"""The simulated schedule of a cluster, and the plan that a command makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.store.kit import scored, sizes
from typer.testing import CliRunner

from atlas8k.cli import app
from atlas8k.core.errors import LedgerError
from atlas8k.services.cluster.schedule import drawn, simulate
from atlas8k.store import Ledger, locate

SECONDS = np.random.default_rng(1).lognormal(1.5, 0.4, 2000)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_one_worker_takes_the_sum_and_many_share_it() -> None:
    alone = simulate(SECONDS, 1, rng=rng())
    assert alone.hours == pytest.approx(SECONDS.sum() / 3600)
    assert alone.workers_busy == pytest.approx(1)
    shared = simulate(SECONDS, 64, rng=rng())
    # The largest first: nobody is left with a large one at the end.
    least = SECONDS.sum() / 64
    assert least <= shared.hours * 3600 <= least + np.median(SECONDS)
    assert (shared.limit, shared.repeated) == ("workers", 0)
    assert simulate(np.array([7.0]), 5, rng=rng()).hours == pytest.approx(7 / 3600)


def test_the_writer_is_the_limit_where_it_is() -> None:
    full = simulate(SECONDS, 64, write_s=0.5, rng=rng())
    assert full.limit == "writer"
    assert full.hours * 3600 == pytest.approx(0.5 * len(SECONDS), rel=0.02)
    assert simulate(SECONDS, 2, write_s=0.5, rng=rng()).limit == "workers"


def test_what_dead_workers_were_at_is_predicted_again() -> None:
    calm, rough = (simulate(SECONDS, 8, deaths_an_hour=rate, rng=rng()) for rate in (0, 20.0))
    # A death every 180 s, of volumes of about 5 s, and a minute until it is there again.
    assert rough.repeated == pytest.approx(SECONDS.sum() / 180, rel=0.3)
    assert 1.2 < rough.hours / calm.hours < 1.6


def test_volumes_are_drawn_from_those_measured() -> None:
    found = drawn([1.0, 3.0], 10_000, rng())
    assert set(found) == {1.0, 3.0}
    assert found.mean() == pytest.approx(2, abs=0.05)


def test_a_plan_of_a_command(tmp_path: Path) -> None:
    ledger = Ledger(locate(str(tmp_path)))
    scored(ledger, {f"v{number:02d}": 1.0 + number for number in range(30)})
    with ledger.write() as tx:
        tx.run("UPDATE result SET seconds = 10")
        tx.run("UPDATE volume SET fingerprint = '2000000-5'")
    assert ledger.peak_memory("one") == {}
    ledger.record_score("v00", "one", sizes(1), seconds=10, peak_mb={"memory": 3000.0})
    ledger.record_score("v01", "one", sizes(1), seconds=10, peak_mb={"memory": 3100.0})
    assert ledger.peak_memory("one") == {"memory": 3000}  # within a tenth it is the same
    ledger.record_score("v02", "one", sizes(1), seconds=10, peak_mb={"memory": 1e3, "gpu": 5e3})
    assert ledger.peak_memory("one") == {"memory": 3000, "gpu": 5000}
    ledger.close()
    command = ["plan", "--studies", str(tmp_path), "--volumes", "360"]
    found = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert [one["workers"] for one in found["schedules"]] == [1, 8, 64]
    assert found["schedules"][0]["hours"] == pytest.approx(1)
    assert (found["measured"], found["read_gb"]) == (30, 0.72)
    shown = CliRunner().invoke(app, [*command, "--workers", "2"]).output
    assert "360 volumes, 10.0 s each on one worker" in shown
    assert found["peak_mb_a_worker"] == {"memory": 3000, "gpu": 5000}
    assert "up to 3.0 GB of memory and 5.0 GB of a GPU's memory" in shown
    assert CliRunner().invoke(app, [*command, "--workers", "0"]).exit_code == 2


def test_a_plan_wants_volumes_that_are_like_the_rest(tmp_path: Path) -> None:
    ledger = Ledger(locate(str(tmp_path)))
    scored(ledger, {"a": 1.0})
    ledger.close()
    found = CliRunner().invoke(app, ["plan", "--studies", str(tmp_path)])
    assert isinstance(found.exception, LedgerError)
    assert "20 or more" in str(found.exception)
