"""Scoring and training end when the server does, however it ends.

They are processes of their own. MONAI Label leaves them running when the server is killed,
and when it is told to end it waits for them. So the server ends them before it goes, and
each looks after its server itself, for the case that it had no time for that.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import psutil
from monailabel.utils.async_tasks import utils

logger = logging.getLogger(__name__)

SERVER = "ATLAS8K_SERVER_PID"
LOOK_AGAIN_S = 0.5


def adopt() -> None:
    """In the server: say who it is to what it starts, and end that on a signal to end."""
    os.environ[SERVER] = str(os.getpid())
    if threading.current_thread() is not threading.main_thread():
        return  # signals can only be handled there; tests run a server elsewhere
    for number in (signal.SIGTERM, signal.SIGINT):
        _before(number)


def _before(number: signal.Signals) -> None:
    previous = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> Any:
        end_children()
        if callable(previous):
            return previous(received, frame)
        signal.signal(received, signal.SIG_DFL)
        signal.raise_signal(received)
        return None

    signal.signal(number, handle)


def end_children() -> None:
    """End the background processes of this server; what waits to be started is dropped."""
    for executor in utils.background_executors.values():
        executor.shutdown(wait=False, cancel_futures=True)
    for running in list(utils.background_processes.values()):
        for process in list(running.values()):
            end_tree(process.pid)


def end_tree(pid: int) -> None:
    """Kill a process and all that it started."""
    try:
        process = psutil.Process(pid)
        for child in [*process.children(recursive=True), process]:
            child.kill()
    except psutil.NoSuchProcess:
        return


def follow_server() -> None:
    """In a background process: end within a second of the server's end.

    Every file is written whole and the ledger keeps complete entries only, so that this
    is no worse a moment than any other.
    """
    server = os.environ.get(SERVER, "")
    if not server.isdigit():
        return  # started by hand

    def look() -> None:
        # A process whose parent has ended gets another one.
        while os.getppid() == int(server):
            time.sleep(LOOK_AGAIN_S)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(1)

    threading.Thread(target=look, name="follow-server", daemon=True).start()
