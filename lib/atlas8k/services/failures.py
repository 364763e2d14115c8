"""CTs that cannot be scored, and networks that can score none: those end a run."""

from __future__ import annotations

import logging
import re
import threading
from typing import NamedTuple

from atlas8k.core.errors import CheckpointError, PredictionError, ShortMemoryError
from atlas8k.services.context import Context

logger = logging.getLogger(__name__)

IN_A_ROW = 5
"""CTs at which one network fails, the first of a model version, and it is the network's doing."""
SHORT = "memory is short"


class Blame(NamedTuple):
    """The network that failed, and what its failures have in common."""

    network: str
    kind: str


def blame_of(error: BaseException) -> Blame | None:
    """Return the network that an error is of; ``None`` where it is none's."""
    if not isinstance(error, PredictionError) or not error.network:
        return None
    if isinstance(error, ShortMemoryError):
        return Blame(error.network, SHORT)
    # Sizes differ from CT to CT, what is wrong does not.
    return Blame(error.network, re.sub(r"\d+", "N", error.reason))


class Failures:
    """The failures of a run under one model version.

    While none of its CTs has a score, failures of one network are kept here and not in the
    store: whoever stops now, or by :data:`IN_A_ROW` of them, leaves these CTs to the next run.
    """

    def __init__(self, context: Context, model_version: str) -> None:
        self._context, self._model_version = context, model_version
        self._works = context.ledger.progress(model_version).scored > 0
        self._row: dict[str, str] = {}
        self._blame: Blame | None = None
        self._lock = threading.Lock()
        self.most = IN_A_ROW

    @property
    def suspected(self) -> bool:
        """Whether no CT has been scored, and the last one failed by a network."""
        return bool(self._row)

    def scored(self) -> None:
        """Note that all networks have predicted a CT: what failed before is the CTs' doing."""
        with self._lock:
            self._works = True
            self._record()

    def failed(self, volume: str, why: str, blame: Blame | None = None) -> None:
        """Note that a volume cannot be scored, and why.

        Raises
        ------
        CheckpointError
            The same network has failed in the same way at each CT so far.
        """
        logger.warning("%s cannot be scored: %s", volume, why)
        with self._lock:
            if self._works or blame is None:
                self._context.ledger.record_failure(volume, self._model_version, why)
                return
            if blame != self._blame:
                self._record()
            self._blame = blame
            self._row[volume] = why
            if len(self._row) >= self.most:
                raise self._all_failed(blame)

    def settle(self) -> None:
        """Record what is left, at the end of a run: too few to tell.

        Raises
        ------
        CheckpointError
            There were enough, and :attr:`most` is more than the run had.
        """
        with self._lock:
            if self._blame is not None and len(self._row) >= IN_A_ROW:
                raise self._all_failed(self._blame)
            self._record()

    def _all_failed(self, blame: Blame) -> CheckpointError:
        volume, why = list(self._row.items())[-1]
        return CheckpointError(
            blame.network,
            f"fails at every CT: none has a score, and the first {len(self._row)} failed alike, "
            f"the last ({volume}): {why}. They are not marked as failed: the next run tries them "
            "again, with other networks"
            + (", or where there is more memory" if blame.kind == SHORT else ""),
        )

    def _record(self) -> None:
        row, self._row = self._row, {}
        for volume, why in row.items():
            self._context.ledger.record_failure(volume, self._model_version, why)
