"""The ledger's methods for model signatures, scores and the priority list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlas8k.ledger import ranking, rankings, rounds, scores, volumes
from atlas8k.ledger.api_base import LedgerBase
from atlas8k.ledger.records import OrganScore, Progress, Ranked


class ScoreMethods(LedgerBase):
    """See :class:`atlas8k.ledger.Ledger`."""

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
        explanation: Mapping[str, Any] | None = None,
    ) -> None:
        """Attention sizes of a volume by organ name; replaces an earlier score or failure.

        Parameters
        ----------
        explanation
            Organs and regions in order, JSON-ready, for :meth:`explanation`.

        Raises
        ------
        LedgerError
            Unknown volume, signature or organ; a size that is negative or not finite, or
            missing for the ranking in force.
        """
        with self._db.write() as connection:
            scores.record_score(
                connection, volume, signature, sizes, seconds, self._clock(), explanation
            )

    def explanation(self, volume: str, signature: str) -> dict[str, Any] | None:
        """What was noted with the volume's score under a signature; None: nothing."""
        with self._db.read() as connection:
            return rankings.explanation(connection, volume, signature)

    def familiar(self, signature: str) -> dict[str, dict[str, Any]]:
        """By volume, how its CT compares with the training CTs; kept with the score.

        As :func:`atlas8k.content.familiar.compare` says it. Volumes that were scored by a
        release that did not look are not in it.
        """
        with self._db.read() as connection:
            return rankings.familiar(connection, signature)

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
        by: str | None = None,
    ) -> list[Ranked]:
        """The priority list, largest first; sizes of `organs` only where given.

        `by` is ``eq4``, ``salient`` or ``per_slice``; by default the ranking in force.
        """
        with self._db.read() as connection:
            return ranking.listing(
                connection,
                scores.signature_id(connection, signature),
                organs=organs,
                source=source,
                open_only=open_only,
                limit=limit,
                by=by,
            )

    def rank(self, volume: str, signature: str) -> int | None:
        """Place of a volume in the whole list, from 1; None where it has no score."""
        with self._db.read() as connection:
            row = volumes.volume_id(connection, volume)
            return ranking.rank(connection, row, scores.signature_id(connection, signature))

    def ranked_by(self) -> str:
        """The ranking in force: ``eq4``, ``salient`` or ``per_slice``."""
        with self._db.read() as connection:
            return rankings.in_force(connection)

    def set_ranking(self, ranking: str) -> bool:
        """Order the queue by a ranking; True where another one was in force.

        Kept in the file, since all processes must rank alike. Scores from a release that
        did not keep its figures are forgotten, so that the next scoring makes them.
        """
        if ranking == self.ranked_by():
            return False
        with self._db.write(durable=True) as connection:
            return rankings.choose(connection, ranking)

    def propose_ranking(self, ranking: str) -> bool:
        """Order a list that is new by a ranking; True where that was done.

        Nothing is changed where a ranking was chosen before or anything is scored: the
        order that annotators work in changes only when somebody asks for it.
        """
        with self._db.write(durable=True) as connection:
            return rankings.propose(connection, ranking)

    def rank_all_organs(self, on: bool) -> None:
        """Rank by all organs, or (default) leave out those that are public or revised.

        Kept in the file, since all processes must rank alike; looks at every volume when it
        changes.
        """
        with self._db.write(durable=True) as connection:
            ranking.set_rank_all(connection, on)
