"""Scoring on a Ray cluster of three nodes, on loopback; a node, a worker and the driver killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.server.tiny import write_ct, write_networks

from atlas8k.core.settings import Settings
from atlas8k.core.volume import read_label
from atlas8k.services.cluster.worker import Result, Task, Worker
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring
from atlas8k.store import Ledger, locate

pytestmark = pytest.mark.slow

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="not installed: ray")
ROOT = Path(__file__).resolve().parents[2]
VOLUMES = 60
NODE = {
    "num_cpus": 2,
    "node_ip_address": "127.0.0.1",
    "include_dashboard": False,
    "object_store_memory": 100_000_000,
}
LIMIT_S = 600
DASHBOARD = 8265
"""Ray's own port for it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A studies folder of small CTs, with networks."""
    place = tmp_path_factory.mktemp("cluster")
    write_networks(place / "model")
    for number in range(VOLUMES):
        write_ct(place / "studies" / f"ct_{number:02d}.nii.gz", number, 0.7 + 0.06 * (number % 5))
    return place


@pytest.fixture
def nodes() -> Iterator[Any]:
    """Three nodes with two workers' room each; all their processes are ended."""
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'lib'}"
    try:
        started = cluster_utils.Cluster(initialize_head=True, head_node_args=NODE)
        for _ in range(2):
            started.add_node(**NODE)
        yield started
        processes = ray_processes(started)
        started.shutdown()
        until(lambda: not any(one.is_running() for one in processes), "Ray's processes ended")
    finally:
        os.environ.pop("PYTHONPATH")
        if inherited is not None:
            os.environ["PYTHONPATH"] = inherited


def ray_processes(started: Any) -> list[psutil.Process]:
    """All processes of a cluster's nodes."""
    heads = [pid_of(node, kind) for node in started.list_all_nodes() for kind in ("raylet",)]
    found = [psutil.Process(pid) for pid in heads if psutil.pid_exists(pid)]
    return found + [child for one in found for child in one.children(recursive=True)]


def pid_of(node: Any, kind: str) -> int:
    return int(node.all_processes[kind][0].process.pid)


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def driver(place: Path, studies: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "atlas8k", "score", str(place / studies)]
    return subprocess.Popen(
        [*command, "--models", str(place / "model"), *more],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'lib'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def scored(place: Path, studies: str) -> int:
    path = locate(str(place / studies))
    if not path.exists():
        return 0
    ledger = Ledger(path)
    try:
        with ledger.read() as tx:
            return int(tx.value("SELECT count(DISTINCT volume) FROM score") or 0)
    finally:
        ledger.close()


def entered(studies: Path) -> dict[str, tuple[str, int]]:
    """By volume that has a score when it was entered, and the time of change of its label."""
    ledger = Ledger(locate(str(studies)))
    try:
        with ledger.read() as tx:
            rows = tx.run(
                "SELECT v.name, max(r.at) FROM result r JOIN volume v ON v.id = r.volume"
                " GROUP BY v.name"
            ).fetchall()
    finally:
        ledger.close()
    labels = studies / "labels" / "original"
    return {name: (str(at), (labels / f"{name}.nii.gz").stat().st_mtime_ns) for name, at in rows}


def listening() -> set[tuple[str, int]]:
    """Addresses and ports on which the processes of the nodes and of the driver listen."""
    found: set[tuple[str, int]] = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            sockets = process.net_connections("tcp")
            found |= {tuple(one.laddr) for one in sockets if one.status == psutil.CONN_LISTEN}
    return found


def workers_of(node: Any) -> list[psutil.Process]:
    """Workers that run on a node now."""
    found = []
    for one in psutil.Process(pid_of(node, "raylet")).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "".join(one.cmdline()).startswith("ray::Worker"):
                found.append(one)
    return found


def test_node_worker_and_driver_are_killed(place: Path, nodes: Any) -> None:
    more = ("--cluster", nodes.address, "--workers", "2")
    begun = driver(place, "studies", *more)
    _, second, third = nodes.list_all_nodes()
    until(lambda: scored(place, "studies") >= 3, "three volumes scored")
    os.kill(pid_of(third, "raylet"), signal.SIGKILL)
    until(lambda: bool(workers_of(second)), "a worker on the second node")
    workers_of(second)[0].kill()
    before = scored(place, "studies")
    until(lambda: scored(place, "studies") >= before + 5, "five more scored")
    open_to = listening()
    assert {ip.removeprefix("::ffff:") for ip, _ in open_to} == {"127.0.0.1"}
    assert DASHBOARD not in {port for _, port in open_to}
    begun.kill()
    begun.communicate()
    done = entered(place / "studies")
    assert len(done) < VOLUMES  # it was in the middle of it
    again = driver(place, "studies", *more)
    output, _ = again.communicate(timeout=LIMIT_S)
    assert again.returncode == 0, output
    assert f"scored {VOLUMES} of {VOLUMES}" in output
    # What was there is not entered again, and all of the others are.
    after = entered(place / "studies")
    assert {volume: after[volume] for volume in done} == done
    assert len(after) == VOLUMES
    until(lambda: not workers_of(second), "workers end with their driver")

    alone = place / "alone"
    alone.mkdir()
    for ct in (place / "studies").glob("*.nii.gz"):
        (alone / ct.name).hardlink_to(ct)
    output, _ = driver(place, "alone").communicate(timeout=LIMIT_S)
    assert f"scored {VOLUMES} of {VOLUMES}" in output
    ours, one_process = labels_and_sizes(place / "studies"), labels_and_sizes(alone)
    assert ours.keys() == one_process.keys()
    for volume, (label, sizes) in one_process.items():
        assert np.array_equal(ours[volume][0], label)
        assert ours[volume][1] == pytest.approx(sizes, rel=1e-5)


def labels_and_sizes(studies: Path) -> dict[str, tuple[Any, list[float]]]:
    """By volume its draft label and its attention sizes."""
    ledger = Ledger(locate(str(studies)))
    try:
        with ledger.read() as tx:
            rows = tx.run(
                "SELECT v.name, s.organ, s.attention_ml FROM score s JOIN volume v"
                " ON v.id = s.volume ORDER BY v.name, s.organ"
            ).fetchall()
    finally:
        ledger.close()
    return {
        name: (
            read_label(studies / "labels" / "original" / f"{name}.nii.gz").array,
            [size for other, _, size in rows if other == name],
        )
        for name in sorted({name for name, *_ in rows})
    }


class Deadly(Worker):
    """Dies at one volume, as of memory that is short."""

    def score(self, task: Task, ahead: Task | None = None) -> Result:
        if task.volume == "ct_03":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(task, ahead)


def test_a_volume_that_kills_its_worker_twice_is_set_aside(tmp_path: Path, nodes: Any) -> None:
    from atlas8k.services.cluster.nodes import connected
    from atlas8k.services.cluster.scoring import Cluster

    models = write_networks(tmp_path / "model")
    for number in range(6):
        write_ct(tmp_path / "studies" / f"ct_{number:02d}.nii.gz", number)
    context = open_context(Settings(), str(tmp_path / "studies"), models)
    try:
        with connected(nodes.address) as ray:
            counts = Scoring(context, workers=Cluster(context, ray, models, 1, Deadly)).run()
        assert counts == {"scored": 5, "failed": 1, "set_aside": 0}
        [why] = context.ledger.failures(context.model_version()).values()
        assert "tried twice: the worker that predicted it died" in why
        assert context.ledger.peak_memory(context.model_version())["memory"] > 100
    finally:
        context.close()


def test_a_round_is_predicted_on_the_cluster(tmp_path: Path, nodes: Any) -> None:
    models, studies = write_networks(tmp_path / "model"), tmp_path / "studies"
    for number in range(4):
        write_ct(studies / f"ct_{number}.nii.gz", number)
    command = ["campaign", "next", "--no-train", "--studies", str(studies), "--models", str(models)]
    done = subprocess.run(
        [sys.executable, "-m", "atlas8k", *command, "--cluster", nodes.address, "--workers", "1"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'lib'}"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert scored(tmp_path, "studies") == 4
