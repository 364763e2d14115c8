"""A process that is killed, whose call fails, or whose disk is full, at the n-th of its steps.

Steps are: opening a file to write, each write, renaming, linking, removing, setting times, fsync,
and what a SQLite transaction ends with. A step is counted before it is taken, so that n goes
through every state that the steps before can leave; of a write, half is taken.

Libraries that write by themselves (SQLite, torch, safetensors) are not asked: for them no file
may grow beyond n bytes, from none to more than any of them has.
"""

from __future__ import annotations

import _io
import builtins
import errno
import io
import itertools
import multiprocessing
import os
import resource
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import IO, Any, Literal

from tests.apart import ended

from atlas8k.core.errors import Atlas8kError
from atlas8k.store import database

Mode = Literal["kill", "fail", "full"]
MODES: tuple[Mode, ...] = ("kill", "fail", "full")

_EVENTS = {"os.rename", "os.link", "os.remove", "os.utime"}
_WRITE = os.O_WRONLY | os.O_RDWR
_FORK = multiprocessing.get_context("fork")
MOST = 600
SIZES = (0, 1, *(int(256 * 1.7**n) for n in range(20)), resource.RLIM_INFINITY)
"""Bytes that a file may have, the last: as many as it likes."""


class _Counter:
    """Counts the steps of one thread, and ends the process or the call at the n-th."""

    def __init__(self, n: int, mode: Mode) -> None:
        self.left, self.mode = n, mode
        self.thread = threading.get_ident()
        self.on = False

    def step(self, before: Callable[[], object] = lambda: None) -> None:
        """Count a step; at the n-th, `before` is done of it and no more."""
        if not self.on or threading.get_ident() != self.thread:
            return
        self.left -= 1
        if self.left:
            return
        before()
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, "no space left on this disk, says the test")

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & _WRITE
        if event in _EVENTS or (writes and "-shm" not in str(args[0])):
            self.step()


def _count_writes(counter: _Counter) -> None:
    """Count what Python itself writes, where it reaches the disk: below its buffers."""
    plain_open, plain_write, sendfile = io.open, os.write, os.sendfile

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            half = bytes(memoryview(data).cast("B")[: len(memoryview(data).cast("B")) // 2])
            counter.step(lambda: super(Raw, self).write(half))
            return super().write(data)

    def open_(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> IO[Any]:
        if not set(mode) & set("wax+"):
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw  # type: ignore[return-value]
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw, size)
        if "b" in mode:
            return buffered  # type: ignore[return-value]
        text = io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)
        text.mode = mode
        return text

    def write(handle: int, data: bytes) -> int:
        counter.step(lambda: plain_write(handle, data[: len(data) // 2]))
        return plain_write(handle, data)

    def send(out: int, source: int, offset: int, count: int) -> int:
        counter.step(lambda: sendfile(out, source, offset, 1))
        return sendfile(out, source, offset, count)

    for module in (builtins, io, _io):
        module.open = open_  # type: ignore[attr-defined]
    os.write, os.sendfile = write, send  # type: ignore[assignment]


def _install(counter: _Counter) -> None:
    """Have steps of this process counted; for a forked one, as a hook cannot be taken off."""
    _count_writes(counter)
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
    if mode == "full":
        _run_full(n, act, prepare())
    counter = _Counter(n, mode)
    _install(counter)  # first: a connection that is opened now is used later
    thing = prepare()
    counter.on = True
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


def _run_full(n: int, act: Callable[[Any], None], thing: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZES[n - 1], hard))
    failed = 0
    try:
        act(thing)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        failed = 3
    except Atlas8kError:  # what it says is looked at in tests of the disk full
        failed = 3
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    os._exit(failed)


@contextmanager
def folder_in_memory(otherwise: Path) -> Iterator[Path]:
    """Yield a folder whose fsync takes no time, where this computer has one.

    Whether it is called is counted here; that it works is the kernel's.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory) as folder:
        yield Path(folder)


def at_every_step(
    mode: Mode,
    prepare: Callable[[], Any],
    act: Callable[[Any], None],
    *,
    context: BaseContext = _FORK,
) -> Iterator[int]:
    """Do `act` in a process of its own, ended at its first step, its second, and so on.

    Yields the number of the step after each; the caller looks at what is left, and puts
    everything back as it was. Ends after the run that comes to its end, which is the last.

    Parameters
    ----------
    prepare
        Opens what `act` gets, in that process, before steps are counted.
    context
        How its processes are made; those that use torch, by a server of forks.
    """
    for n in itertools.count(1):
        assert n < MOST, f"not at its end after {MOST} steps"
        process = context.Process(  # type: ignore[attr-defined]
            target=_run, args=(n, mode, prepare, act)
        )
        process.start()
        code = ended(process)
        assert code in (0, {"kill": -signal.SIGKILL, "fail": 3, "full": 3}[mode]), (n, code)
        yield n
        last = n == len(SIZES) if mode == "full" else code == 0
        if last:
            assert code == 0
            return
