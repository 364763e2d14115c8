"""Tasks of MONAI Label: stopped, they and what waits behind them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from monailabel.utils.async_tasks import utils

from atlas8k.server import background

LONG_S = 30.0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that tasks have got, each of which would run on for long."""
    found: list[subprocess.Popen[str]] = []
    real = subprocess.Popen

    def sleeping(command: list[str], **more: Any) -> subprocess.Popen[str]:
        process = real([sys.executable, "-c", f"import time; time.sleep({LONG_S})"], **more)
        found.append(process)
        return process

    for store in ("background_tasks", "background_processes", "background_executors"):
        monkeypatch.setitem(getattr(utils, store), "train", None)
        getattr(utils, store).pop("train")
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(utils.subprocess, "Popen", sleeping)
    yield found
    for process in found:
        process.kill()
        process.wait()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_stop_also_drops_what_waits_and_the_next_start_runs(
    started: list[subprocess.Popen[str]],
) -> None:
    first = background.start("train", {})
    waiting = background.start("train", {}, enqueue=True)
    stopped = background.stop("train")
    assert stopped is not None
    assert stopped["id"] == first["id"]
    states = {task["id"]: task["status"] for task in utils.tasks("train")}
    assert states == {first["id"]: "STOPPED", waiting["id"]: "STOPPED"}
    assert not background.runs("train")
    next_one = background.start("train", {})
    until(lambda: next_one["id"] in utils.processes("train"))
    assert len(started) == 2  # the one that waited never had a process
    background.stop("train")


def test_where_nothing_runs_nothing_is_stopped(started: list[subprocess.Popen[str]]) -> None:
    assert background.stop("train") is None
    assert started == []
