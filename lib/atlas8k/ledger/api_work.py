"""The ledger's methods for what people do: leases, submissions, decisions, rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atlas8k.ledger import (
    history,
    leases,
    provenance,
    ranking,
    rounds,
    scores,
    volumes,
)
from atlas8k.ledger.api_base import LedgerBase
from atlas8k.ledger.picking import Wish
from atlas8k.ledger.records import (
    Budget,
    Holder,
    Lease,
    OrganChange,
    OrganSource,
    Sample,
    Strategy,
    Submission,
)


class WorkMethods(LedgerBase):
    """See :class:`atlas8k.ledger.Ledger`."""

    def next_sample(
        self,
        *,
        holder: Holder,
        strategy: Strategy = "attention",
        signature: str | None = None,
        organ: str | None = None,
        source: str | None = None,
        looked_at: str | None = None,
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
        looked_at
            ``all``: the holder says that every organ of it will be looked at, so that those
            that come back unchanged are right.
        """
        row_organ = ranking.organ_id(organ)
        with self._db.write() as connection:
            row, used = None, None
            if signature is not None:
                used = scores.ranking_signature(connection, signature)
                row = None if used is None else scores.signature_id(connection, used)
            return leases.next_sample(
                connection,
                Wish(strategy, holder, row, row_organ, source, used == signature, looked_at),
                lease_s=self._lease_s,
                skip_s=self._skip_s,
                budget=self._budget,
                now=self._clock(),
            )

    def lease(
        self,
        volume: str,
        holder: Holder,
        *,
        signature: str | None = None,
        purpose: str = "revise",
    ) -> Lease | None:
        """Lease one volume by name, whatever its state; None while somebody else holds it.

        A holder that has it already keeps it for another full time. What else it holds
        stays: this is how a case is opened on purpose, not a next sample.

        Parameters
        ----------
        purpose
            ``revise``, ``review`` or ``double_read``.
        """
        with self._db.write() as connection:
            now = self._clock()
            row = None if signature is None else scores.signature_id(connection, signature)
            number = rounds.ensure(connection, row, self._budget, now)
            return leases.take_named(
                connection,
                volume,
                holder,
                row,
                number,
                lease_s=self._lease_s,
                now=now,
                purpose=purpose,
            )

    def release(self, volume: str, holder: Holder) -> bool:
        """Give a volume back without submitting; False where the holder does not hold it."""
        with self._db.write() as connection:
            return leases.release(connection, volume, holder, self._clock())

    def leases(self) -> list[Lease]:
        """Who holds what now."""
        with self._db.read() as connection:
            return leases.running(connection, self._clock())

    def submit(
        self,
        volume: str,
        holder: Holder,
        *,
        file: str | None = None,
        sha256: str | None = None,
        signature: str | None = None,
        organs: Mapping[str, OrganChange] | None = None,
        detail: Mapping[str, Any] | None = None,
        number: int | None = None,
        lease: int | None = None,
        content: str | None = None,
        begun_from: int | None = None,
        start_sha256: str | None = None,
        sample: bool = False,
        second_reading: bool = False,
        agreement: Mapping[str, OrganChange] | None = None,
        at: float | None = None,
        adopted: bool = False,
    ) -> Submission:
        """Take in what an annotator submitted: always accepted, on disk when this returns.

        A volume not seen before is added rather than refused. If somebody else's submission
        landed since this holder began, both stay and the volume is in ``conflict``; so they
        do where an anonymous holder, who may be several people, submits twice. A second
        reading is no conflict; the first stays in force. A reviewer's submission takes over
        and closes the volume's open questions.

        Parameters
        ----------
        file, sha256
            The label file and its checksum.
        signature
            What the start label's pseudo label came from; else that of the lease.
        organs
            What it says of each organ by name; these become the organs' provenance.
        detail
            Anything else worth keeping, JSON-ready.
        number
            From :meth:`reserve`, where the file was written before.
        lease
            Where the client says which of its leases this belongs to.
        content
            Hex sha256 of the file as it came, see :meth:`same_again`.
        begun_from, start_sha256
            The submission in force in its start label, 0 for none, and that label's sha256.
            Without it, the one in force now.
        sample
            Ask a reviewer to look at it.
        second_reading
            If it is the volume's first: have somebody else read the volume, too, blind.
        agreement
            For a second reading: per organ, how far it agrees with the one in force.
        at
            When it was submitted, where not now.
        adopted
            It was in the folder: a label of the volume, and nobody's work in a round.
        """
        with self._db.write(durable=True) as connection:
            now = self._clock()
            volumes.add_if_missing(connection, volume, now)
            row = None if signature is None else scores.signature_id(connection, signature)
            entry = history.Entry(
                holder=holder,
                file=file,
                sha256=sha256,
                signature=row,
                organs=organs or {},
                detail=detail or {},
                number=number,
                lease=lease,
                content=content,
                begun_from=begun_from,
                start_sha256=start_sha256,
                sample=sample,
                second_reading=second_reading,
                agreement=agreement or {},
                at=at,
                adopted=adopted,
            )
            return history.submit(connection, volume, entry, budget=self._budget, now=now)

    def submitted(self, volume: str) -> bool:
        """Whether somebody submitted it and it was not reopened."""
        with self._db.read() as connection:
            return volumes.is_submitted(connection, volume)

    def submissions(self, volume: str) -> list[Submission]:
        """Every accepted submission of a volume, oldest first."""
        with self._db.read() as connection:
            return history.of_volume(connection, volume)

    def submitted_by(self, holders: Sequence[str], limit: int = 20) -> list[Submission]:
        """The last submissions of these holders (keys), newest first."""
        with self._db.read() as connection:
            return history.of_holders(connection, holders, limit)

    def changes(self, submission: int) -> dict[str, OrganChange]:
        """What a submission says of each organ."""
        with self._db.read() as connection:
            return provenance.changes(connection, submission)

    # Labels

    def set_sources(self, volume: str, organs: Mapping[str, OrganSource]) -> None:
        """Note what a public label says of these organs: present, absent or unknown."""
        with self._db.write(durable=True) as connection:
            row = volumes.volume_id(connection, volume)
            provenance.set_sources(connection, row, organs, self._clock())

    def sources(self, volume: str) -> dict[str, OrganSource]:
        """Where each organ comes from; organs not named are pseudo labels."""
        with self._db.read() as connection:
            return provenance.sources(connection, volumes.volume_id(connection, volume))

    def budget(self) -> Budget | None:
        """The open round's budget; None before the first."""
        with self._db.read() as connection:
            number = rounds.current(connection)
            return None if number is None else rounds.budget(connection, number)

    def rounds(self) -> list[rounds.Round]:
        """Every round, the open one last."""
        with self._db.read() as connection:
            return rounds.history(connection)

    def set_budget(self, fraction: float) -> None:
        """Budget of the open round and of those opened from here, fraction of the volumes."""
        rounds.check_fraction(fraction)
        self._budget = fraction
        with self._db.write(durable=True) as connection:
            rounds.set_budget(connection, fraction)

    def close_round(
        self, closing: Mapping[str, Any] | None = None, *, only_reviewed: bool = False
    ) -> int | None:
        """End the open round; its number, None where none is open. The next sample opens one.

        Raises
        ------
        LedgerError
            With `only_reviewed`: nothing was submitted in it.
        """
        with self._db.write(durable=True) as connection:
            if only_reviewed:
                rounds.check_reviewed(connection)
            return rounds.close(connection, closing or {}, self._clock())
