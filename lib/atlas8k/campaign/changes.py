"""What a round's submissions changed, one count a volume and organ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from atlas8k.campaign.reports import OrganChanges
from atlas8k.ledger import OrganChange, Worked
from atlas8k.organs import ORGAN_NAMES

Kind = Literal["confirmed", "changed", "added", "absent", "nothing_said"]
Outcome = Literal["confirmed", "changed", "silent"]


def kind(change: OrganChange) -> Kind:
    """What became of one organ.

    An organ that somebody says is absent, and that the start label did not have either, is
    confirmed: nothing had to be changed.
    """
    if change.state == "revised":
        return "added" if change.voxels_before == 0 else "changed"
    if change.state == "absent":
        return "confirmed" if change.voxels_before == 0 else "absent"
    return "confirmed" if change.state == "confirmed" else "nothing_said"


def needed(change: OrganChange) -> bool:
    """Whether the start label of the organ was wrong to who submitted it."""
    return kind(change) in ("changed", "added", "absent")


@dataclass(frozen=True)
class Reviewed:
    """A volume in a round: of each organ the strongest that was said of it."""

    volume: str
    organs: Mapping[str, OrganChange]

    @property
    def wrong(self) -> list[str]:
        """Organs that needed a change."""
        return [organ for organ in ORGAN_NAMES if organ in self.organs and self._needed(organ)]

    @property
    def outcome(self) -> Outcome:
        """``silent``: nothing is said of an organ that is there, which may be right or wrong."""
        if self.wrong:
            return "changed"
        kinds = {kind(change) for change in self.organs.values()}
        unsaid = any(
            change.state == "not_assessed" and (change.voxels_before or change.voxels_after)
            for change in self.organs.values()
        )
        return "confirmed" if "confirmed" in kinds and not unsaid else "silent"

    def _needed(self, organ: str) -> bool:
        return needed(self.organs[organ])


def of_round(work: Iterable[Worked]) -> list[Worked]:
    """What of one round's submissions somebody did for it.

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
    """Volumes reviewed in one round, in the order of their first submission.

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
    """Counts of every organ, in the organs' order."""
    volumes = list(volumes)
    rows = []
    for organ in ORGAN_NAMES:
        said = [one.organs[organ] for one in volumes if organ in one.organs]
        kinds = [kind(change) for change in said]
        wrong = [change for change in said if needed(change)]
        measured = [change.dsc for change in wrong if change.dsc is not None]
        rows.append(
            OrganChanges(
                organ=organ,
                confirmed=kinds.count("confirmed"),
                changed=kinds.count("changed"),
                added=kinds.count("added"),
                absent=kinds.count("absent"),
                nothing_said=kinds.count("nothing_said") + len(volumes) - len(said),
                mean_dsc=sum(measured) / len(measured) if measured else None,
                voxels_changed=sum(change.voxels_changed or 0 for change in wrong),
            )
        )
    return rows
