"""The ledger as the rest of the product sees it: one object, one method a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atlas8k.ledger import history, leases, ranking, rounds, scores, volumes
from atlas8k.ledger.database import Database
from atlas8k.ledger.records import (
    Budget,
    Counts,
    Holder,
    Lease,
    OrganScore,
    Progress,
    Ranked,
    Sample,
    Status,
    Strategy,
    Submission,
    VolumeEntry,
)


class Ledger:
    """Scores, leases, submissions and rounds of one studies folder, in one SQLite file.

    Safe for any number of threads and processes at once. Every method is one transaction:
    it happens whole or not at all.

    Parameters
    ----------
    path
        The file; made if missing, brought up to date if older.
    budget
        Fraction of the volumes to review in a round, for rounds opened from here.
    lease_minutes
        How long a volume stays with its holder.
    skip_minutes
        How long a holder gets others before one that was skipped; default `lease_minutes`.
    timeout_s
        How long to wait for another process's transaction.
    clock
        UTC seconds since 1970.

    Raises
    ------
    LedgerFileError
        From every method: the file is locked, full, read-only, damaged, newer, or on a
        network file system; the subclass and the message say which and what to do.
    """

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

    # Volumes

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

    # Signatures and scores

    def register_signature(
        self, signature: str, detail: Mapping[str, Any] | None = None, *, new_round: bool = True
    ) -> bool:
        """Note a model signature; True where it is new.

        A new one ends the open round, which it is the result of, and begins the next,
        unless `new_round` is false (say, for other attention settings).
        """
        with self._db.write(durable=True) as connection:
            now = self._clock()
            if not scores.register(connection, signature, detail or {}, now):
                return False
            if new_round:
                rounds.close(connection, {"signature": signature}, now)
                row = scores.signature_id(connection, signature)
                rounds.open_round(connection, row, self._budget, now)
            return True

    def signature_detail(self, signature: str) -> dict[str, Any]:
        """What was registered with it."""
        with self._db.read() as connection:
            return scores.detail(connection, signature)

    def record_score(
        self,
        volume: str,
        signature: str,
        sizes: Mapping[str, OrganScore],
        *,
        seconds: float | None = None,
    ) -> None:
        """Attention sizes of a volume by organ name; replaces an earlier score or failure.

        Raises
        ------
        LedgerError
            Unknown volume, signature or organ; a size that is negative or not finite.
        """
        with self._db.write() as connection:
            scores.record_score(connection, volume, signature, sizes, seconds, self._clock())

    def record_failure(self, volume: str, signature: str, reason: str) -> None:
        """The volume cannot be scored; it is not stale any more until the file changes."""
        with self._db.write() as connection:
            scores.record_failure(connection, volume, signature, reason, self._clock())

    def retry_failures(self, signature: str) -> int:
        """Make failed volumes stale again; returns how many."""
        with self._db.write() as connection:
            return scores.retry_failures(connection, signature)

    def stale(self, signature: str, limit: int | None = None) -> list[str]:
        """Volumes with neither score nor failure under this signature, most urgent first."""
        with self._db.read() as connection:
            return scores.stale(connection, signature, limit)

    def failures(self, signature: str) -> dict[str, str]:
        """Reason by volume."""
        with self._db.read() as connection:
            return scores.failures(connection, signature)

    def progress(self, signature: str) -> Progress:
        """Scored i of N, in constant time."""
        with self._db.read() as connection:
            return scores.progress(connection, signature)

    def ranking_signature(self, current: str) -> str | None:
        """Signature to rank by: `current` once complete, else the last that was, else `current`.

        None where nothing is registered.
        """
        with self._db.read() as connection:
            return scores.ranking_signature(connection, current)

    def ranking(
        self,
        signature: str,
        *,
        organs: Sequence[str] | None = None,
        source: str | None = None,
        open_only: bool = False,
        limit: int | None = None,
    ) -> list[Ranked]:
        """The priority list, most attention first; sizes of `organs` only where given."""
        with self._db.read() as connection:
            return ranking.listing(
                connection,
                scores.signature_id(connection, signature),
                organs=organs,
                source=source,
                open_only=open_only,
                limit=limit,
            )

    # Leases

    def next_sample(
        self,
        *,
        holder: Holder,
        strategy: Strategy = "attention",
        signature: str | None = None,
        organ: str | None = None,
        source: str | None = None,
    ) -> Sample | None:
        """Lease the next volume to `holder`; None when nothing is left to give.

        Parameters
        ----------
        holder
            Asking again without submitting skips what it holds, unless it is anonymous.
        strategy
            ``attention``: the largest attention size first; ``first``: by name;
            ``random``: in an order drawn once.
        signature
            The served signature. Ranked by it once complete, see :meth:`ranking_signature`;
            the reply says which was used.
        organ
            Rank by this organ's attention size alone.
        source
            Only volumes of this source dataset.
        """
        row_organ = ranking.organ_id(organ)
        with self._db.write() as connection:
            row = None
            if signature is not None:
                used = scores.ranking_signature(connection, signature)
                row = None if used is None else scores.signature_id(connection, used)
            return leases.next_sample(
                connection,
                leases.Wish(strategy, holder, row, row_organ, source),
                lease_s=self._lease_s,
                skip_s=self._skip_s,
                budget=self._budget,
                now=self._clock(),
            )

    def release(self, volume: str, holder: Holder) -> bool:
        """Give a volume back without submitting; False where the holder does not hold it."""
        with self._db.write() as connection:
            return leases.release(connection, volume, holder, self._clock())

    def leases(self) -> list[Lease]:
        """Who holds what now."""
        with self._db.read() as connection:
            return leases.running(connection, self._clock())

    # Submissions

    def submit(
        self,
        volume: str,
        holder: Holder,
        *,
        file: str | None = None,
        sha256: str | None = None,
        signature: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Submission:
        """Take in what an annotator submitted: always accepted, on disk when this returns.

        A volume not seen before is added rather than refused. If somebody else's submission
        landed since this holder began, both stay and the volume is in ``conflict``.

        Parameters
        ----------
        file, sha256
            The label file and its checksum.
        signature
            What the pseudo label came from, where no lease says so.
        detail
            Anything else worth keeping, JSON-ready.
        """
        with self._db.write(durable=True) as connection:
            now = self._clock()
            volumes.add_if_missing(connection, volume, now)
            row = None if signature is None else scores.signature_id(connection, signature)
            return history.submit(
                connection,
                volume,
                holder,
                file=file,
                sha256=sha256,
                signature=row,
                detail=detail or {},
                budget=self._budget,
                now=now,
            )

    def submitted(self, volume: str) -> bool:
        """Whether somebody submitted it and it was not reopened."""
        with self._db.read() as connection:
            return volumes.is_submitted(connection, volume)

    def submissions(self, volume: str) -> list[Submission]:
        """Every accepted submission of a volume, oldest first."""
        with self._db.read() as connection:
            return history.of_volume(connection, volume)

    def reopen(self, volume: str) -> None:
        """Serve a submitted volume again."""
        with self._db.write(durable=True) as connection:
            history.reopen(connection, volume)

    def resolve(self, volume: str, submission: int) -> None:
        """End a conflict with the submission that is to be in force."""
        with self._db.write(durable=True) as connection:
            history.resolve(connection, volume, submission)

    # Rounds

    def budget(self) -> Budget | None:
        """The open round's budget; None before the first."""
        with self._db.read() as connection:
            number = rounds.current(connection)
            return None if number is None else rounds.budget(connection, number)

    def rounds(self) -> list[rounds.Round]:
        """Every round, the open one last."""
        with self._db.read() as connection:
            return rounds.history(connection)
