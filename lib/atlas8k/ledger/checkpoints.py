"""Taking the log over into the ledger's file, where nobody waits for it.

SQLite does that in the transaction that makes the log long, by default: twenty milliseconds
and more on a disk, for somebody who only records a score. Here a thread does it, which
neither readers nor writers wait for, and ends.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

EVERY = 400
"""Transactions of this process from one checkpoint to the next: some 25 MB of log. The file
is not cut, only written anew from its start: growing it again may wait for the disk."""


class Checkpoints:
    """Counts the transactions of this process on one ledger.

    Parameters
    ----------
    path
        The ledger file.
    connect
        Opens a connection to it.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._connect = connect
        self._running = threading.Lock()
        self._since = 0

    def count(self) -> None:
        """After a transaction: begin a checkpoint in a thread, where one is due."""
        self._since += 1
        if self._since < EVERY or not self._running.acquire(blocking=False):
            return
        self._since = 0
        try:
            threading.Thread(target=self._run, name="ledger-checkpoint", daemon=True).start()
        except RuntimeError:  # the interpreter is ending; closing the file does it then
            self._running.release()

    def wait(self, timeout_s: float) -> None:
        """Until none runs, or for so long."""
        if self._running.acquire(timeout=timeout_s):
            self._running.release()

    def _run(self) -> None:
        try:
            connection = self._connect()
            try:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                connection.close()
        except sqlite3.Error as error:
            # Nothing is lost: the log is longer, and the next transaction tries again.
            logger.warning("%s: the log could not be taken over (%s)", self._path, error)
        finally:
            self._running.release()
