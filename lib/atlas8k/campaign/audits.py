"""What errors are left where nobody has looked, from low-ranked volumes drawn by chance.

All three networks can miss the same error; then nothing disagrees, the volume ranks low and
nobody is sent there. So a share of the low-ranked volumes is reviewed all the same. They
are a sample without replacement from a list of known length: the number of wrong ones
among so many drawn is hypergeometric. The interval turns that around exactly (every number
of wrong volumes in the whole list under which what was found is not too unlikely on either
side, 2.5 % each). For a long list it is the Clopper-Pearson interval; for a short one it is
narrower, and shrinks to a point once all were looked at.

Audits count in the order in which they were drawn. Some are done before their turn, by rank
or by name, and the hard ones come in last: those that happen to be done are no sample of all,
but the first so many drawn are one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import takewhile

from scipy.stats import hypergeom

from atlas8k.campaign.reports import Audit, Interval, OrganAudit
from atlas8k.campaign.reviewed import GONE, Reviewed, kind, needed
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Plan, Planned

ALPHA = 0.05
ROUNDING = 1e-10
"""Relative. A tail of just 2.5 %, as 1 in 40, comes out a little above or below that."""


def bounds(population: int, drawn: int, wrong: int, alpha: float = ALPHA) -> tuple[int, int]:
    """Return the fewest and most wrong ones in a population, by a sample of it.

    Parameters
    ----------
    population
        All there are, those drawn included.
    alpha
        1 - confidence.

    Raises
    ------
    ValueError
        More drawn than there are, more wrong than drawn, or none drawn.
    """
    if not 0 < drawn <= population or not 0 <= wrong <= drawn:
        raise ValueError(f"{wrong} wrong of {drawn} drawn of {population}: not possible")
    # What was seen bounds what there can be. The more are wrong in all, the likelier so many
    # among those drawn, and the less likely so few: both ends are found by halving.
    unlikely = alpha / 2 * (1 + ROUNDING)
    possible = range(wrong, population - (drawn - wrong) + 1)

    def too_few(total: int) -> bool:
        return not hypergeom.sf(wrong - 1, population, total, drawn) > unlikely

    def too_many(total: int) -> bool:
        return not hypergeom.cdf(wrong, population, total, drawn) > unlikely

    first = bisect_left(possible, True, key=lambda total: not too_few(total))
    beyond = bisect_left(possible, True, key=too_many)
    return possible[first], possible[beyond - 1]


def interval(population: int, drawn: int, wrong: int) -> Interval:
    """Return the share of wrong ones in a population; unknown where none was drawn."""
    if not drawn:
        return Interval(audited=0, wrong=0, share=None, low=None, high=None)
    low, high = bounds(population, drawn, wrong)
    return Interval(
        audited=drawn,
        wrong=wrong,
        share=wrong / drawn,
        low=low / population,
        high=high / population,
    )


def audit(plan: Plan, volumes: Mapping[str, Reviewed]) -> Audit:
    """Return what a round's audits say.

    Parameters
    ----------
    plan, volumes
        The list and those reviewed of it, by name, as
        :func:`~atlas8k.campaign.reviewed.reviews_of` gives them.
    """

    def done(line: Planned) -> bool:
        return line.volume in volumes and volumes[line.volume].outcome != "silent"

    behind = [line for line in plan.lines[plan.top :] if line.status not in GONE]
    sample = sorted(
        (line for line in behind if line.audit is not None), key=lambda line: line.audit or 0
    )
    counted = [volumes[line.volume] for line in takewhile(done, sample)]
    whole = interval(len(behind), len(counted), sum(bool(one.wrong) for one in counted))
    unseen = _unseen(behind, volumes)
    left = _left(behind, volumes, whole, unseen)
    top = [line for line in plan.lines[: plan.top] if line.status not in GONE]
    reviewed = sum(map(done, sample))
    waits_for = sample[len(counted)].volume if len(counted) < len(sample) else None
    found = Audit(
        round=plan.round,
        percent=plan.audit_percent,
        low_ranked=len(behind),
        drawn=len(sample),
        open=len(sample) - reviewed,
        waiting=reviewed - len(counted),
        waits_for=waits_for,
        unseen=unseen,
        top_unseen=_unseen(top, volumes),
        volumes=whole,
        left=left and left[0],
        left_low=left and left[1],
        left_high=left and left[2],
        organs=[_organ(organ, len(behind), counted) for organ in ORGAN_NAMES],
        text="",
    )
    return found.model_copy(update={"text": _text(found)})


def _unseen(lines: Sequence[Planned], volumes: Mapping[str, Reviewed]) -> int:
    """Nobody has submitted them, in this round or later."""
    seen = ("submitted", "conflict")
    return sum(line.volume not in volumes and line.status not in seen for line in lines)


def _left(
    behind: Sequence[Planned], volumes: Mapping[str, Reviewed], found: Interval, unseen: int
) -> tuple[int, int, int] | None:
    """Wrong ones among those that nobody has seen: about, at least, at most.

    Wrong ones that were found are not left, whoever found them. Of those that were seen in
    later rounds nobody knows how many were wrong by this round's networks.
    """
    if found.share is None:
        return None
    low, high = bounds(len(behind), found.audited, found.wrong)
    seen = [volumes[line.volume] for line in behind if line.volume in volumes]
    known, rest = sum(bool(one.wrong) for one in seen), len(behind) - len(seen)
    about = (found.share * len(behind) - known) * unseen / rest if rest else 0.0
    limits = (round(about), low - known - (rest - unseen), high - known)
    about_, low, high = (min(unseen, max(0, n)) for n in limits)
    return about_, low, high


def _organ(organ: str, population: int, done: list[Reviewed]) -> OrganAudit:
    """Of volumes in which something was said of the organ."""
    said = [
        one.organs[organ]
        for one in done
        if organ in one.organs and kind(one.organs[organ]) != "nothing_said"
    ]
    wrong = sum(map(needed, said))
    return OrganAudit(organ=organ, **interval(population, len(said), wrong).model_dump())


def _text(found: Audit) -> str:
    if found.left is None:
        if not found.drawn:
            why = (
                f"{found.percent:g} % of {found.low_ranked} low-ranked volumes are none; "
                "set audit_percent higher"
            )
        else:
            yet = "the first is not" if found.waiting else "none"
            why = f"{found.drawn} drawn, {yet} reviewed yet"
        text = f"errors left in what nobody looked at: unknown ({why})"
    else:
        text = (
            f"{found.volumes.wrong} of {found.volumes.audited} audited volumes had an error: about "
            f"{found.left} ({found.left_low} to {found.left_high}, 95 %) of the {found.unseen} "
            f"low-ranked volumes nobody looked at, by the networks of round {found.round}"
        )
    if found.waiting:
        text += f"; {found.waiting} more count when {found.waits_for} is reviewed"
    if found.top_unseen:
        text += f"; not reviewed of the budget's, either: {found.top_unseen}"
    return text
