"""What was reviewed in a round and what remains: from submissions, one count a volume and organ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from atlas8k.campaign.reports import OrganChanges
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Budget, OrganChange, Plan, Worked

Kind = Literal["confirmed", "changed", "added", "absent", "nothing_said"]
Outcome = Literal["confirmed", "changed", "silent"]

GONE = ("vanished", "excluded", "failed", "overtaken")
"""States of lines that nobody can review any more."""
TO_DO = ("open", "leased")


def kind(change: OrganChange) -> Kind:
    """Return what became of one organ.

    An organ that somebody says is absent, and that the draft label did not have either, is
    confirmed: nothing had to be changed.
    """
    if change.state == "revised":
        return "added" if change.voxels_before == 0 else "changed"
    if change.state == "absent":
        return "confirmed" if change.voxels_before == 0 else "absent"
    return "confirmed" if change.state == "confirmed" else "nothing_said"


def needed(change: OrganChange) -> bool:
    """Return whether the draft label of the organ was wrong to who submitted it."""
    return kind(change) in ("changed", "added", "absent")


@dataclass(frozen=True)
class Reviewed:
    """A volume in a round: of each organ the strongest that was said of it."""

    volume: str
    organs: Mapping[str, OrganChange]

    @property
    def wrong(self) -> list[str]:
        """Organs that needed a change."""
        return [o for o in ORGAN_NAMES if o in self.organs and needed(self.organs[o])]

    @property
    def outcome(self) -> Outcome:
        """``silent``: an organ that is there was not assessed, which may be right or wrong."""
        if self.wrong:
            return "changed"
        changes = self.organs.values()
        open_ = any(
            change.state == "not_assessed" and (change.voxels_before or change.voxels_after)
            for change in changes
        )
        confirmed = any(kind(change) == "confirmed" for change in changes)
        return "confirmed" if confirmed and not open_ else "silent"


def of_round(work: Iterable[Worked]) -> list[Worked]:
    """Return what of one round's submissions somebody did for it.

    Restoring a label and putting one into the folder are no work on the list. A reviewer's
    label corrects a person's; it counts where that person's is of the round, too.
    """
    work = list(work)
    revised = {one.volume for one in work if one.purpose == "revise"}
    return [
        one
        for one in work
        if one.purpose in ("revise", "double_read")
        or (one.purpose == "review" and one.volume in revised)
    ]


def reviewed(work: Iterable[Worked]) -> dict[str, Reviewed]:
    """Return the volumes reviewed in one round, in the order of their first submission.

    Second readings are blind and beside another's; they count nothing.

    Who corrects a volume twice has not confirmed it: a change outweighs what was said
    before and after, and the larger one (lower DSC) the smaller.
    """
    found: dict[str, dict[str, OrganChange]] = {}
    for one in of_round(work):
        if one.purpose == "double_read":
            continue
        organs = found.setdefault(one.volume, {})
        for organ, change in one.organs.items():
            if organ not in organs or _weight(change) > _weight(organs[organ]):
                organs[organ] = change
    return {volume: Reviewed(volume, organs) for volume, organs in found.items()}


def _weight(change: OrganChange) -> tuple[int, float]:
    if needed(change):
        return 2, -(change.dsc or 0.0)
    return int(kind(change) == "confirmed"), 0.0


def by_organ(volumes: Iterable[Reviewed]) -> list[OrganChanges]:
    """Return the counts of every organ, in the organs' order."""
    volumes = list(volumes)
    rows = []
    for organ in ORGAN_NAMES:
        changes = [one.organs[organ] for one in volumes if organ in one.organs]
        kinds = [kind(change) for change in changes]
        wrong = [change for change in changes if needed(change)]
        measured = [change.dsc for change in wrong if change.dsc is not None]
        rows.append(
            OrganChanges(
                organ=organ,
                confirmed=kinds.count("confirmed"),
                changed=kinds.count("changed"),
                added=kinds.count("added"),
                absent=kinds.count("absent"),
                nothing_said=kinds.count("nothing_said") + len(volumes) - len(changes),
                mean_dsc=sum(measured) / len(measured) if measured else None,
                voxels_changed=sum(change.voxels_changed or 0 for change in wrong),
            )
        )
    return rows


def reviews_of(plan: Plan, work: Iterable[Worked]) -> tuple[Plan, dict[str, Reviewed]]:
    """Return a round's list, and what was reviewed of it by the networks it is ranked by.

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


@dataclass(frozen=True)
class Remaining:
    """Volumes of the budget, and audits, that wait for somebody."""

    volumes: int
    audits: int

    def __bool__(self) -> bool:
        return bool(self.volumes or self.audits)

    def __str__(self) -> str:
        counts = {"volume": self.volumes, "audit": self.audits}
        return " and ".join(f"{n} {what}{'s' * (n != 1)}" for what, n in counts.items() if n)


def remaining(plan: Plan | None, budget: Budget, to_review: int) -> Remaining:
    """Return what is left to review in a round before its networks learn from it.

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
        return Remaining(min(budget.left, to_review), 0)
    waiting = [line for line in plan.lines if line.status in TO_DO]
    audits = sum(line.audit is not None for line in waiting)
    return Remaining(min(budget.left, len(waiting) - audits), audits)
