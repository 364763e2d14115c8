"""The ledger's methods for what comes after a submission, and for label files."""

from __future__ import annotations

from atlas8k.ledger import (
    decisions,
    files,
    history,
    leases,
    offers,
    provenance,
    reviews,
    rounds,
    scores,
    volumes,
)
from atlas8k.ledger.api_base import LedgerBase
from atlas8k.ledger.picking import Wish
from atlas8k.ledger.records import (
    Begun,
    Holder,
    LabelFile,
    Lease,
    Offer,
    OrganChange,
    OrganSource,
    Review,
    Sample,
    Submission,
)


class ReviewMethods(LedgerBase):
    """See :class:`atlas8k.ledger.Ledger`."""

    # Before a submission

    def begun(
        self, volume: str, holder: Holder, lease: int | None = None, *, at: float | None = None
    ) -> Begun:
        """What a submission of this holder that comes in now, or came at `at`, belongs to.

        `lease` is the one that the client names, if it does.
        """
        with self._db.read() as connection:
            row = volumes.find(connection, volume)
            if row is None:
                return Begun(None, None, True, 0, None, "revise", False)
            when = self._clock() if at is None else at
            return history.begun_from(connection, row, holder, lease, when)

    def same_again(self, volume: str, holder: Holder, content: str) -> Submission | None:
        """The holder's last submission, where a file of this sha256 is it, sent again."""
        with self._db.read() as connection:
            return history.same_again(connection, volume, holder, content)

    def reserve(self, volume: str) -> int:
        """A number for a submission, to be written into its file before it is booked."""
        with self._db.write() as connection:
            return files.reserve(connection, volume, self._clock())

    def forget(self, number: int) -> None:
        """Give a reserved number up."""
        with self._db.write() as connection:
            files.forget(connection, number)

    def reserved(self, volume: str | None = None) -> list[files.Reserved]:
        """Numbers that are reserved and not booked."""
        with self._db.read() as connection:
            return files.reserved(connection, volume)

    # After it

    def submission(self, number: int) -> Submission:
        """One submission; :class:`LedgerError` where there is none."""
        with self._db.read() as connection:
            return history.get(connection, number)

    def in_force(self, volume: str) -> Submission | None:
        """The submission in force, None before the first."""
        with self._db.read() as connection:
            return history.in_force(connection, volume)

    def describe(self, submission: int, organs: dict[str, OrganChange]) -> None:
        """Add what a submission says of each organ, where that was not known at once."""
        with self._db.write(durable=True) as connection:
            one = history.get(connection, submission)
            provenance.keep_changes(connection, submission, organs)
            provenance.derive(connection, volumes.volume_id(connection, one.volume), self._clock())

    def reopen(self, volume: str) -> None:
        """Serve a submitted volume again."""
        with self._db.write(durable=True) as connection:
            decisions.reopen(connection, volume)

    def hand_back(
        self,
        volume: str,
        *,
        to: str | None = None,
        note: str = "",
        reviewer: str = "",
        decision: str = "returned",
    ) -> None:
        """Offer a submitted volume again, before all others; its open questions are closed.

        Parameters
        ----------
        to
            Key of the only holder it is for; else it is open to anybody.
        note
            Comes with the next sample.
        """
        with self._db.write(durable=True) as connection:
            decisions.hand_back(
                connection,
                volume,
                self._clock(),
                to=to,
                note=note,
                reviewer=reviewer,
                decision=decision,
            )

    def restore(self, volume: str, submission: int, holder: Holder) -> Submission:
        """Put an earlier submission in force again; a new entry, nothing is lost.

        Raises
        ------
        LedgerError
            It is no submission of this volume.
        """
        with self._db.write(durable=True) as connection:
            return decisions.restore(
                connection, volume, submission, holder, self._budget, self._clock()
            )

    # Reviews

    def next_review(
        self, *, holder: Holder, signature: str | None = None, looked_at: str | None = None
    ) -> Sample | None:
        """Lease the volume that has waited longest for a reviewer; None when none waits.

        `looked_at` is as in :meth:`next_sample`.
        """
        with self._db.write() as connection:
            row = None
            if signature is not None:
                used = scores.ranking_signature(connection, signature)
                row = None if used is None else scores.signature_id(connection, used)
            return leases.next_review(
                connection,
                Wish("first", holder, row, looked_at=looked_at),
                lease_s=self._lease_s,
                skip_s=self._skip_s,
                budget=self._budget,
                now=self._clock(),
            )

    def lease_for_review(self, volume: str, holder: Holder) -> Lease | None:
        """Lease one volume to a reviewer; None while somebody else holds it."""
        with self._db.write() as connection:
            now = self._clock()
            return leases.take_named(
                connection,
                volume,
                holder,
                None,
                rounds.ensure(connection, None, self._budget, now),
                lease_s=self._lease_s,
                now=now,
                purpose="review",
            )

    def resolve(self, volume: str, submission: int, reviewer: str = "") -> None:
        """End a conflict with the submission that is to be in force; all are kept."""
        with self._db.write(durable=True) as connection:
            decisions.resolve(connection, volume, submission, reviewer, self._clock())

    def accept(self, volume: str, reviewer: str = "") -> int:
        """What is in force stays; closes all open questions but disputes; how many."""
        with self._db.write(durable=True) as connection:
            return decisions.accept(connection, volume, reviewer, self._clock())

    def choose(self, volume: str, organ: str, source: str, reviewer: str = "") -> None:
        """Decide a disputed organ of one volume: ``public`` or ``revised``.

        Raises
        ------
        LedgerError
            There is no public label or no submission of it.
        """
        with self._db.write(durable=True) as connection:
            decisions.choose(connection, volume, organ, source, reviewer, self._clock())

    def reviews(self, volume: str | None = None) -> list[Review]:
        """What a reviewer has to decide, oldest first."""
        with self._db.read() as connection:
            row = None if volume is None else volumes.volume_id(connection, volume)
            return reviews.open_reviews(connection, row)

    def all_reviews(self, volume: str) -> list[Review]:
        """Every question about a volume, closed ones with what was decided."""
        with self._db.read() as connection:
            return reviews.of_volume(connection, volumes.volume_id(connection, volume))

    def agreements(
        self, volume: str | None = None
    ) -> list[tuple[str, int, int, dict[str, OrganChange]]]:
        """Second readings: volume, first and second submission, agreement by organ."""
        with self._db.read() as connection:
            row = None if volume is None else volumes.volume_id(connection, volume)
            return reviews.agreements(connection, row)

    def offers(self) -> list[Offer]:
        """Volumes that are given out before all others."""
        with self._db.read() as connection:
            return offers.listing(connection)

    def close_again(self, volume: str, holder: str) -> bool:
        """Take back that a holder (key) has opened a case for itself; False where it has not."""
        with self._db.write(durable=True) as connection:
            return offers.withdraw_own(connection, volumes.volume_id(connection, volume), holder)

    def read_blind(self, volume: str) -> bool:
        """Whether somebody holds it for a second reading and must not see the first."""
        with self._db.read() as connection:
            return leases.purpose(connection, volume, self._clock()) == "double_read"

    # Labels

    def dataset_organs(self, volume: str) -> dict[str, OrganSource]:
        """What public labels say of each organ, whatever else is known."""
        with self._db.read() as connection:
            return provenance.dataset_organs(connection, volumes.volume_id(connection, volume))

    def revised_organs(self, submission: int) -> dict[str, OrganSource]:
        """Organs of a submission's label that it or one before it vouches for."""
        with self._db.read() as connection:
            return provenance.revised_organs(connection, submission)

    def keep_label(self, volume: str, label: LabelFile) -> None:
        """Note a label file just written; the one before of the same tag stays listed."""
        with self._db.write(durable=True) as connection:
            row = volumes.volume_id(connection, volume)
            now = self._clock() if label.written_at is None else label.written_at
            files.keep_label(connection, row, label, now)

    def labels(self, volume: str) -> list[LabelFile]:
        """Every label file the volume has had, oldest first."""
        with self._db.read() as connection:
            return files.labels(connection, volumes.volume_id(connection, volume))

    def unsettled(self, volume: str | None = None) -> dict[str, int]:
        """Volumes whose label files may not fit the ledger, with a number for `settled`."""
        with self._db.read() as connection:
            return files.unsettled(connection, volume)

    def unsettle(self, volume: str) -> None:
        """Note that a volume's label files are about to change."""
        with self._db.write() as connection:
            files.unsettle(connection, volumes.volume_id(connection, volume))

    def settled(self, volume: str, n: int) -> None:
        """A volume's label files fit what the ledger said when `unsettled` gave `n`."""
        with self._db.write() as connection:
            files.settled(connection, volumes.volume_id(connection, volume), n)
