"""CTs that appear are scored by themselves, once the networks served have scored others.

The first scoring of a folder may take days and is asked for. What comes later is found here
and goes the same way: the one scoring there may be is started, unless it runs. Volumes that a
run has left as they were (it was stopped, or it ended) are not tried again by themselves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from atlas8k.errors import Atlas8kError
from atlas8k.server.context import Context

logger = logging.getLogger(__name__)


class NewVolumes:
    """Looks for volumes without a score now and then.

    Parameters
    ----------
    start
        Starts a scoring, unless one runs.
    runs
        Whether one runs.
    """

    def __init__(
        self, context: Context, start: Callable[[], object], runs: Callable[[], bool]
    ) -> None:
        self._context, self._start, self._runs = context, start, runs
        self._tried: set[tuple[str, str]] = set()

    def look(self) -> int:
        """Start a scoring where there is something new; return how many volumes are."""
        if self._runs():
            return 0
        context = self._context
        context.sync()
        signature = context.signature()
        progress = context.ledger.progress(signature)
        if not progress.scored or progress.complete:
            return 0
        stale = {(signature, volume) for volume in context.ledger.stale(signature)}
        new = stale - self._tried
        if not new:
            return 0
        self._tried |= stale
        logger.info("%d volumes have no score; they are scored now", len(stale))
        self._start()
        return len(new)

    def watch(self, every_s: float) -> None:
        """Look every so often, in a thread that ends with the process; 0: never."""
        if every_s > 0:
            threading.Thread(
                target=self._watch, args=(every_s,), name="new-volumes", daemon=True
            ).start()

    def _watch(self, every_s: float) -> None:
        pause = threading.Event()
        while not pause.wait(every_s):
            try:
                self.look()
            except (Atlas8kError, OSError) as err:
                logger.warning("no look for new volumes: %s", err)
