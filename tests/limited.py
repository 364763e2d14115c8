"""Calls in processes that may take 300 MB more than they have: a regression fails, no more.

Each call runs in a fork of one process that has done the usual once, so that what is imported and
compiled does not count.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MORE_MB = 300
MB = 1_000_000


class Outcome(NamedTuple):
    """Name and text of what was raised, empty where nothing was; growth of the largest size."""

    error: str
    text: str
    grown_mb: float


def limited(usual: Sequence[Any], calls: Sequence[Sequence[Any]]) -> list[Outcome]:
    """Make calls, each ``("module:function", argument, ...)`` with texts for arguments."""
    asked = json.dumps([list(map(str, one)) for one in (usual, *calls)])
    done = subprocess.run(
        [sys.executable, __file__],
        input=asked,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def status_mb(name: str, process: int | str = "self") -> float:
    """A size of a process as the kernel has it: VmSize, VmHWM and so on."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(found.split()[1]) * 1024 / MB


def _call(one: Sequence[str]) -> None:
    module, _, name = one[0].partition(":")
    getattr(importlib.import_module(module), name)(*map(Path, one[1:]))


def _in_fork(one: Sequence[str]) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        before = status_mb("VmRSS")
        most = int((status_mb("VmSize") + MORE_MB) * MB)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        error = text = ""
        try:
            _call(one)
        except BaseException as err:
            error, text = type(err).__name__, str(err)[:500]
        line = json.dumps([error, text, status_mb("VmHWM") - before])
        os.write(writer, line.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        print(stream.read() or json.dumps(["Killed", "", 0.0]), flush=True)  # noqa: T201
    os.waitpid(child, 0)


if __name__ == "__main__":
    usual, *calls = json.load(sys.stdin)
    _call(usual)
    for one in calls:
        _in_fork(one)
