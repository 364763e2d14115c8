"""The part of the ledger every other part builds on: the file, the clock, the volumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from atlas8k.errors import LedgerError
from atlas8k.ledger import backup, leases, scores, usability, usability_file, volumes
from atlas8k.ledger.database import Database
from atlas8k.ledger.records import Counts, Holder, Status, VolumeEntry


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

    def exclude(self, volume: str, reason: str, holder: Holder | None = None) -> None:
        """Count a volume nowhere (chest CT, motion) until somebody includes it.

        Whoever excludes it no longer holds it; submissions are still accepted.

        Raises
        ------
        UnknownVolumeError
            It was never seen.
        LedgerError
            No reason is given.
        """
        if not reason.strip():
            raise LedgerError(f"{volume}: say why it is not usable")
        with self._db.write(durable=True) as connection:
            now = self._clock()
            key = "" if holder is None else holder.key
            usability.decide(
                connection, volume, usable=False, reason=reason.strip(), holder=key, now=now
            )
            if holder is not None:
                leases.release(connection, volume, holder, now)
            scores.mark_all_complete(connection, now)
            usability_file.keep(connection, self.path)

    def include(self, volume: str, reason: str = "", holder: Holder | None = None) -> bool:
        """Let a volume count again; False where it does.

        Raises
        ------
        UnknownVolumeError
            It was never seen.
        """
        with self._db.write(durable=True) as connection:
            if volumes.excluded_reason(connection, volume) is None:
                return False
            key = "" if holder is None else holder.key
            usability.decide(
                connection, volume, usable=True, reason=reason, holder=key, now=self._clock()
            )
            usability_file.keep(connection, self.path)
            return True

    def keep_decisions(self) -> None:
        """Write the file of people's decisions where there is none: earlier releases had none."""
        if not usability_file.decisions_file(self.path).exists():
            with self._db.write() as connection:
                usability_file.keep(connection, self.path)

    def restore_decisions(self, ledger: Path) -> int:
        """Take over what people decided about volumes under a ledger that is lost; how many.

        Raises
        ------
        LedgerError
            Its file of decisions cannot be read.
        """
        with self._db.write(durable=True) as connection:
            return usability_file.restore(connection, ledger, self._clock())

    def judge_content(self, volume: str, kind: str | None, reason: str = "") -> bool:
        """Set a volume aside for what its content looks like, or let it count again.

        Whether that changed anything; what people decided about this file stays.
        """
        with self._db.write(durable=True) as connection:
            now = self._clock()
            changed = usability.judge(connection, volume, kind, reason, now)
            scores.mark_all_complete(connection, now)
            return changed

    def not_usable(self) -> list[usability.Usability]:
        """Volumes that count nowhere, each with who said so, when and why."""
        with self._db.read() as connection:
            return usability.not_usable(connection)

    def usability(self, volume: str) -> list[usability.Usability]:
        """Every decision whether a volume is usable, oldest first."""
        with self._db.read() as connection:
            return usability.history(connection, volume)

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
