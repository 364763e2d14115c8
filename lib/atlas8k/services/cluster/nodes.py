"""A Ray cluster: joined or begun on this machine, its nodes asked what they can do."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from atlas8k.core.errors import SettingsError
from atlas8k.services.cluster.worker import Job, NodeReport, report

logger = logging.getLogger(__name__)

HERE = "local"
"""In place of an address: a cluster of this machine alone, ended with the command."""
MOST_LETTERS = 40
"""Of Ray's folder: a socket's path may have 107 bytes, of which Ray takes the others."""
ANSWER_S = 60.0
"""No run waits longer for a node to say what it can do."""


@dataclass(frozen=True)
class Node:
    """A node that can work.

    Attributes
    ----------
    key
        Ray's id of it.
    workers
        How many it is to have.
    gpus
        Of each worker, below 1 where some share one; 0: it computes on the processor.
    threads
        Of the processor, of each worker.
    """

    key: str
    host: str
    workers: int
    gpus: float
    threads: int
    sees_studies: bool


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Join a cluster for the block; yield the module ``ray``.

    Parameters
    ----------
    address
        ``HOST:PORT`` of a cluster's head, ``auto`` for the one that this machine is part of,
        ``local`` for all processors and GPUs of this machine.

    Raises
    ------
    SettingsError
        Ray is not installed, or of another version than the cluster's; nothing answers there.
    """
    # Ray reports its use to its makers, unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == HERE:  # Ray takes the loopback address for others than its own only so
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as err:
        raise SettingsError(
            "scoring on a cluster needs Ray: pip install 'atlas8k[cluster]', the same version on "
            "every node"
        ) from err
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "namespace": "atlas8k",
    }
    if ":" in address:
        _reach(address)
        if (found := _looked_for(address, ray)) != address:
            _reach(address, found)
    try:
        if address == HERE:
            ray.init(
                address=HERE,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(short_folder()),
                **common,
            )
        else:
            ray.init(address=address, **common)
    except (OSError, RuntimeError, ValueError) as err:
        raise SettingsError(f"--cluster {address}: {in_one_line(str(err))}") from err
    try:
        yield ray
    finally:
        ray.shutdown()


def short_folder() -> Path:
    """Return a folder for the sockets of a cluster of this machine, whose paths must be short."""
    for base in (tempfile.gettempdir(), "/tmp", "/dev/shm"):
        folder = Path(base) / f"ray-{os.getuid()}"
        if len(str(folder)) <= MOST_LETTERS and os.access(base, os.W_OK):
            return folder
    raise SettingsError(
        f"--cluster {HERE}: Ray's sockets want a short path; set TMPDIR to a folder of at most "
        f"{MOST_LETTERS} letters"
    )


def _reach(address: str, instead: str = "") -> None:
    """Raise where nothing answers, or at what Ray takes it for; Ray would try for minutes."""
    host, _, port = (instead or address).rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S / 4).close()
    except (OSError, ValueError, OverflowError) as err:
        why = f"no cluster answers there ({err}); `ray start --head` begins one"
        if instead:
            why = (
                f"Ray looks for it at {instead}, where nothing answers ({err}); a cluster on the "
                "loopback address alone is joined with RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 in the "
                "environment"
            )
        raise SettingsError(f"--cluster {address}: {why}") from err


def _looked_for(address: str, ray: Any) -> str:
    """Return where Ray looks for a cluster: it takes loopback for the machine's own address."""
    host, _, port = address.rpartition(":")
    if host not in ("localhost", "127.0.0.1"):
        return address
    return f"{ray.util.get_node_ip_address()}:{port}"


def pinned(ray: Any, key: str) -> Any:
    """Return the strategy that puts something on one node, or nowhere."""
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(key, soft=False)


class _Probe(NamedTuple):
    """What a node was asked, and when."""

    key: str
    node: dict[str, Any]
    """What Ray says of it."""
    since: float


class Nodes:
    """The nodes of a cluster, each asked once what it can do.

    Parameters
    ----------
    workers
        On each node; 0: one for each GPU, or for every four processors where there is none.
    """

    def __init__(self, ray: Any, job: Job, workers: int) -> None:
        self._ray, self._job, self._workers = ray, job, workers
        self._known: set[str] = set()
        self._probes: dict[Any, _Probe] = {}
        self._late: set[str] = set()

    def ask(self) -> None:
        """Ask the nodes that have joined since."""
        probe = self._ray.remote(num_cpus=0, max_retries=0)(report)
        for node in self._ray.nodes():
            if node["Alive"] and (key := node["NodeID"]) not in self._known:
                self._known.add(key)
                asked = probe.options(scheduling_strategy=pinned(self._ray, key)).remote(self._job)
                self._probes[asked] = _Probe(key, node, time.monotonic())

    def answered(self, wait_s: float = 0) -> list[Node]:
        """Return the nodes that have said meanwhile that they can work.

        The others are named in the log; one that is late may still come.
        """
        if not self._probes:
            return []
        probes = list(self._probes)
        done, _ = self._ray.wait(probes, num_returns=len(probes), timeout=wait_s)
        found = [self._found(answer, self._probes.pop(answer)) for answer in done]
        for key, node, since in self._probes.values():
            if key not in self._late and (wait_s or time.monotonic() > since + ANSWER_S):
                self._late.add(key)
                logger.warning(
                    "node %s has not answered within %.0f s; work goes on without it until it does",
                    *(node["NodeManagerAddress"], ANSWER_S),
                )
        return [node for node in found if node is not None]

    def _found(self, answer: Any, probe: _Probe) -> Node | None:
        name = probe.node["NodeManagerAddress"]
        try:
            told: NodeReport = self._ray.get(answer)
        except Exception as err:  # whatever Ray makes of what went wrong on another machine
            logger.warning("node %s is left out: %s", name, words(err))
            return None
        if told.trouble:
            logger.warning("node %s (%s) is left out: it %s", name, told.host, told.trouble)
            return None
        job, resources = self._job, probe.node["Resources"]
        if not told.sees_studies:
            logger.warning("node %s does not see %s: CTs are sent to it", told.host, job.studies)
        return _node(probe.key, told, resources, self._workers, job.settings.device)


def _node(
    key: str, told: NodeReport, resources: dict[str, float], workers: int, device: str
) -> Node:
    cpus = max(1, int(resources.get("CPU", 1)))
    gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
    number = workers or gpus or max(1, cpus // 4)
    # Of two on a GPU, one makes its labels while the other computes; Ray puts none on two GPUs.
    share = 1 / math.ceil(number / gpus) if gpus else 0
    return Node(key, told.host, number, share, max(1, cpus // number), told.sees_studies)


def in_one_line(text: str) -> str:
    """Return all lines of an error in one; Ray says two versions in six lines."""
    joined = ""
    for line in text.strip().split("\n"):
        if not line.strip():
            continue
        between = " " if joined.endswith(":") else ", " if line[0].isspace() else "; "
        joined += (between if joined else "") + line.strip()
    return joined


def words(error: BaseException) -> str:
    """Return in a line what went wrong on a node."""
    text = str(error)
    if "No module named 'atlas8k'" in text:
        return "atlas8k is not installed there"
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    return lines[-1] if lines else type(error).__name__
