"""What a worker of a cluster does and says, without a cluster: it only reads."""

from __future__ import annotations

import fcntl
import pickle
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.tiny import GRID, checkpoint, write_ct, write_networks

from atlas8k.content import LABEL_MAP
from atlas8k.core.errors import CheckpointError, SettingsError
from atlas8k.core.settings import Settings
from atlas8k.core.structures import in_use
from atlas8k.core.volume import write_nifti
from atlas8k.models.checkpoint import save_checkpoint
from atlas8k.models.predict import Predictor
from atlas8k.models.store import ModelStore
from atlas8k.services.cluster.nodes import _node, connected, in_one_line, short_folder, words
from atlas8k.services.cluster.worker import (
    Job,
    NodeReport,
    Result,
    Task,
    Worker,
    package_version,
    report,
)
from atlas8k.services.device_lock import DeviceLock, Turn, _lock_at_once, machine
from atlas8k.services.scored import Scored


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    place = tmp_path_factory.mktemp("worker")
    models = write_networks(place / "model")
    write_ct(place / "studies" / "a.nii.gz", 1)
    version = ModelStore(models).served().model_version
    return Job(
        *(Settings(device="cpu"), in_use(), models, place / "studies", version),
        *(package_version(), place / "device", machine()),
    )


@pytest.fixture(scope="module")
def worker(job: Job) -> Worker:
    return Worker(job, 1)


def scored(result: Result) -> Scored:
    assert isinstance(result.scored, Scored)
    return result.scored


def test_a_ct_that_is_sent_gives_what_one_that_is_seen_gives(job: Job, worker: Worker) -> None:
    path = job.studies / "a.nii.gz"
    seen = worker.score(Task("a", path))
    elsewhere = Path("/nowhere") / path.name
    sent = worker.score(Task("a", elsewhere, path.read_bytes()))
    assert (seen.outcome, sent.outcome) == ("scored", "scored")
    assert np.array_equal(scored(seen).label, scored(sent).label)
    assert scored(seen).organs == scored(sent).organs
    # As it comes back from another machine.
    back = pickle.loads(pickle.dumps(seen))
    assert np.array_equal(scored(back).label, scored(seen).label)
    assert scored(back).explanation == scored(seen).explanation
    assert len(pickle.dumps(seen)) < 100_000


def test_a_ct_that_the_node_does_not_see_is_no_failure(worker: Worker) -> None:
    assert worker.score(Task("b", Path("/nowhere/b.nii.gz"))).outcome == "not_here"


def test_the_next_ct_is_read_while_one_is_predicted(
    job: Job, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = job.studies / "a.nii.gz"
    here, there = (write_ct(tmp_path / f"{name}.nii.gz", 2) for name in "bc")
    sent = Task("c", Path("/nowhere/c.nii.gz"), there.read_bytes())
    plain = worker.score(Task("b", here))
    read, predict = threading.Event(), worker._engine.predict
    prepare = worker._engine.read

    def reading(path: Path) -> Any:
        found = prepare(path)
        read.set()
        return found

    def predicting(*arguments: Any) -> Any:
        assert read.wait(60)  # no prediction ends before the next CT is read
        return predict(*arguments)

    monkeypatch.setattr(worker._engine, "read", reading)
    monkeypatch.setattr(worker._engine, "predict", predicting)
    assert worker.score(Task("a", path), Task("b", here)).outcome == "scored"
    read.clear()
    here.unlink()  # nobody reads it again
    then = [worker.score(Task("b", here), sent), worker.score(sent.key)]
    for after in then:
        assert np.array_equal(scored(plain).label, scored(after).label)
        assert scored(plain).organs == scored(after).organs
    # Of a file that has changed since, what was read is not used.
    worker.score(Task("a", path), replace(sent, fingerprint="then"))
    assert worker.score(replace(sent.key, fingerprint="now")).outcome == "not_here"
    assert worker._ahead is None


def test_what_is_wrong_with_a_ct_is_said_when_it_is_its_turn(job: Job, worker: Worker) -> None:
    path, lost = job.studies / "a.nii.gz", Task("b", Path("/nowhere/b.nii.gz"))
    assert worker.score(Task("a", path), lost).outcome == "scored"
    assert worker.score(lost).outcome == "not_here"
    broken = Task("c", Path("/nowhere/c.nii.gz"), b"no CT")
    assert worker.score(Task("a", path), broken).outcome == "scored"
    assert worker.score(broken.key).outcome == "failed"


def test_what_is_wrong_with_a_volume_is_a_result(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"no CT")
    result = worker.score(Task("broken", path))
    assert result.outcome == "failed"
    assert "broken.nii.gz" in result.why
    array = np.zeros(GRID.shape, np.uint8)
    array[5:15, 5:13, 4:12] = 5
    array[8:10, 8:10, 6:8] = 3
    label = write_nifti(tmp_path / "label.nii.gz", array, GRID)
    result = worker.score(Task("label", label))
    assert result.outcome == "ask"
    assert result.remarks
    assert result.remarks[0].kind == LABEL_MAP
    assert worker.score(Task("label", label, check=False)).outcome != "ask"


def test_a_node_says_why_it_cannot_work(job: Job, tmp_path: Path) -> None:
    assert report(job).trouble == ""
    assert report(job).sees_studies
    assert not report(replace(job, studies=tmp_path / "none")).sees_studies
    assert "cannot load the networks" in report(replace(job, models=tmp_path)).trouble
    assert "is wanted" in report(replace(job, version="0.1.0 on Python 3.9")).trouble
    save_checkpoint(tmp_path / "embedded" / "unet.safetensors", checkpoint("unet", 7))
    assert "are wanted" in report(replace(job, models=tmp_path)).trouble


@pytest.mark.parametrize(
    ("resources", "asked", "device", "workers", "share", "threads"),
    [
        ({"CPU": 16, "GPU": 2}, 0, "auto", 2, 1, 8),
        ({"CPU": 16, "GPU": 2}, 3, "auto", 3, 0.5, 5),
        ({"CPU": 16, "GPU": 2}, 1, "auto", 1, 1, 16),
        ({"CPU": 16, "GPU": 1}, 2, "cuda", 2, 0.5, 8),
        ({"CPU": 16, "GPU": 2}, 0, "cpu", 4, 0, 4),
        ({"CPU": 2}, 0, "auto", 1, 0, 2),
    ],
)
def test_how_many_workers_a_node_has(
    resources: dict[str, float], asked: int, device: str, workers: int, share: float, threads: int
) -> None:
    node = _node("n", NodeReport("host", "", True), resources, asked, device)
    assert (node.workers, node.gpus, node.threads) == (workers, share, threads)


def test_networks_that_were_exchanged_are_noticed(job: Job, tmp_path: Path) -> None:
    other = write_networks(tmp_path / "model", seed=3)
    result = Worker(replace(job, models=other), 1).score(Task("a", job.studies / "a.nii.gz"))
    assert result.outcome == "other_networks"


def test_a_network_that_cannot_be_loaded_is_not_the_volumes_fault(job: Job, tmp_path: Path) -> None:
    models = write_networks(tmp_path / "model")
    for file in (models / "embedded").iterdir():
        file.write_bytes(b"no network")
    with pytest.raises(CheckpointError):
        Worker(replace(job, models=models), 1).score(Task("a", job.studies / "a.nii.gz"))


def test_no_ray_and_no_cluster_are_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no cluster answers there"), connected("127.0.0.1:1"):
        pass
    with pytest.raises(SettingsError, match="no cluster answers there"), connected("head:99999999"):
        pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"pip install 'atlas8k\[cluster\]'"), connected("auto"):
        pass
    assert words(RuntimeError("x\n  ModuleNotFoundError: No module named 'atlas8k'")) == (
        "atlas8k is not installed there"
    )


def test_a_cluster_on_loopback_alone_is_told_from_one_of_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="not installed: ray")
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.2")  # nobody is there
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = "{}:{}".format(*head.getsockname())
        says = f"{address}: Ray looks for it at 127.0.0.2.*RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0"
        with pytest.raises(SettingsError, match=says), connected(address):
            pass


def test_sockets_lie_in_a_folder_of_a_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/" + 30 * "long/")
    assert len(str(short_folder())) <= 40
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SettingsError, match="set TMPDIR"):
        short_folder()


def test_a_network_that_fails_at_one_ct_is_that_cts_failure(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = Predictor._run, job.studies / "a.nii.gz"
    with monkeypatch.context() as patch:

        def odd(self: Predictor, name: str, *arguments: Any) -> Any:
            if name == "unet":
                raise RuntimeError("sizes of tensors must match")
            return run(self, name, *arguments)

        patch.setattr(Predictor, "_run", odd)
        result = Worker(job, 1).score(Task("a", path))
    assert result.outcome == "failed"
    assert "unet failed at this CT: RuntimeError: sizes of tensors" in result.why


def test_memory_that_is_short_for_one_network_is_not_the_volumes_fault(
    job: Job, tmp_path: Path
) -> None:
    models, one = write_networks(tmp_path / "model"), checkpoint("nnunet")
    # Voxels of a window that no address space holds.
    greedy = replace(one.preprocessing, window_size=(40_000,) * 3)
    save_checkpoint(models / "embedded" / "nnunet.safetensors", replace(one, preprocessing=greedy))
    version = ModelStore(models).served().model_version
    worker = Worker(replace(job, models=models, model_version=version), 1)
    path = job.studies / "a.nii.gz"
    for _ in range(2):  # nor is it remembered
        result = worker.score(Task("a", path))
        assert result.outcome == "short"
        assert "nnunet failed" in result.why


def test_a_node_that_cannot_write_is_not_the_volumes_fault(
    job: Job, worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = job.studies / "a.nii.gz"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    result = worker.score(Task("a", Path("/nowhere") / path.name, path.read_bytes()))
    assert result.outcome == "trouble"
    assert "No such file" in result.why


def test_a_gpu_that_is_listed_and_does_not_answer_is_no_place_to_work(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("atlas8k.models.resources.answers", lambda device: False)
    with pytest.raises(CheckpointError, match="cuda does not answer"):
        Worker(replace(job, settings=Settings(device="cuda:1")), 1, gpu=True).ready()


def test_a_worker_calls_the_one_gpu_that_it_is_shown_the_first(job: Job) -> None:
    second = replace(job, settings=Settings(device="cuda:1"))
    assert Worker(second, 1, gpu=True)._engine._settings.device == "cuda"
    assert Worker(second, 1)._engine._settings.device == "cuda:1"


@pytest.mark.parametrize(("gpu", "here"), [(True, True), (True, False), (False, True)])
def test_a_worker_waits_for_the_servers_inference_on_its_gpu_alone(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, here: bool
) -> None:
    """A processor stands for a GPU of the server's machine; elsewhere it is another one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one = Worker(job if here else replace(job, machine="another"), 1, gpu=gpu)
    found: list[Result] = []
    task = Task("a", job.studies / "a.nii.gz")
    thread = threading.Thread(target=lambda: found.append(one.score(task)))
    with DeviceLock(job.locks).turn(Turn.INFERENCE) as held:
        thread.start()
        if gpu and here:
            with held._wanted(Turn.SCORING) as wanted:
                while _lock_at_once(wanted):  # it has asked for its turn
                    fcntl.flock(wanted, fcntl.LOCK_UN)
                    time.sleep(0.01)
            assert not found
        else:
            thread.join(120)
            assert [one.outcome for one in found] == ["scored"]
    thread.join(120)
    assert [one.outcome for one in found] == ["scored"]


def test_a_worker_takes_locks_of_its_own_where_the_servers_are_not_to_be_had(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "state").touch()
    one = Worker(replace(job, locks=tmp_path / "state" / "device"), 1, gpu=True)
    assert one.score(Task("a", job.studies / "a.nii.gz")).outcome == "scored"
    assert list(tmp_path.glob("atlas8k-device-*/device.lock"))


def test_both_versions_are_said_where_they_differ() -> None:
    told = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.7\n"
        "This process on node 10.0.0.1 was started with:\n    Ray: 2.51.0\n    Python: 3.11.9\n"
    )
    assert in_one_line(told) == (
        "Version mismatch: The cluster was started with: Ray: 2.50.0, Python: 3.11.7; "
        "This process on node 10.0.0.1 was started with: Ray: 2.51.0, Python: 3.11.9"
    )
