"""A process that is killed, or whose call fails, at the n-th of its steps to disk.

Steps are: opening a file to write, renaming, linking, removing, setting times, fsync, and
what a SQLite transaction ends with. A step is counted before it is taken, so that n goes
through every state that the steps before can leave.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

from atlas8k.store import database

Mode = Literal["kill", "fail"]

_EVENTS = {"os.rename", "os.link", "os.remove", "os.utime"}
_WRITE = os.O_WRONLY | os.O_RDWR
_FORK = multiprocessing.get_context("fork")
MOST = 400


class _Counter:
    """Counts the steps of one thread, and ends the process or the call at the n-th."""

    def __init__(self, n: int, mode: Mode) -> None:
        self.left, self.mode = n, mode
        self.thread = threading.get_ident()
        self.on = True

    def step(self) -> None:
        if not self.on or threading.get_ident() != self.thread:
            return
        self.left -= 1
        if self.left:
            return
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, "no space left on this disk, says the test")

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & _WRITE
        if event in _EVENTS or (writes and "-shm" not in str(args[0])):
            self.step()


def _install(counter: _Counter) -> None:
    """Count in this process from now on; for a forked one, as a hook cannot be taken off."""
    sync = os.fsync

    def fsync(handle: int) -> None:
        counter.step()
        sync(handle)

    os.fsync = fsync

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                counter.step()
            return super().execute(sql, *values)

    connect = sqlite3.connect
    database.sqlite3.connect = lambda *a, **k: connect(*a, **{**k, "factory": Connection})  # type: ignore[assignment]
    sys.addaudithook(counter.hook)


def _run(n: int, mode: Mode, prepare: Callable[[], Any], act: Callable[[Any], None]) -> None:
    thing = prepare()
    counter = _Counter(n, mode)
    _install(counter)
    try:
        act(thing)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    except Exception as error:
        if "no space left" not in str(error) and "full" not in str(error):
            raise
    counter.on = False
    os._exit(0 if counter.left > 0 else 3)


def at_every_step(
    mode: Mode, prepare: Callable[[], Any], act: Callable[[Any], None]
) -> Iterator[int]:
    """Do `act` in a process of its own, ended at its first step, its second, and so on.

    Yields the number of the step after each; the caller looks at what is left, and puts
    everything back as it was. Ends after the run that comes to its end, which is the last.

    Parameters
    ----------
    prepare
        Opens what `act` gets, in that process, before steps are counted.
    """
    for n in range(1, MOST):
        process = _FORK.Process(target=_run, args=(n, mode, prepare, act))
        process.start()
        process.join(120)
        ended = {"kill": -signal.SIGKILL, "fail": 3}[mode]
        assert process.exitcode in (0, ended), (n, process.exitcode)
        yield n
        if process.exitcode == 0:
            return
    raise AssertionError(f"not at its end after {MOST} steps")
