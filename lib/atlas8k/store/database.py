"""Connections and transactions: one writer at a time, readers never wait.

Durability. The file is in WAL mode with ``synchronous=NORMAL``: a killed process loses
nothing that was committed, a crash of the machine can lose the last transactions before
it, never their order or half of one. For scores and leases that is right: a lost score is
stale and is scored again, a lost lease at worst gives a volume out twice and ends in state
``conflict``. What people did (submissions, decisions, exclusions, rounds) is on disk before
the call returns: after such a commit the log is synced, when others may write already. That
gives what ``synchronous=FULL`` does, but nobody waits for somebody else's disk.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from atlas8k.store.errors import (
    LedgerFileError,
    LedgerLockedError,
    LedgerReadOnlyError,
    NetworkFileSystemError,
    is_busy,
    translated,
)
from atlas8k.store.filesystem import network_type
from atlas8k.store.schema import VERSION, bring_up_to_date, check_still, check_version, keep_former

_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -4000",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA synchronous = NORMAL",
)
# Other processes' transactions take well under a millisecond as a rule; waiting for one in
# short steps keeps it out of the 99th percentile, and for a long one costs no processor.
_RETRY_S = (0.0001, 0.001)
_SHORT_S = 0.005
# After a fork the parent's connections must be neither used nor closed, not even by the
# garbage collector.
_INHERITED: list[object] = []
T = TypeVar("T")


class Database:
    """A ledger file: opened, checked and brought up to date; connections are pooled.

    Any thread and, after a fork, any process may use it.

    Parameters
    ----------
    path
        Made if missing, with its folder.
    timeout_s
        How long to wait for another process's transaction.

    Raises
    ------
    LedgerFileError
        The file cannot be used; the subclass says why.
    """

    def __init__(self, path: str | Path, timeout_s: float = 10.0) -> None:
        self.path = Path(path).resolve()
        self.timeout_s = timeout_s
        self._forget()
        kind = network_type(self.path)
        if kind is not None:
            raise NetworkFileSystemError(
                self.path,
                f"on a network file system ({kind}), where several processes corrupt a ledger; "
                "choose a folder on a local disk",
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerReadOnlyError(self.path, f"its folder cannot be made ({error})") from error
        with translated(self.path):
            self._prepare()
        self._opened = self._identity()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._idle: list[sqlite3.Connection] = []
        self._watching: sqlite3.Connection | None = None
        self._generation = getattr(self, "_generation", 0)
        self._watch_lock = threading.Lock()
        self._number = 0
        self._pool_lock = threading.Lock()
        self._write_lock = threading.Lock()

    def _prepare(self) -> None:
        connection = self._open()
        try:
            # Read first: a newer, foreign or damaged file must not be touched at all.
            version = self._retry(lambda: check_version(connection, self.path))
            if 0 < version < VERSION:
                keep_former(connection, self.path, version)
            self._retry(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
            self._begin(connection)
            with _ending(connection):  # a read-only file is found out now, not when it matters
                bring_up_to_date(connection, self.path)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        for pragma in _PRAGMAS:
            # Even these look at the file, which another process may just be making.
            self._retry(lambda pragma=pragma: connection.execute(pragma))  # type: ignore[misc]
        return connection

    def _retry(self, action: Callable[[], T]) -> T:
        """SQLite's own waiting backs off to 100 ms between looks; this one stays at 1 ms."""
        started = time.monotonic()
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - started
                if not is_busy(error) or waited > self.timeout_s:
                    raise
                time.sleep(_RETRY_S[waited > _SHORT_S] * random.uniform(0.5, 1.5))

    def _begin(self, connection: sqlite3.Connection) -> None:
        self._retry(lambda: connection.execute("BEGIN IMMEDIATE"))

    def _after_fork(self) -> None:
        """In a child process: neither the parent's connections nor its locks."""
        if self._pid != os.getpid():
            _INHERITED.append((self._idle, self._watching))
            self._forget()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self._after_fork()
        with self._pool_lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._open()
        try:
            yield connection
        finally:
            if connection.in_transaction:  # even the rollback failed: not fit for use
                connection.close()
            else:
                with self._pool_lock:
                    self._idle.append(connection)

    @contextmanager
    def write(self, *, durable: bool = False, keep: bool = True) -> Iterator[sqlite3.Connection]:
        """Open a write transaction: committed at the end, rolled back on any exception.

        ``durable`` also waits until the disk has it; without ``keep`` it is rolled back.
        """
        with translated(self.path), self._connection() as connection:
            # Threads of this process queue here instead of polling the file's lock.
            if not self._write_lock.acquire(timeout=self.timeout_s):
                raise LedgerLockedError(self.path, "other threads write for too long; try again")
            try:
                # Writing on into a file that was moved away or deleted would lose it all.
                if self._identity() != self._opened:
                    raise LedgerFileError(
                        self.path, "was moved away or replaced while in use; restart the server"
                    )
                self._begin(connection)
                with _ending(connection, "COMMIT" if keep else "ROLLBACK"):
                    check_still(connection, self.path)
                    yield connection
            finally:
                self._write_lock.release()
            if durable:
                self._sync_log()

    def _sync_log(self) -> None:
        """Wait until the disk has every transaction that was committed before."""
        try:
            log = os.open(f"{self.path}-wal", os.O_RDONLY)
        except FileNotFoundError:
            return  # all of it is in the ledger file, which SQLite synced before it removed the log
        try:
            os.fsync(log)
        except OSError as error:
            raise LedgerFileError(
                self.path, f"the disk does not confirm what was written ({error})"
            ) from error
        finally:
            os.close(log)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a consistent view; waits for nobody and holds up nobody."""
        with translated(self.path), self._connection() as connection:
            self._retry(lambda: connection.execute("BEGIN"))
            with _ending(connection):
                yield connection

    def data_version(self) -> tuple[int, int]:
        """Return something that changes with every transaction of anybody; microseconds."""
        self._after_fork()
        with translated(self.path), self._watch_lock:
            if self._watching is None:
                self._watching = self._open()
                self._generation += 1
            watching = self._watching
            version = self._retry(lambda: watching.execute("PRAGMA data_version").fetchone()[0])
            # Each connection counts from where it likes.
            return self._generation, int(version)

    def next_number(self, last: int) -> int:
        """Return a number above `last` that no thread of this process has been given."""
        self._after_fork()
        with self._pool_lock:
            self._number = max(self._number, last) + 1
            return self._number

    def close(self) -> None:
        """Close idle connections; the ledger opens new ones if used again."""
        self._after_fork()
        with self._pool_lock:
            while self._idle:
                self._idle.pop().close()
        with self._watch_lock:
            if self._watching is not None:
                self._watching.close()
                self._watching = None


@contextmanager
def _ending(connection: sqlite3.Connection, how: str = "COMMIT") -> Iterator[None]:
    try:
        yield
        connection.execute(how)
    except BaseException:
        # A full disk may have ended the transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
