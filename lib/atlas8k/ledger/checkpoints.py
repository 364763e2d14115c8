"""Taking the log over into the ledger's file, where nobody waits for it.

SQLite does that in the transaction that makes the log long, by default: twenty milliseconds
and more on a disk, for somebody who only records a score. Here a thread does it, which
neither readers nor writers wait for, and ends.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

LOG_BYTES = 8000 * 4096
"""Some 500 scores; the log stays about that long. What begins it anew also cuts the file
(``journal_size_limit``), so that its size says how much of it is in use."""
AT_MOST_EVERY_S = 0.5
"""Readers may keep the log from beginning anew; each commit need not find that out."""


class Checkpoints:
    """Looks at the length of a ledger's log after a transaction.

    Parameters
    ----------
    path
        The ledger file.
    connect
        Opens a connection to it.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._log = path.with_name(f"{path.name}-wal")
        self._connect = connect
        self._running = threading.Lock()
        self._not_before = 0.0

    def consider(self) -> None:
        """Begin a checkpoint in a thread, where one is due and none runs in this process."""
        try:
            if self._log.stat().st_size < LOG_BYTES or time.monotonic() < self._not_before:
                return
        except OSError:
            return
        if not self._running.acquire(blocking=False):
            return
        self._not_before = time.monotonic() + AT_MOST_EVERY_S
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
            logger.warning("%s: the log could not be taken over (%s)", self._log, error)
        finally:
            self._running.release()
