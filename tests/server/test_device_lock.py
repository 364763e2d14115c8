"""The device's turns between real processes."""

from __future__ import annotations

import fcntl
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from atlas8k.services import device_lock
from atlas8k.services.device_lock import DeviceLock, Held, Turn, _lock_at_once

SPAWN = multiprocessing.get_context("spawn")
LONG_S = 30.0


def hold(folder: Path, turn: Turn, queue: Any, release: Any) -> None:
    with DeviceLock(folder).turn(turn):
        queue.put(turn)
        release.wait(LONG_S)


def add_slowly(folder: Path, file: Path, turn: Turn, times: int) -> None:
    """Read, wait, write back: loses counts wherever two do it at once."""
    for _ in range(times):
        with DeviceLock(folder).turn(turn):
            number = int(file.read_text())
            time.sleep(0.002)
            file.write_text(str(number + 1))


def train(folder: Path, queue: Any, stop: Any) -> None:
    with DeviceLock(folder).turn(Turn.TRAINING) as held:
        queue.put("training")
        while not stop.is_set():
            held.give_way()
            time.sleep(0.005)
    queue.put("trained")


@pytest.fixture
def run() -> Iterator[Callable[..., BaseProcess]]:
    started: list[BaseProcess] = []

    def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
        process = SPAWN.Process(target=target, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def wanted(folder: Path, turn: Turn) -> bool:
    """Whether somebody of that kind holds or waits."""
    if not (folder / f"{turn.name.lower()}.lock").exists():
        return False
    with Held(folder, turn)._wanted(turn) as stream:
        return not _lock_at_once(stream)


def test_one_at_a_time(tmp_path: Path, run: Callable[..., BaseProcess]) -> None:
    file = tmp_path / "count"
    file.write_text("0")
    workers = [run(add_slowly, tmp_path / "lock", file, turn, 30) for turn in (*Turn, *Turn)]
    for worker in workers:
        worker.join(LONG_S)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    assert file.read_text() == str(30 * len(workers))


def test_the_most_urgent_goes_first_whenever_it_came(
    tmp_path: Path, run: Callable[..., BaseProcess]
) -> None:
    queue, release = SPAWN.Queue(), SPAWN.Event()
    with open(tmp_path / "device.lock", "wb") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        for turn in (Turn.TRAINING, Turn.SCORING, Turn.INFERENCE):
            run(hold, tmp_path, turn, queue, release)
            wait_until(lambda turn=turn: wanted(tmp_path, turn))
        time.sleep(0.5)  # whoever looked before the last one came has looked again
    first = queue.get(timeout=LONG_S)
    release.set()
    rest = [queue.get(timeout=LONG_S) for _ in range(2)]
    assert [first, *rest] == [Turn.INFERENCE, Turn.SCORING, Turn.TRAINING]


def test_a_step_of_training_is_all_that_inference_waits_for(
    tmp_path: Path, run: Callable[..., BaseProcess]
) -> None:
    queue, stop = SPAWN.Queue(), SPAWN.Event()
    run(train, tmp_path, queue, stop)
    assert queue.get(timeout=LONG_S) == "training"
    for _ in range(5):
        with DeviceLock(tmp_path).turn(Turn.INFERENCE):
            assert queue.empty()  # the training has not ended, it has given way
    stop.set()
    assert queue.get(timeout=LONG_S) == "trained"


def test_each_gpu_has_locks_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_lock, "gpu_of", lambda device: device.replace(":", ""))
    first, second = (DeviceLock(tmp_path, f"cuda:{number}") for number in range(2))
    with first.turn(Turn.INFERENCE), second.turn(Turn.SCORING) as held:
        assert not held.wanted_by_others()
        with (tmp_path / "cuda0" / "device.lock").open("rb+") as stream:
            assert not _lock_at_once(stream)


def test_what_is_no_gpu_has_one_lock() -> None:
    import torch  # not with this module, which each process that is begun imports

    assert device_lock.gpu_of("cpu") == ""
    if not torch.cuda.is_available():
        assert device_lock.gpu_of("cuda") == ""
    else:
        assert device_lock.gpu_of("cuda") == device_lock.gpu_of("cuda:0") != ""


def test_a_process_that_is_killed_lets_go(tmp_path: Path, run: Callable[..., BaseProcess]) -> None:
    queue, release = SPAWN.Queue(), SPAWN.Event()
    process = run(hold, tmp_path, Turn.INFERENCE, queue, release)
    assert queue.get(timeout=LONG_S) == Turn.INFERENCE
    process.kill()
    with DeviceLock(tmp_path).turn(Turn.TRAINING) as held:
        assert not held.wanted_by_others()
