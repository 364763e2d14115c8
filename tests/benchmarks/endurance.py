"""Thousands of cases through one server: does anything grow, or stay behind?

Usage: ``python tests/benchmarks/endurance.py [--cycles 2000] [--broken 500]``

The real server over tiny CTs. A cycle is what an annotator does with a case: take the next sample,
fetch it, have it predicted, submit a label. The case is then opened again, and comes back. Every
tenth time what was predicted is thrown away, so that the networks run again; in between it comes
from the cache, as it does where volumes are scored. Meanwhile uploads break off half-way.

* ``bytes_a_cycle``: slope of the server's own memory (unique set size) by least squares over the
  second half of the cycles; the allocator settles within some 300, before that it is of no use;
* ``descriptors_left``, ``threads_left``: more of them at the end than after the first tenth;
* ``files_left``: files in the temporary folder at the end, and
  ``files_after_end``: once the server was told to end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
import requests

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, label_bytes, small_server

from atlas8k.core.structures import ORGAN_NAMES

IMAGES = ("case0", "case1", "case2", "case3")
PREDICTED_EACH = 10
SETTLED_S = 15.0
"""Connections and idle threads have ended by then."""
LOCK = ".lock"


class Annotator:
    """Works on one case after the other, over one connection."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.url, self.session = server.url, requests.Session()
        self.labels = [label_bytes(folder, organ) for organ in (5, 8)]

    def ask(self, method: str, path: str, **more: object) -> requests.Response:
        answer = self.session.request(method, self.url + path, timeout=LIMIT_S, **more)  # type: ignore[arg-type]
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
        return answer

    def cycle(self, number: int) -> None:
        sample = self.ask("POST", "/activelearning/first", json={"client_id": "anna"}).json()
        image = sample["id"]
        self.ask("GET", f"/datastore/image?image={image}")
        self.ask("POST", f"/infer/ensemble?image={image}&output=image")
        said = {"client_id": "anna", "lease": sample["lease"], "volume_is_right": [*ORGAN_NAMES]}
        self.ask(
            "PUT",
            f"/datastore/label?image={image}",
            files={"label": ("label.nii.gz", self.labels[number % 2])},
            data={"params": json.dumps(said)},
        )
        self.ask("POST", f"/atlas8k/labels/{image}/reopen", json={"client_id": "anna"})


def break_off(url: str, number: int) -> None:
    """Send half of an upload and hang up, every second time without a word."""
    where = urlsplit(url)
    kind = ("label", "image")[number % 2]
    body = (
        f'--x\r\nContent-Disposition: form-data; name="{("label", "file")[number % 2]}"; '
        'filename="a.nii.gz"\r\nContent-Type: application/gzip\r\n\r\n'
    ).encode() + os.urandom(2_000_000)
    head = (
        f"PUT /datastore/{kind}?image=case0 HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {2 * len(body)}\r\n\r\n"
    )
    with socket.create_connection((str(where.hostname), int(where.port or 0)), LIMIT_S) as client:
        if number % 4 < 2:
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.sendall(head.encode() + body)


def slope(values: list[int]) -> float:
    """Return the growth a step, by least squares."""
    return float(np.polyfit(np.arange(len(values)), values, 1)[0])


def left_in(folder: Path) -> list[str]:
    """Return the files that lie in the temporary folder; a server's lock is none."""
    return sorted(str(p) for p in folder.rglob("*") if p.is_file() and p.name != LOCK)


def run(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    temporary = folder / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    with small_server(folder, "--conf", "budget", "1", images=IMAGES) as server:
        process = psutil.Process(server.process.pid)
        annotator, memory = Annotator(server, folder), []
        begun, broken, before = time.monotonic(), 0, (0, 0)
        for number in range(options.cycles):
            if number % PREDICTED_EACH == 0:
                shutil.rmtree(server.studies / ".atlas8k" / "cache", ignore_errors=True)
            annotator.cycle(number)
            while broken < options.broken * (number + 1) // options.cycles:
                break_off(server.url, broken)
                broken += 1
            memory.append(process.memory_full_info().uss)
            if number == options.cycles // 10:
                time.sleep(SETTLED_S)
                before = process.num_fds(), process.num_threads()
            if number % 100 == 99:
                print(f"{number + 1} cycles, {memory[-1] / 1e6:.1f} MB", flush=True)
        seconds = time.monotonic() - begun
        time.sleep(SETTLED_S)
        after = process.num_fds(), process.num_threads()
        left = left_in(temporary)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        at_end = [str(path) for path in temporary.rglob("*")]
    for name in dict.fromkeys([*left, *at_end]):
        print(f"left: {name}")
    return {
        "cycles": options.cycles,
        "broken": broken,
        "bytes_a_cycle": slope(memory[len(memory) // 2 :]),
        "memory_mb": memory[-1] / 1e6,
        "descriptors_left": max(0, after[0] - before[0]),
        "threads_left": max(0, after[1] - before[1]),
        "files_left": len(left),
        "files_after_end": len(at_end),
        "seconds_a_cycle": seconds / options.cycles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--broken", type=int, default=500, help="uploads broken off half-way")
    options = parse(parser, {"cycles": 100, "broken": 25})
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
        figures = run(options, Path(folder))
    for name, value in figures.items():
        print(f"{name:18s} {value:12.2f}")
    report("endurance", figures, options)


if __name__ == "__main__":
    main()
