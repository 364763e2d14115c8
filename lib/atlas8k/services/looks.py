"""Sign-ins, and looks at images and labels, on their way into the audit trail.

Nobody waits for the disk to look at something: what was seen is gathered and written a moment
later, not durably, by one thread. Of a server that is killed, the looks of its last moments
are lost; what people did is written with what they did (:mod:`atlas8k.store.audit_trail`).
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from atlas8k.core.acting import Actor, actor
from atlas8k.core.errors import LedgerError
from atlas8k.store.audit_trail import Seen

if TYPE_CHECKING:
    from atlas8k.store import Ledger

logger = logging.getLogger(__name__)

EVERY_S = 1.0
MOST = 10_000
"""Different looks that wait to be written; of further ones only the number is recorded."""


class Looks:
    """Gathers what was seen and writes it in batches.

    The same look by the same person within a batch is one record, with how often it was: a
    viewer fetches a CT in hundreds of parts.

    Parameters
    ----------
    ledger
        Where the audit trail is.
    every_s
        How long at least between two batches, seconds.
    """

    def __init__(self, ledger: Ledger, every_s: float = EVERY_S) -> None:
        self._ledger, self._every_s = ledger, every_s
        self._waiting: dict[Any, Seen] = {}
        self._missed = 0
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._some = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def note(
        self, action: str, volume: str | None = None, *, by: Actor | None = None, **detail: Any
    ) -> None:
        """Have something recorded that was just seen; returns at once.

        Parameters
        ----------
        action
            ``look`` or ``sign_in``.
        volume
            By name.
        by
            Who; else who acts in this thread.
        detail
            JSON-ready; no name of a volume or file.
        """
        who = by or actor()
        key = (action, who, volume, repr(detail))
        with self._lock:
            known = self._waiting.get(key)
            if known is not None:
                self._waiting[key] = known._replace(times=known.times + 1)
            elif len(self._waiting) < MOST:
                self._waiting[key] = Seen(time.time(), action, who, volume, detail)
            else:
                self._missed += 1
            if self._thread is None:
                self._start()
        self._some.set()

    def _start(self) -> None:
        self._ended.clear()
        self._thread = threading.Thread(target=self._write_on, name="looks", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _write_on(self) -> None:
        while not self._ended.is_set():
            self._some.wait()
            self._some.clear()
            self.flush()
            self._ended.wait(self._every_s)

    def flush(self) -> None:
        """Write what waits; what cannot be written waits on."""
        with self._writing:
            with self._lock:
                batch, self._waiting = self._waiting, {}
                missed, self._missed = self._missed, 0
            if not batch and not missed:
                return
            seen = list(batch.values())
            if missed:
                seen.append(Seen(time.time(), "look", Actor(), None, {"not_recorded": missed}))
            try:
                self._ledger.note_seen(seen)
            except LedgerError as error:
                logger.error("who looked at what is not recorded yet: %s", error)
                self._put_back(batch, missed)

    def _put_back(self, batch: dict[Any, Seen], missed: int) -> None:
        with self._lock:
            for key, now in self._waiting.items():
                if key in batch:
                    batch[key] = batch[key]._replace(times=batch[key].times + now.times)
                elif len(batch) < MOST:
                    batch[key] = now
                else:
                    missed += now.times
            self._waiting, self._missed = batch, self._missed + missed

    def close(self) -> None:
        """Write what waits and end the thread; a later look starts another."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        atexit.unregister(self.close)
        self._ended.set()
        self._some.set()
        if thread is not threading.current_thread():
            thread.join()
        self.flush()
