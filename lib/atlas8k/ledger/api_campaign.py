"""The ledger's methods for a campaign: lists of rounds, what was done in them, trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas8k.ledger import plans, rounds, scores, worked
from atlas8k.ledger.api_base import LedgerBase
from atlas8k.ledger.records_campaign import CampaignSettings, Plan, Trained, Worked


class CampaignMethods(LedgerBase):
    """See :class:`atlas8k.ledger.Ledger`."""

    def campaign_settings(self) -> CampaignSettings:
        """Share of audits and stop rule as they were set last, for all processes."""
        with self._db.read() as connection:
            return plans.settings(connection)

    def set_campaign(
        self, *, audit_percent: float | None = None, stop_after: int | None = None
    ) -> None:
        """Set either; kept in the file. Audits change with the next list that is drawn.

        Raises
        ------
        LedgerError
            Out of bounds.
        """
        with self._db.write(durable=True) as connection:
            plans.choose(connection, audit_percent, stop_after)

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
            number = rounds.ensure(connection, row, self._budget, now)
            if scores.ranking_signature(connection, signature) == signature:
                plans.ensure(connection, number, row, now)
            return number, plans.exists(connection, number)

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
            The round that was open when it was trained on.
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
