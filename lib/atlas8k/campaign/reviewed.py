"""Count what was reviewed in a round and what remains, from submissions, by volume and organ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from atlas8k.campaign.reports import OrganChanges
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import BLIND, Budget, OrganChange, Plan, Worked

Kind = Literal["confirmed", "changed", "added", "absent", "nothing_said"]
Outcome = Literal["confirmed", "changed", "not_assessed"]

GONE = ("vanished", "excluded", "failed", "overtaken")
"""States of lines that nobody can review any more."""
TO_DO = ("open", "leased")


def kind(change: OrganChange) -> Kind:
    """Return the kind of an organ's change.

    An organ that is marked absent, and that the draft label did not have either, is
    confirmed: nothing had to be changed.
    """
    if change.state == "revised":
        return "added" if change.voxels_before == 0 else "changed"
    if change.state == "absent":
        return "confirmed" if change.voxels_before == 0 else "absent"
    return "confirmed" if change.state == "confirmed" else "nothing_said"


def needed(change: OrganChange) -> bool:
    """Return whether the annotator found the draft label of the organ wrong."""
    return kind(change) in ("changed", "added", "absent")


@dataclass(frozen=True)
class Reviewed:
    """A volume in a round, with the strongest change of each organ."""

    volume: str
    organs: Mapping[str, OrganChange]

    @property
    def wrong(self) -> list[str]:
        """Organs that needed a change."""
        return [o for o in ORGAN_NAMES if o in self.organs and needed(self.organs[o])]

    @property
    def outcome(self) -> Outcome:
        """Outcome; ``not_assessed`` where an organ with voxels was not, and may be wrong."""
        if self.wrong:
            return "changed"
        changes = self.organs.values()
        open_ = any(
            change.state == "not_assessed" and (change.voxels_before or change.voxels_after)
            for change in changes
        )
        confirmed = any(kind(change) == "confirmed" for change in changes)
        return "confirmed" if confirmed and not open_ else "not_assessed"


def of_round(work: Iterable[Worked]) -> list[Worked]:
    """Return those of a round's submissions that are work on its list.

    Restoring a label and importing an existing one are not. A reviewer's label corrects an
    annotator's; it counts where the annotator's is of the round, too.
    """
    work = list(work)
    revised = {submission.volume for submission in work if submission.purpose == "revise"}
    return [
        submission
        for submission in work
        if (submission.purpose in ("revise", *BLIND) and submission.restored is None)
        or (submission.purpose == "review" and submission.volume in revised)
    ]


def reviewed(work: Iterable[Worked]) -> dict[str, Reviewed]:
    """Return the volumes reviewed in one round, in the order of their first submission.

    Second readings are blind and beside another label; they cost time, and say nothing of the
    volumes that are left. Nor do those of gold cases.

    A volume that is corrected twice was not confirmed: a change outweighs other states before
    and after it, and the larger change (lower DSC) the smaller.
    """
    by_volume: dict[str, dict[str, OrganChange]] = {}
    for submission in of_round(work):
        if submission.purpose in BLIND:
            continue
        organs = by_volume.setdefault(submission.volume, {})
        for organ, change in submission.organs.items():
            if organ not in organs or _weight(change) > _weight(organs[organ]):
                organs[organ] = change
    return {volume: Reviewed(volume, organs) for volume, organs in by_volume.items()}


def _weight(change: OrganChange) -> tuple[int, float]:
    if needed(change):
        return 2, -(change.dsc or 0.0)
    return int(kind(change) == "confirmed"), 0.0


def by_organ(volumes: Iterable[Reviewed]) -> list[OrganChanges]:
    """Count the changes of every organ, in the organs' order."""
    volumes = list(volumes)
    rows = []
    for organ in ORGAN_NAMES:
        changes = [volume.organs[organ] for volume in volumes if organ in volume.organs]
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
    """Return a round's list, and the volumes reviewed of it with its networks' labels.

    A case that was given out before the list was drawn and comes in afterwards corrects a
    label of earlier networks, not of this list's, which nobody will review. Its line is
    ``overtaken``, and no part of the list. So is that of an imported label.

    Parameters
    ----------
    work
        Submissions of the whole campaign.

    Returns
    -------
    plan, volumes
        The list with such lines marked; by name, the volumes reviewed in its own round.
    """
    own, other = [], set()
    for submission in work:
        if submission.purpose == "gold":
            continue  # it corrects no label
        if submission.round == plan.round and submission.model_version in (
            None,
            plan.model_version,
        ):
            own.append(submission)
        elif submission.round <= plan.round and submission.submitted_at >= plan.drawn_at:
            other.add(submission.volume)
    volumes = reviewed(own)
    other |= {submission.volume for submission in own if submission.purpose == "adopted"}
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
    """Return what remains to review in a round before its networks are fine-tuned.

    A budget also counts as used when nothing is left to use it on: volumes that came after
    the list was drawn are on the next one.

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
