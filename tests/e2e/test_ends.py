"""What a server started ends with it, and no two of a kind run."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import IMAGES, LIMIT_S, label_bytes, put_label, small_server

pytestmark = pytest.mark.slow
LONG = {"max_epochs": 10_000, "steps_per_epoch": 1}


def trainings(server: Server) -> list[psutil.Process]:
    """Background processes of this server, training ones."""
    return [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if "monailabel.interfaces.utils.app" in child.cmdline() and "train" in child.cmdline()
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_ends_with_its_server(
    tmp_path_factory: pytest.TempPathFactory, number: signal.Signals
) -> None:
    with small_server(tmp_path_factory.mktemp("ends")) as server:
        for image in IMAGES:
            content = label_bytes(server.log.parent)
            assert put_label(server, content, image).status_code == 200

        def start(_: int) -> int:
            url = f"{server.url}/train/atlas8k"
            return requests.post(url, json=LONG, timeout=LIMIT_S).status_code

        with ThreadPoolExecutor(6) as pool:
            codes = sorted(pool.map(start, range(6)))
        assert codes == [200, *[429] * 5]
        limit = time.monotonic() + 3 * LIMIT_S
        while "fine-tuning" not in server.text():
            assert time.monotonic() < limit, server.text()[-3000:]
            time.sleep(0.2)
        running = trainings(server)
        assert len(running) == 1
        server.process.send_signal(number)
        gone, alive = psutil.wait_procs(running, timeout=20)
        assert len(gone) == 1
        assert not alive
        server.process.wait(30)
