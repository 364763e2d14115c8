"""What a client may say about scoring, training and batch inference; one run at a time.

MONAI Label hands everything a client sends to the process it starts, where some keys reach
further than a request may: `bundle_path` goes into that process's search path for code,
`gpus` into its environment. So only what a task knows is passed on, checked here, before a
process is started for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import psutil
from fastapi import HTTPException
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import background_executors, processes, tasks

from atlas8k.server.desk.drafts import PUBLIC
from atlas8k.server.errors import RequestError
from atlas8k.server.startup import truth
from atlas8k.server.studies.catalogue import FINAL
from atlas8k.server.studies.names import check_tag

_START = threading.Lock()
STARTING_S = 30.0
"""A task that was submitted has its process by then, even where everything is busy."""
TRAINING_KEYS = ("max_epochs", "steps_per_epoch", "networks")


def training_request(model: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Request of a training: what :data:`TRAINING_KEYS` name, and nothing else.

    Settings of MONAI Label's own clients that mean nothing here are left out.
    """
    given = {key: value for key, value in (params or {}).items() if key in TRAINING_KEYS}
    return {"model": model, **given}


def batch_request(model: str, images: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Request of a batch inference.

    Raises
    ------
    RequestError
        A tag under which results may not be kept, or a number that is none.
    """
    given = params or {}
    tag = check_tag(given.get("label_tag") or "original")
    if tag in (FINAL, PUBLIC):
        raise RequestError(f"tag {tag!r} is for labels that people have drawn")
    if model == "attention":
        raise RequestError("attention regions are no organs and are not kept as a label")
    size = given.get("max_batch_size") or 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= 1_000_000:
        raise RequestError("max_batch_size: a whole number from 0 (all) to 1000000 is needed")
    return {
        "model": model,
        "images": images,
        "label_tag": tag,
        "save_label": True,
        "max_batch_size": size,
        "multi_gpu": False,
        "device": "cpu",
        "max_workers": 1,
    }


def runs(kind: str) -> bool:
    """Whether a task of that kind runs here or waits to."""
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
        if runs(kind) and not enqueue and not truth(run_sync):
            raise HTTPException(429, f"{kind} is already running; ask again when it has ended")
        if not run_sync:
            task, detail = AsyncTask.run(kind, request=request, enqueue=True)
            if task is None:
                raise HTTPException(429, detail)
            return dict(task)
    result, _ = AsyncTask.run(kind, request=request, force_sync=True, enqueue=True)
    return result


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
            task = AsyncTask.stop(kind)
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
