"""Volumes, workers and disks that give trouble in a run on this machine's own cluster."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.tiny import checkpoint, write_ct, write_networks

from atlas8k.core.errors import CheckpointError, DeviceLostError, PredictionError, ShortMemoryError
from atlas8k.core.settings import Settings
from atlas8k.core.structures import in_use
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import save_checkpoint
from atlas8k.services.cluster import nodes, scoring
from atlas8k.services.cluster.nodes import HERE, Nodes, connected
from atlas8k.services.cluster.worker import (
    Job,
    NodeReport,
    Result,
    Task,
    Worker,
    package_version,
    report,
)
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context
from atlas8k.services.scored import Scored
from atlas8k.services.scoring import Scoring
from atlas8k.store import FileIdentity

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="not installed: ray")
ROOT = Path(__file__).resolve().parents[2]
LONG_AGO_S = 1_700_000_000


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'lib'}")
        with connected(HERE) as ray:
            yield ray


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    models = write_networks(tmp_path / "model")
    for number in range(4):  # the first are the largest, and are handed out first
        path = write_ct(tmp_path / "studies" / f"ct_{number}.nii.gz", number, 1 - 0.1 * number)
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    opened = open_context(Settings(), str(tmp_path / "studies"), models)
    yield opened
    opened.close()


def score(
    context: Context, ray: Any, kind: type[Worker], workers: int = 1, ahead: bool | None = None
) -> dict[str, int]:
    models = context.studies.path.parent / "model"
    cluster = scoring.Cluster(context, ray, models, workers, kind, ahead)
    return Scoring(context, workers=cluster).run()


def failures(context: Context) -> dict[str, str]:
    return dict(context.ledger.failures(context.model_version()))


class Short(Worker):
    """Is short of memory once at one CT, and always at another."""

    def _score(self, task: Task, reading: Any) -> Result:
        tried = self._job.studies.parent / "tried"
        if task.volume == "ct_0" or (task.volume == "ct_1" and not tried.exists()):
            if task.volume == "ct_1":
                tried.touch()
            raise ShortMemoryError("needs 9 GB, 1 GB are free")
        return super()._score(task, reading)


def test_memory_that_is_short_is_tried_again_and_ends_no_worker(context: Context, ray: Any) -> None:
    studies, fetched = context.studies, set()
    path_of = studies.image_path

    def image_path(volume: str) -> Path:
        fetched.add(threading.current_thread())
        return path_of(volume)

    studies.image_path = image_path  # type: ignore[method-assign]
    assert score(context, ray, Short) == {"scored": 3, "failed": 1, "set_aside": 0}
    [(volume, why)] = failures(context).items()
    assert volume == "ct_0"
    assert "tried twice: needs 9 GB" in why
    # Where results come in, nobody waits for an archive.
    assert threading.main_thread() not in fetched
    found = FileIdentity.of(path_of("ct_2"))
    assert found is not None
    assert studies.index.checksum("ct_2.nii.gz", found)


class Killed(Worker):
    """Dies at the first two CTs, as of memory that is short."""

    def score(self, task: Task, ahead: Task | None = None) -> Result:
        if task.volume in ("ct_0", "ct_1"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(task, ahead)


def test_volumes_that_kill_workers_do_not_use_them_up(context: Context, ray: Any) -> None:
    assert score(context, ray, Killed) == {"scored": 2, "failed": 2, "set_aside": 0}


class Full(Worker):
    """Has no space left."""

    def _score(self, task: Task, reading: Any) -> Result:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_node_without_space_ends_without_a_failure(
    context: Context, ray: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CheckpointError, match="no node of the cluster"):
        score(context, ray, Full)
    assert not failures(context)
    assert "3 volumes in a row went wrong there alone" in caplog.text


def test_results_that_cannot_be_kept_end_the_run(
    context: Context, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Scored, "keep", full)
    with pytest.raises(OSError, match="No space left"):
        score(context, ray, Worker)
    assert not failures(context)


class Stuck(Worker):
    """Does not come back from the last CT."""

    def score(self, task: Task, ahead: Task | None = None) -> Result:
        if task.volume == "ct_3":
            time.sleep(600)
        return super().score(task, ahead)


def test_a_volume_that_is_stuck_is_named_and_ended(
    context: Context, ray: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scoring, "SLOW_S", 2.0)
    monkeypatch.setattr(scoring, "SLOW_TIMES", 0.0)
    monkeypatch.setattr(scoring, "ENOUGH", 3)  # the others
    with caplog.at_level(logging.WARNING):
        assert score(context, ray, Stuck) == {"scored": 3, "failed": 1, "set_aside": 0}
    assert "has been at ct_3 for" in caplog.text
    assert "its worker was ended after" in failures(context)["ct_3"]


def write_small(studies: Path, number: int) -> None:
    grid = Grid((8, 7, 9 - number), np.diag([-12.0, 12.0, 15.0, 1.0]))
    hu = np.random.default_rng(number).normal(40, 60, grid.shape)
    path = write_nifti(studies / f"ct_{number}.nii.gz", hu.astype(np.int16), grid)
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Context]:
    """Four CTs that take no time, the first the largest."""
    models = write_networks(tmp_path / "model")
    for number in range(4):
        write_small(tmp_path / "studies", number)
    opened = open_context(Settings(check_content=False), str(tmp_path / "studies"), models)
    yield opened
    opened.close()


class Ahead(Worker):
    """Predicts a CT once the next one is read, and notes which that was."""

    def _score(self, task: Task, reading: Any) -> Result:
        if self._ahead is not None:
            self._ahead[1].result(60)
            (self._job.studies.parent / f"{self._ahead[0].volume}_beside_{task.volume}").touch()
        if reading is not None:
            (self._job.studies.parent / f"used_{task.volume}").touch()
        return super()._score(task, reading)


def noted(context: Context, pattern: str) -> set[str]:
    return {path.name for path in context.studies.path.parent.glob(pattern)}


def test_a_worker_reads_the_next_ct_while_it_predicts(small: Context, ray: Any) -> None:
    assert score(small, ray, Ahead, ahead=True) == {"scored": 4, "failed": 0, "set_aside": 0}
    assert noted(small, "*_beside_*") == {f"ct_{n + 1}_beside_ct_{n}" for n in range(3)}
    assert noted(small, "used_*") == {"used_ct_1", "used_ct_2", "used_ct_3"}


class Dies(Ahead):
    """Dies at the first CT, when the next one may be read."""

    def _score(self, task: Task, reading: Any) -> Result:
        if task.volume == "ct_0":
            if self._ahead is not None:
                self._ahead[1].result(60)
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._score(task, reading)


def test_a_ct_that_was_read_is_not_blamed_for_a_death(
    small: Context, ray: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert score(small, ray, Dies, ahead=True) == {"scored": 3, "failed": 1, "set_aside": 0}
    assert set(failures(small)) == {"ct_0"}
    again = [one.getMessage() for one in caplog.records if "is tried again" in one.getMessage()]
    assert len(again) == 1
    assert again[0].startswith("ct_0 ")


class Waits(Ahead):
    """Ends the first CT after all others."""

    def _score(self, task: Task, reading: Any) -> Result:
        place = self._job.studies.parent
        end = time.monotonic() + 120
        while task.volume == "ct_0" and len(list(place.glob("done_*"))) < 3:
            assert time.monotonic() < end
            time.sleep(0.05)
        result = super()._score(task, reading)
        (place / f"done_{task.volume}").touch()
        return result


def test_another_worker_takes_what_a_busy_one_has_read(small: Context, ray: Any) -> None:
    counts = score(small, ray, Waits, workers=2, ahead=True)
    assert counts == {"scored": 4, "failed": 0, "set_aside": 0}
    assert noted(small, "*_beside_ct_0")


@pytest.mark.parametrize(("side", "words"), [(400_000, "memory"), (15, "must match")])
def test_a_network_that_fails_at_every_ct_ends_the_run(
    small: Context, ray: Any, monkeypatch: pytest.MonkeyPatch, side: int, words: str
) -> None:
    monkeypatch.setattr(scoring, "IN_A_ROW", 2)  # and as many as there are workers
    one = checkpoint("unet")
    odd = replace(one.preprocessing, window_size=(side,) * 3)
    models = small.studies.path.parent / "model"
    save_checkpoint(models / "embedded" / "unet.safetensors", replace(one, preprocessing=odd))
    with pytest.raises(CheckpointError, match=f"unet: fails at every CT.*first 3 .*{words}"):
        score(small, ray, Worker)
    assert not failures(small)
    assert len(small.ledger.stale(small.model_version())) == 4


def odd_network() -> PredictionError:
    return PredictionError("unet failed at this CT").of_network("unet", "no kernel image")


class BadNode(Worker):
    """The first of two fails at once at every CT; the other is slow at its first."""

    def _score(self, task: Task, reading: Any) -> Result:
        place = self._job.studies.parent
        if not hasattr(self, "_bad"):
            self._bad = not (place / "bad").exists()
            (place / "bad").touch()
        if self._bad:
            (place / f"failed_{task.volume}").touch()
            raise odd_network()
        end = time.monotonic() + 120
        while len(list(place.glob("failed_*"))) < 3:
            assert time.monotonic() < end
            time.sleep(0.05)
        return super()._score(task, reading)


def test_a_worker_whose_networks_fail_blames_no_ct(
    small: Context, ray: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert score(small, ray, BadNode, workers=2) == {"scored": 4, "failed": 0, "set_aside": 0}
    assert "3 volumes in a row went wrong there alone" in caplog.text


class Odd(Worker):
    """Can predict the first CT only, and reads what is damaged."""

    def _score(self, task: Task, reading: Any) -> Result:
        if task.volume not in ("ct_0", "damaged"):
            raise odd_network()
        return super()._score(task, reading)


def test_a_network_has_worked_before_its_result_is_kept(
    small: Context, ray: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep = Scored.keep

    def slow(*arguments: Any) -> None:
        end = time.monotonic() + 120
        while caplog.text.count("cannot be scored") < 3:
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)
        keep(*arguments)

    monkeypatch.setattr(Scored, "keep", slow)
    monkeypatch.setattr(scoring, "IN_A_ROW", 2)
    assert score(small, ray, Odd) == {"scored": 1, "failed": 3, "set_aside": 0}


def test_a_network_fails_at_every_ct_of_a_run_of_few(small: Context, ray: Any) -> None:
    """One fewer than end a run that has more."""
    studies = small.studies.path
    (studies / "ct_0.nii.gz").rename(studies / "ct_9.nii.gz")
    write_small(studies, 4)
    (studies / "damaged.nii.gz").write_bytes(b"no CT")
    with pytest.raises(CheckpointError, match=r"unet: fails at every CT.*first 5 failed alike"):
        score(small, ray, Odd)
    assert set(failures(small)) == {"damaged"}


class Deadly(Worker):
    """Dies at every CT, as of networks that want more memory than there is."""

    def _score(self, task: Task, reading: Any) -> Result:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_networks_that_kill_every_worker_end_the_run(
    small: Context, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "IN_A_ROW", 1)
    with pytest.raises(CheckpointError, match=r"each worker: fails at every CT.*first 2 .*memory"):
        score(small, ray, Deadly)
    assert not failures(small)


class Loses(Worker):
    """Loses its GPU at the first CT."""

    def score(self, task: Task, ahead: Task | None = None) -> Result:
        if task.volume == "ct_0":
            (self._job.studies.parent / f"lost_{os.getpid()}").touch()
            raise DeviceLostError("cuda", "an illegal memory access was encountered")
        return super().score(task, ahead)


def test_a_ct_that_loses_gpus_which_come_back_has_failed(small: Context, ray: Any) -> None:
    assert score(small, ray, Loses) == {"scored": 3, "failed": 1, "set_aside": 0}
    assert "tried twice: the GPU of the worker" in failures(small)["ct_0"]


class Gone(Loses):
    """Does not find the GPU again; it is lost once both workers are there."""

    def count(self, what: str) -> int:
        return len(list(self._job.studies.parent.glob(f"{what}_*")))

    def ready(self) -> str:
        place = self._job.studies.parent
        if self.count("lost") > self.count("refused"):
            (place / f"refused_{os.getpid()}").touch()
            raise CheckpointError(place, "PyTorch finds no GPU there any more")
        (place / f"ready_{os.getpid()}").touch()
        return super().ready()

    def score(self, task: Task, ahead: Task | None = None) -> Result:
        end = time.monotonic() + 120
        while self.count("ready") < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        return super().score(task, ahead)


def test_a_ct_that_two_nodes_go_away_with_has_failed(small: Context, ray: Any) -> None:
    with pytest.raises(CheckpointError, match="no node of the cluster"):
        score(small, ray, Gone, workers=2)
    assert "two nodes went away" in failures(small)["ct_0"]


def late_report(job: Job) -> NodeReport:
    while not (job.studies.parent / "answer").exists():
        time.sleep(0.05)
    return report(job)


def test_nobody_waits_for_a_node_that_is_late(
    small: Context, ray: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(nodes, "report", late_report)
    place = small.studies.path.parent
    job = Job(
        *(small.settings, in_use(), place / "model", small.studies.path),
        *(small.model_version(), package_version(), place, ""),
    )
    found = Nodes(ray, job, 1)
    found.ask()
    assert not found.answered(0.5)
    assert "has not answered" in caplog.text
    (place / "answer").touch()
    end = time.monotonic() + 120
    while not (joined := found.answered()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert [one.workers for one in joined] == [1]
    found.ask()  # it is known
    assert not found.answered(60)
