"""The thread that keeps an archive and its working folder together, in one process at a time."""

from __future__ import annotations

import logging
import threading
import time
import weakref

from atlas8k.core.errors import Atlas8kError
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.services.archive.outbox import Outbox
from atlas8k.services.errors import UpstreamError

logger = logging.getLogger(__name__)

SWEEP_S = 600.0
_SHARE = 20
"""Asking for the list takes at most one part in so many of the time."""


class Keeper(threading.Thread):
    """Asks for the list, looks at new series, sends labels, lets old CTs go.

    Parameters
    ----------
    every_s
        Between two looks.
    """

    def __init__(self, folder: ArchiveFolder, outbox: Outbox, every_s: float) -> None:
        super().__init__(name="archive", daemon=True)
        self._folder, self._outbox = weakref.ref(folder), outbox
        self._every_s = every_s
        self._again, self._ended = threading.Event(), threading.Event()
        self._away = False
        self._swept = time.monotonic()

    def wake(self) -> None:
        """Look now: something waits to be sent."""
        self._again.set()

    def stop(self) -> None:
        """End it soon."""
        self._ended.set()
        self._again.set()

    def run(self) -> None:
        """Look around; errors are logged and do not end it."""
        pause = 0.0
        while True:
            self._again.wait(pause)
            self._again.clear()
            folder = self._folder()
            if folder is None or self._ended.is_set():
                return
            took = self.look(folder)
            pause = max(self._every_s, took * _SHARE)
            del folder

    def look(self, folder: ArchiveFolder) -> float:
        """Once; the seconds that asking for the list took."""
        started = took = time.monotonic()
        try:
            if not folder.lister.in_charge():
                return 0.0
            folder.lister.poll()
            took = time.monotonic()
            if self._away:
                logger.info("the DICOM archive answers again")
                self._away = False
            folder.lister.inspect(self._every_s)
            folder.look()
            self._outbox.send()
            if time.monotonic() - self._swept > SWEEP_S:
                self._swept = time.monotonic()
                folder.cache.sweep()
        except UpstreamError as err:
            if not self._away:
                logger.warning("%s", err)
            self._away = True
        except (Atlas8kError, OSError):
            logger.exception("keeping up with the DICOM archive failed; it is tried again")
        return took - started
