"""The part of the ledger every other part builds on: the file, the clock, the volumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from atlas8k.ledger import backup, scores, volumes
from atlas8k.ledger.database import Database
from atlas8k.ledger.records import Counts, Status, VolumeEntry


class LedgerBase:
    """An open ledger file and the volumes in it; see :class:`atlas8k.ledger.Ledger`."""

    def __init__(
        self,
        path: str | Path,
        *,
        budget: float = 0.05,
        lease_minutes: float = 90.0,
        skip_minutes: float | None = None,
        timeout_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = Database(path, timeout_s)
        self._budget = budget
        self._lease_s = 60 * lease_minutes
        self._skip_s = 60 * (lease_minutes if skip_minutes is None else skip_minutes)
        self._clock = clock

    @property
    def path(self) -> Path:
        return self._db.path

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._db.close()

    def backup(self, target: str | Path) -> Path:
        """Write a copy that is one moment's state, while others go on writing.

        The copy is checked, then appears under its name complete or not at all.

        Raises
        ------
        LedgerFileError
            The target cannot be written; what was there before is still there.
        """
        return backup.write_backup(self._db, Path(target))

    def sync_volumes(self, volumes_now: Iterable[str | VolumeEntry]) -> tuple[int, int]:
        """Tell which volumes there are now; returns how many appeared or changed, and vanished.

        Vanished volumes keep their history and are as before when they come back. Nothing
        is written when nothing changed.
        """
        with self._db.read() as connection:
            new, gone = volumes.difference(connection, volumes_now)
        if new or gone:
            with self._db.write() as connection:
                now = self._clock()
                volumes.add(connection, new, now)
                volumes.remove(connection, gone)
                scores.mark_all_complete(connection, now)
        return len(new), len(gone)

    def add_volumes(self, new: Iterable[str | VolumeEntry]) -> set[str]:
        """Volumes that appeared, beside those known; returns those that were new or changed."""
        with self._db.write() as connection:
            return volumes.add(connection, new, self._clock())

    def remove_volumes(self, names: Iterable[str]) -> None:
        """Volumes that vanished."""
        with self._db.write() as connection:
            volumes.remove(connection, names)
            scores.mark_all_complete(connection, self._clock())

    def exclude(self, volume: str, reason: str) -> None:
        """Count a volume nowhere (chest CT, motion); submissions are still accepted."""
        with self._db.write(durable=True) as connection:
            volumes.exclude(connection, volume, reason or "no reason given")
            scores.mark_all_complete(connection, self._clock())

    def include(self, volume: str) -> None:
        """Take an exclusion back."""
        with self._db.write(durable=True) as connection:
            volumes.exclude(connection, volume, None)

    def status(self, volume: str) -> Status:
        """One volume's state; :class:`UnknownVolumeError` where it was never seen."""
        with self._db.read() as connection:
            return volumes.status(connection, volume)

    def statuses(self) -> dict[str, Status]:
        """State by volume, of every volume ever seen."""
        with self._db.read() as connection:
            return volumes.statuses(connection)

    def counts(self) -> Counts:
        """Volumes by state, in constant time."""
        with self._db.read() as connection:
            return volumes.counts(connection)
