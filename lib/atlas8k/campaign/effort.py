"""Measure the minutes spent, and compare them with the paper's.

A case's time runs from its hand-out to its first submission; corrections sent afterwards are
not timed. An annotator may have done something else meanwhile, so a case held longer than
:data:`IDLE_MINUTES`, the paper's time for one organ by hand, counts as that many. A case that
was submitted without having been handed out, or by an anonymous client that held several, has
no time and is counted apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from atlas8k.campaign.reports import Annotator, Effort
from atlas8k.core.structures import ORGANS
from atlas8k.store import BLIND, Worked

IDLE_MINUTES = 60.0
PROCEDURE_MINUTES = 15.0
"""Paper: a volume, with the procedure."""
BY_HAND_MINUTES = 60.0
"""Paper: an organ, by hand."""
MINUTES_A_VOLUME, MINUTES_AN_ORGAN = 3.0, 4.0
"""To open and look through a volume, and to correct an organ: the paper's 15 minutes a volume for
three organs. An assumption; only ratios of minutes are worth reading."""


class Times:
    """Times of a set of submissions, one a hand-out.

    Attributes
    ----------
    minutes
        Time of every case that has one, idle ones cut.
    untimed
        Volumes that came without any time.
    """

    def __init__(self, work: Iterable[Worked]) -> None:
        by_lease: dict[int, float] = {}
        timed, all_volumes = set(), set()
        for submission in work:
            all_volumes.add(submission.volume)
            if submission.lease is None or submission.minutes is None:
                continue
            timed.add(submission.volume)
            by_lease[submission.lease] = min(
                submission.minutes, by_lease.get(submission.lease, submission.minutes)
            )
        self.minutes = [max(0.0, min(m, IDLE_MINUTES)) for m in by_lease.values()]
        self.idle = sum(m > IDLE_MINUTES for m in by_lease.values())
        self.untimed = len(all_volumes - timed)

    @property
    def hours(self) -> float:
        return sum(self.minutes) / 60

    @property
    def mean(self) -> float | None:
        return sum(self.minutes) / len(self.minutes) if self.minutes else None


def by_hand_minutes(known: Collection[int] = ()) -> float:
    """Return the minutes it takes to draw the structures of one CT by hand.

    An hour each, as the paper has it, where the structure set says nothing else.

    Parameters
    ----------
    known
        Ids of those that nobody has to draw.
    """
    return sum(organ.minutes or BY_HAND_MINUTES for organ in ORGANS if organ.id not in known)


def effort(work: Sequence[Worked], public: Mapping[str, Collection[int]]) -> Effort:
    """Report the time of a round.

    Parameters
    ----------
    work
        Its submissions, see :func:`~atlas8k.campaign.reviewed.of_round`.
    public
        Ids of organs with a public label by volume: nobody would have drawn those by hand.
    """
    times = Times(work)
    volumes = {submission.volume for submission in work if submission.purpose not in BLIND}
    hand = sum(by_hand_minutes(public.get(volume, ())) for volume in volumes) / 60
    each = times.mean
    spent = None if each is None else times.hours + times.untimed * each / 60
    return Effort(
        hours=times.hours,
        timed=len(times.minutes),
        untimed=times.untimed,
        idle=times.idle,
        idle_minutes=IDLE_MINUTES,
        minutes_each=each,
        hours_at_15=len(volumes) * PROCEDURE_MINUTES / 60,
        hours_by_hand=hand,
        hours_saved=None if spent is None else hand - spent,
    )


def annotators(work: Iterable[Worked], order: Sequence[str], *, names: bool) -> list[Annotator]:
    """Report every annotator's part, in the order of their first submission to the campaign.

    Parameters
    ----------
    order
        Keys of all holders of the campaign: a number stays one person's through all rounds.
    names
        Show their names; else ``annotator 1`` and so on.
    """
    by_holder: dict[str, list[Worked]] = {}
    for submission in work:
        by_holder.setdefault(submission.holder, []).append(submission)
    rows = []
    for number, holder in enumerate(order, start=1):
        if holder not in by_holder:
            continue
        times = Times(by_holder[holder])
        rows.append(
            Annotator(
                name=holder if names else f"annotator {number}",
                volumes=len({submission.volume for submission in by_holder[holder]}),
                hours=times.hours,
                minutes_each=times.mean,
                untimed=times.untimed,
            )
        )
    return rows
