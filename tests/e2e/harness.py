"""The real server, started as a user starts it, in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from monailabel.client import MONAILabelClient

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "apps" / "atlas8k"
BIN = Path(sys.executable).parent
START_S = 300.0
END_S = 10.0


@dataclass
class Server:
    """A running server."""

    url: str
    log: Path
    app: Path
    studies: Path
    """A folder; of a DICOM archive, the working folder."""
    process: subprocess.Popen[bytes]

    def client(self, name: str | None = "e2e") -> MONAILabelClient:
        return MONAILabelClient(self.url, tmpdir=str(self.log.parent), client_id=name)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def score(self, limit_s: float = 900.0) -> dict[str, Any]:
        """Score until nothing is stale, as a client does it: start, then ask for the state."""
        answer = requests.post(f"{self.url}/scoring/attention", json={}, timeout=60)
        assert answer.status_code in {200, 429}, answer.text  # 429: it runs already
        return self.finish("scoring", limit_s)

    def finish(self, kind: str, limit_s: float = 900.0) -> dict[str, Any]:
        """The background task of that kind when it has ended."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            answer = requests.get(f"{self.url}/{kind}/", timeout=60)
            if answer.status_code == 404:  # none was needed
                return {"status": "DONE", "details": []}
            task: dict[str, Any] = answer.json()
            if task["status"] not in {"SUBMITTED", "RUNNING"}:
                return task
            time.sleep(0.5)
        raise AssertionError(f"{kind} did not end in {limit_s:.0f} s\n{self.text()[-4000:]}")


def command(app: Path, studies: Path | str, port: int, *more: str) -> list[str]:
    """What a user types."""
    where = ["--app", str(app), "--studies", str(studies)]
    return ["monailabel", "start_server", *where, "--host", "127.0.0.1", "--port", str(port), *more]


def environment() -> dict[str, str]:
    """The user's, with the virtual environment activated; `monailabel` runs `python` from PATH."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server and everything it started, in bounded time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    # Scoring and training are processes of their own and outlive a server that ended.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def running(
    app: Path, studies: Path | str, folder: Path, *more: str, before: Sequence[str] = ()
) -> Iterator[Server]:
    """A server that answers; ended with everything it started.

    `before` is a command that runs the server's.
    """
    port, log = free_port(), folder / "server.log"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [*before, *command(app, studies, port, *more)],
            cwd=folder,
            env=environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", log, app, Path(studies), process)
    try:
        limit = time.monotonic() + START_S
        while True:
            with contextlib.suppress(requests.RequestException):
                # 401: it answers, but only to who has signed in
                if requests.get(f"{server.url}/info/", timeout=10).status_code in {200, 401}:
                    break
            if process.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"the server does not answer\n{server.text()[-6000:]}")
            time.sleep(0.3)
        yield server
    finally:
        end(process)
