"""Processes of a test's own, begun from one that runs no other threads.

A process that is forked while another thread is in SQLite or in the allocator waits for ever: the
lock it needs is held by a thread that does not live on in it. Other tests of the same run leave
such threads behind.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.models.test_crash",
        "tests.services.exporting.kit",
        "tests.services.studies.kit",
        "tests.store.kit",
        "tests.training.test_crash",
    ]
)
LIMIT_S = 120


def start(target: Callable[..., object], *args: object) -> BaseProcess:
    """Run `target`, a function of a module, in a process of its own; it opens all files itself."""
    process = CONTEXT.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def ended(process: BaseProcess, limit_s: float = LIMIT_S) -> int:
    """Wait for the end of a process; its exit status, negative for a signal."""
    process.join(limit_s)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"{process.name} had not ended after {limit_s:.0f} s")
    return process.exitcode


def run(target: Callable[..., Any], *args: object) -> int:
    """Run `target` in a process of its own until its end."""
    return ended(start(target, *args))
