"""What is left to review in a round before its networks learn from it."""

from __future__ import annotations

from dataclasses import dataclass

from atlas8k.campaign.listed import TO_DO
from atlas8k.ledger import Budget, Plan


@dataclass(frozen=True)
class Left:
    """Volumes of the budget, and audits, that wait for somebody."""

    volumes: int
    audits: int

    def __bool__(self) -> bool:
        return bool(self.volumes or self.audits)

    def __str__(self) -> str:
        audits = f"{self.audits} audit{'s' if self.audits != 1 else ''}"
        volumes = f"{self.volumes} volume{'s' if self.volumes != 1 else ''}"
        return " and ".join(
            text for n, text in ((self.volumes, volumes), (self.audits, audits)) if n
        )


def left(plan: Plan | None, budget: Budget, to_review: int) -> Left:
    """What is left of a round.

    A budget is used, too, when there is nothing left to use it on: what came after the list
    was drawn is on the next one.

    Parameters
    ----------
    plan
        The round's list, None where none was drawn.
    to_review
        Volumes of the whole collection that nobody has submitted.
    """
    if plan is None:
        return Left(min(budget.left, to_review), 0)
    waiting = [line for line in plan.lines if line.status in TO_DO]
    audits = sum(line.audit is not None for line in waiting)
    return Left(min(budget.left, len(waiting) - audits), audits)
