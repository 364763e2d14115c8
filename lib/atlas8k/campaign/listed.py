"""What of a campaign's work was done on a round's list, by the networks that it is ranked by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from atlas8k.campaign.changes import Reviewed, reviewed
from atlas8k.ledger import Plan, Worked

GONE = ("vanished", "excluded", "failed", "overtaken")
"""States of lines that nobody can review any more."""
TO_DO = ("open", "leased")


def listed(plan: Plan, work: Iterable[Worked]) -> tuple[Plan, dict[str, Reviewed]]:
    """A list, and what was reviewed of it.

    A case that was given out before the list was drawn and comes in afterwards corrects a
    label of earlier networks: it says nothing of this list's, and nobody will look at those.
    Its line is ``overtaken``, and no part of the list. So is a label put into the folder.

    Parameters
    ----------
    work
        Of the whole campaign.

    Returns
    -------
    plan, volumes
        With such lines marked; by name, what its own round made of its networks' labels.
    """
    own, other = [], set()
    for one in work:
        if one.round == plan.round and one.signature in (None, plan.signature):
            own.append(one)
        elif one.round <= plan.round and one.submitted_at >= plan.drawn_at:
            other.add(one.volume)
    volumes = reviewed(own)
    other |= {one.volume for one in own if one.purpose == "adopted"}
    lines = tuple(
        line._replace(status="overtaken")
        if line.volume in other and line.volume not in volumes and line.status not in TO_DO
        else line
        for line in plan.lines
    )
    return replace(plan, lines=lines), volumes
