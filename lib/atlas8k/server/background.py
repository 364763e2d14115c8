"""Background processes of the server: scoring, training and batch inference.

MONAI Label hands everything a client sends to the process it starts, where some keys reach
further than a request may: `bundle_path` goes into that process's search path for code,
`gpus` into its environment. So only what a task knows is passed on, checked here, before a
process is started for it. One task of a kind runs at a time.

MONAI Label leaves its processes running when the server is killed, and when it is told to end
it waits for them. So the server ends them before it goes, and each looks after its server
itself, for the case that it had no time for that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from types import FrameType
from typing import Any

import psutil
from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.utils import (
    background_executors,
    background_processes,
    processes,
    run_background_task,
    stop_background_task,
    tasks,
)

from atlas8k.services.errors import RequestError
from atlas8k.services.labels.drafts import PUBLIC
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.studies.names import check_tag

_START = threading.Lock()
STARTING_S = 30.0
"""A task that was submitted has its process by then, even where everything is busy."""
SERVER = "ATLAS8K_SERVER_PID"
LOOK_AGAIN_S = 0.5
ONE_BY_ONE = {"multi_gpu": False, "device": "cpu", "max_workers": 1}
"""The stock batch inference deals images out to GPUs, and divides by their number."""
TRAINING_KEYS = ("max_epochs", "steps_per_epoch", "networks")


def training_request(model: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the request of a training: what :data:`TRAINING_KEYS` name, and nothing else.

    Settings of MONAI Label's own clients that mean nothing here are left out.
    """
    given = {key: value for key, value in (params or {}).items() if key in TRAINING_KEYS}
    return {"model": model, **given}


def result_tag(model: str, tag: object) -> str:
    """Return the tag under which a model's result is stored, ``original`` where none is given.

    Raises
    ------
    RequestError
        The tag of labels that people have drawn, or a model whose result is no label.
    """
    if model == "attention":
        raise RequestError("attention regions are no organs and are not kept as a label")
    checked = check_tag(tag or ORIGINAL)
    if checked == FINAL:
        raise RequestError(f"tag {FINAL!r} is for labels that an annotator submits")
    if checked == PUBLIC:
        raise RequestError(f"tag {PUBLIC!r} is for labels that a dataset came with")
    return checked


def batch_request(model: str, images: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the request of a batch inference.

    Raises
    ------
    RequestError
        A tag under which results may not be stored, or a number that is none.
    """
    given = params or {}
    size = given.get("max_batch_size") or 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= 1_000_000:
        raise RequestError("max_batch_size: a whole number from 0 (all) to 1000000 is needed")
    return {
        "model": model,
        "images": images,
        "label_tag": result_tag(model, given.get("label_tag")),
        "save_label": True,
        "max_batch_size": size,
        **ONE_BY_ONE,
    }


def runs(kind: str) -> bool:
    """Return whether a task of that kind runs here or waits to."""
    return any(task["status"] in {"SUBMITTED", "RUNNING"} for task in tasks(kind))


def start(
    kind: str, request: dict[str, Any], *, run_sync: bool = False, enqueue: bool = False
) -> Any:
    """Start a task unless one of its kind runs.

    Parameters
    ----------
    kind
        ``"scoring"``, ``"train"`` or ``"batch_infer"``.
    run_sync
        Run it in this process and return its result.
    enqueue
        Wait for the one that runs in place of being refused.

    Raises
    ------
    HTTPException
        429: one runs.
    """
    with _START:
        if runs(kind) and not enqueue and not run_sync:
            raise HTTPException(429, f"{kind} is already running; ask again when it has ended")
        if not run_sync:
            return dict(run_background_task(request, kind))
    return getattr(app_instance(), kind)(request)


def stop(kind: str) -> dict[str, Any] | None:
    """Stop the task that runs, and those that wait for it; ``None`` where none runs.

    MONAI Label's own stop finds nothing to end between the answer to a start and the
    start of its process, says so with 200, and the task runs on; here that is waited for.
    And it ends one process, after which the next task in the queue starts.
    """
    with _START:
        until = time.monotonic() + STARTING_S
        while runs(kind) and not processes(kind) and time.monotonic() < until:
            time.sleep(0.02)
        _empty_queue(kind)  # first: the next one begins as soon as a process ends
        try:
            task = stop_background_task(kind)
        except psutil.NoSuchProcess:  # it ended in this moment
            return None
    return dict(task) if task else None


def _empty_queue(kind: str) -> None:
    """Take back the tasks that have no process yet."""
    queue = background_executors.pop(kind, None)  # the next task makes another one
    if queue is not None:
        queue.shutdown(wait=False, cancel_futures=True)
    begun = processes(kind)
    for task in tasks(kind):
        if task["status"] == "SUBMITTED" and task["id"] not in begun:
            task["status"] = "STOPPED"
            task["end_ts"] = datetime.now().strftime("%Y-%m-%d %H:%M:%S")


def end_with_server() -> None:
    """In the server: have what it starts know it, and end that on a signal to end."""
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
    for executor in background_executors.values():
        executor.shutdown(wait=False, cancel_futures=True)
    for running in list(background_processes.values()):
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
