"""The ledger's methods for a campaign: lists of rounds, what was done in them, trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas8k.ledger import campaign_settings, plans, rounds, scores, volumes, worked
from atlas8k.ledger.api_base import LedgerBase
from atlas8k.ledger.records_campaign import CampaignSettings, Plan, Trained, Worked


class CampaignMethods(LedgerBase):
    """See :class:`atlas8k.ledger.Ledger`."""

    def campaign_settings(self) -> CampaignSettings:
        """Share of audits and stop rule as they were set last, for all processes."""
        with self._db.read() as connection:
            return campaign_settings.settings(connection)

    def set_campaign(
        self,
        *,
        audit_percent: float | None = None,
        stop_after: int | None = None,
        budget: float | None = None,
    ) -> None:
        """Set what is given; kept in the file, and in force with the next list that is drawn.

        Parameters
        ----------
        budget
            Of the next round, whichever process begins it, fraction of the volumes; of the
            open one while it has no list and nothing was submitted in it.

        Raises
        ------
        LedgerError
            Out of bounds.
        """
        if budget is not None:
            rounds.check_fraction(budget)
        with self._db.write(durable=True) as connection:
            campaign_settings.choose(connection, audit_percent, stop_after)
            if budget is not None:
                rounds.ask_budget(connection, budget)

    def begin_round(self, signature: str) -> tuple[int, bool]:
        """Open a round, where none is, and draw its list, where its scores are complete.

        Returns
        -------
        number, drawn
            The open round, and whether it has a list now.
        """
        with self._db.write(durable=True) as connection:
            now = self._clock()
            row = scores.signature_id(connection, signature)
            own = scores.ranking_signature(connection, signature) == signature
            begin = plans.keep if own else rounds.ensure
            number = begin(connection, row, self._budget, now)
            return number, plans.exists(connection, number)

    def to_review(self) -> int:
        """Volumes that can be given out, or are in somebody's hands, and nobody has submitted."""
        with self._db.read() as connection:
            return volumes.to_review(connection)

    def last_signature(self) -> str | None:
        """The signature that was registered, or that a round was opened with, last."""
        with self._db.read() as connection:
            return scores.last_signature(connection)

    def plan(self, number: int) -> Plan | None:
        """The list of a round as it was drawn, None where none was."""
        with self._db.read() as connection:
            return plans.get(connection, number)

    def worked(self, number: int | None = None) -> list[Worked]:
        """Submissions of one round or of all, oldest first, with what each says."""
        with self._db.read() as connection:
            return worked.submissions(connection, number)

    def note_training(self, number: int | None, key: str, detail: Mapping[str, Any]) -> bool:
        """Keep what a training did with the round it belongs to; False: it is kept already.

        Parameters
        ----------
        number
            The round that was open when it began.
        key
            What the training is known by.
        detail
            JSON-ready.
        """
        with self._db.write(durable=True) as connection:
            return worked.note_training(connection, number, key, detail, self._clock())

    def trainings(self) -> list[Trained]:
        """Every training that was noted, oldest first."""
        with self._db.read() as connection:
            return worked.trainings(connection)

    def public_organs(self) -> dict[str, int]:
        """How many organs of a volume have a public label; volumes without any are left out."""
        with self._db.read() as connection:
            return worked.public_organs(connection)
