"""What a round needs of the server's parts, and how a round is ended and the next begun."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from atlas8k.campaign.learning import training
from atlas8k.campaign.reports import StopRule, Training
from atlas8k.campaign.reviewed import remaining, reviews_of
from atlas8k.campaign.stopping import stop_rule
from atlas8k.core.grid import Grid
from atlas8k.store import Budget, Holder, Ledger

SAME_NETWORKS = "fine-tuned, same networks"


class Workplace(Protocol):
    """A studies folder with its networks, trainer and ledger."""

    @property
    def ledger(self) -> Ledger: ...

    def signature(self) -> str:
        """Register the active networks, which ends the round before; return the version."""

    def score(self) -> None:
        """Score until nothing is stale."""

    def train(self) -> None:
        """Fine-tune, judge, publish if no worse, and note it in the ledger.

        What a training that was interrupted had done is not done again.
        """

    def volumes(self) -> list[str]:
        """Return the volumes of the studies that count."""

    def start(self, volume: str) -> tuple[npt.NDArray[np.uint8], Grid]:
        """Return the fused label, ``(X, Y, Z)`` uint8 organ ids on the CT's grid; empty: none."""

    def submit(
        self,
        volume: str,
        array: npt.NDArray[np.uint8],
        grid: Grid,
        absent: tuple[str, ...],
        holder: Holder,
        lease: int,
    ) -> None:
        """Submit a label as an annotator's client does."""


def is_open(ledger: Ledger, number: int) -> bool:
    """Return whether a round has not ended."""
    return any(one.number == number and one.closed_at is None for one in ledger.rounds())


def learn(work: Workplace, number: int) -> Training | None:
    """Do step 7 for a round: fine-tune, and end it, whatever the gate says.

    Networks that are published end the round by themselves. Where the gate refuses, the
    round ends all the same: the next one goes on down the list with the same networks.

    Returns
    -------
    Training or None
        What became of it; None where it was not noted, as after an interruption.
    """
    work.train()
    work.signature()
    if is_open(work.ledger, number):
        work.ledger.close_round({"note": SAME_NETWORKS}, only_reviewed=True)
    return last_training(work.ledger, number)


def last_training(ledger: Ledger, number: int) -> Training | None:
    """Return the last training of a round."""
    found = [one for one in ledger.trainings() if one.round == number]
    return training(found[-1]) if found else None


def _due(ledger: Ledger, budget: Budget, early: bool) -> bool:
    """Whether the open round has something to learn from, and nothing to wait for."""
    if not any(one.number == budget.round and one.reviewed for one in ledger.rounds()):
        return False
    return early or not remaining(ledger.plan(budget.round), budget, ledger.to_review())


@dataclass(frozen=True)
class Advanced:
    """What was done on the way to the next round.

    Attributes
    ----------
    ended
        Number of the round that was ended, None for none.
    trained
        The training that ended it.
    stop
        The stop rule of the round that was ended, None where it had no list: who runs the
        campaign is to know that it could have ended there.
    round
        The open round.
    drawn
        Its list is drawn: samples are handed out by it.
    """

    ended: int | None
    trained: Training | None
    stop: StopRule | None
    round: int
    drawn: bool


def advance(
    work: Workplace,
    *,
    train: bool = True,
    score: bool = True,
    early: bool = False,
    report: Callable[[str], None],
) -> Advanced:
    """Do what is due of steps 2 to 4 and 7; step 5 is for people.

    Doing it again does nothing more until somebody has submitted something.

    Parameters
    ----------
    train
        Fine-tune, and end the round, once its budget is used and its audits are done.
    score
        Predict what is stale.
    early
        Fine-tune before that, as soon as anything was submitted.
    report
        Told in a line what is done now.
    """
    ledger = work.ledger
    signature = work.signature()
    ended, trained, stop = None, None, None
    budget = ledger.budget()
    if train and budget is not None and _due(ledger, budget, early):
        ended = budget.round
        report(f"round {ended}: fine-tuning")
        trained = learn(work, ended)
        plan = ledger.plan(ended)
        stop = None if plan is None else stop_rule(*reviews_of(plan, ledger.worked()))
        signature = work.signature()
    if score and not ledger.progress(signature).complete:
        report(f"predicting under {signature}")
        work.score()
        signature = work.signature()  # published meanwhile, by a server
    number, drawn = ledger.begin_round(signature)
    return Advanced(ended, trained, stop, number, drawn)
