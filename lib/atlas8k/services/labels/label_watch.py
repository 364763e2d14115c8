"""Label files looked after while a server runs: at its start, each minute, and once a day.

At the start and every so many hours all of them are held against their hashes, in the background
and no faster than :data:`BYTES_PER_S`. About once a minute it is looked whether one is gone or
has another size or time of change, which opens none; those are held against their hashes at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import asdict
from typing import Any

from atlas8k.core.errors import Atlas8kError
from atlas8k.services.labels.integrity import (
    SETTLE_S,
    Fault,
    LabelIntegrity,
    Pace,
    StoppedError,
)
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.set_aside import SetAside

logger = logging.getLogger(__name__)

BYTES_PER_S = 20e6
LOOK_S = 60.0
_SHARE = 20
"""Looking, and listing what was set aside, take at most one part in so many of the time."""
_NAMED = 20
"""So many faults of one look are logged by name, and are shown."""


class LabelWatch:
    """Hold the label files of a studies folder against their hashes while it is served.

    Parameters
    ----------
    every_hours
        Between two checks of all files; 0: at the start only.
    look_s
        Between two looks for files that are gone or were written to.
    """

    def __init__(
        self,
        folder: StudiesFolder,
        every_hours: float,
        *,
        look_s: float = LOOK_S,
        settle_s: float = SETTLE_S,
        bytes_per_s: float = BYTES_PER_S,
    ) -> None:
        self._every_s, self._look_s = every_hours * 3600, look_s
        self._stop = threading.Event()
        pace = Pace(bytes_per_s, self._stop.is_set)
        self.integrity = LabelIntegrity(folder, settle_s=settle_s, pace=pace)
        self._open: dict[str, list[Fault]] = {}
        self._mended: deque[Fault] = deque(maxlen=_NAMED)
        self._done, self._of = 0, 0
        self._at: float | None = None
        self._aside: list[SetAside] = []
        self._list_again = 0.0
        self._lock = threading.Lock()
        self.started = False

    def start(self) -> threading.Thread:
        """Look after them from now on, until :meth:`stop`."""
        self.started = True
        thread = threading.Thread(target=self._run, name="label-watch", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End it soon."""
        self._stop.set()

    def check_all(self) -> None:
        """Hold all files against their hashes now."""
        volumes = self.integrity.volumes()
        self._done, self._of = 0, len(volumes)
        self._check(volumes, "all label files")
        self._at = time.time()

    def look(self) -> None:
        """Hold against their hashes the files that are gone or were written to."""
        with self._lock:
            left = list(self._open)
        self._check(list(dict.fromkeys([*self.integrity.suspects(), *left])), "")

    def status(self) -> dict[str, Any]:
        """Return how far the check is and what was found, for ``/info/`` and pages.

        Returns
        -------
        dict
            ``checked``, ``of``: volumes; ``at``: when the last check of all ended, UTC seconds;
            ``count``: files that are not what they were; ``faults``: the first of them;
            ``mended``: those put back last; ``set_aside``: files that wait to be looked at.
        """
        with self._lock:
            faults = [one for found in self._open.values() for one in found]
            mended = list(self._mended)
        aside = self._listed()
        return {
            "checked": self._done,
            "of": self._of,
            "at": self._at,
            "count": len(faults),
            "faults": [one.text for one in faults[:_NAMED]],
            "mended": [one.text for one in mended],
            "set_aside_count": len(aside),
            "set_aside": [asdict(one) for one in aside[-_NAMED:]],
        }

    def _listed(self) -> list[SetAside]:
        """List what was set aside; every ``/info/`` asks for it, and there may be thousands."""
        started = time.monotonic()
        if started >= self._list_again:
            self._aside = self.integrity.set_aside.listed()
            ended = time.monotonic()
            self._list_again = ended + _SHARE * (ended - started)
        return self._aside

    def _run(self) -> None:
        pause, due = self._look_s, 0.0
        while True:
            started = time.monotonic()
            try:
                if started >= due:
                    self.check_all()
                    due = time.monotonic() + (self._every_s or float("inf"))
                else:
                    self.look()
                    pause = max(self._look_s, _SHARE * (time.monotonic() - started))
            except StoppedError:
                return
            except (OSError, Atlas8kError):
                logger.exception("label files cannot be checked; it is tried again")
            if self._stop.wait(pause):
                return

    def _check(self, volumes: list[str], what: str) -> None:
        told, named, all_found = time.monotonic(), 0, 0
        for volume in volumes:
            try:
                found = self.integrity.check_volume(volume, mend=True)
            except (OSError, Atlas8kError) as error:
                logger.error("%s: its label files cannot be checked: %s", volume, error)
                continue
            finally:
                if what:
                    self._done += 1
            for one in self._note(volume, found):
                all_found += 1
                if named < _NAMED:
                    named += 1
                    logger.log(logging.WARNING if one.mended else logging.ERROR, "%s", one.text)
            if what and time.monotonic() > told + 60:
                logger.info("%s: %d of %d volumes are checked", what, self._done, self._of)
                told = time.monotonic()
        if all_found > named:
            logger.warning("and %d more label files: see /info/", all_found - named)

    def _note(self, volume: str, found: list[Fault]) -> list[Fault]:
        """Keep what was found of a volume; return what was not known before."""
        with self._lock:
            before = self._open.pop(volume, [])
            left = [one for one in found if not one.mended]
            if left:
                self._open[volume] = left
            mended = [one for one in found if one.mended]
            self._mended.extend(mended)
        return mended + [one for one in left if one not in before]
