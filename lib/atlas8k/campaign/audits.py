"""Estimate the errors left where nobody has looked, from low-ranked volumes drawn at random.

All three networks can miss the same error; then they agree, the volume ranks low and nobody
reviews it. So a share of the low-ranked volumes is reviewed all the same. They
are a sample without replacement from a list of known length: the number of wrong ones
among so many drawn is hypergeometric. The interval inverts that exactly (every number of
wrong volumes in the whole list under which the sample is not too unlikely on either side,
2.5 % each). For a long list it is the Clopper-Pearson interval; for a short one it is
narrower, and shrinks to a point once all were looked at.

Audits count in the order in which they were drawn. Some are done early, by rank or by name,
and the hard ones last: the audits done so far are no random sample, but the first so many
drawn are one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import takewhile

from scipy.stats import hypergeom

from atlas8k.campaign.reports import Audit, Interval, OrganAudit
from atlas8k.campaign.reviewed import GONE, Reviewed, kind, needed
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.store import Plan, Planned

ALPHA = 0.05
ROUNDING = 1e-10
"""Relative. A tail of just 2.5 %, as 1 in 40, comes out a little above or below that."""


@lru_cache(maxsize=1024)
def bounds(population: int, drawn: int, wrong: int, alpha: float = ALPHA) -> tuple[int, int]:
    """Compute the fewest and most wrong volumes in a population, by a sample of it.

    Parameters
    ----------
    population
        Size of the population, those drawn included.
    alpha
        1 - confidence.

    Raises
    ------
    ValueError
        More drawn than there are, more wrong than drawn, or none drawn.
    """
    if not 0 < drawn <= population or not 0 <= wrong <= drawn:
        raise ValueError(f"{wrong} wrong of {drawn} drawn of {population}: not possible")
    # The sample bounds the total. The more are wrong in all, the likelier so many among those
    # drawn, and the less likely so few: both ends are found by bisection.
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
    """Return the share of wrong volumes in a population; unknown where none was drawn."""
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
    """Report a round's audits.

    Parameters
    ----------
    plan, volumes
        The list and those reviewed of it, by name, as
        :func:`~atlas8k.campaign.reviewed.reviews_of` gives them.
    """

    def done(line: Planned) -> bool:
        return line.volume in volumes and volumes[line.volume].outcome != "not_assessed"

    behind = [line for line in plan.lines[plan.top :] if line.status not in GONE]
    sample = sorted(
        (line for line in behind if line.audit is not None), key=lambda line: line.audit or 0
    )
    counted = [volumes[line.volume] for line in takewhile(done, sample)]
    whole = interval(len(behind), len(counted), sum(bool(volume.wrong) for volume in counted))
    unseen = _unseen(behind, volumes)
    left = _left(behind, volumes, whole, unseen)
    top = [line for line in plan.lines[: plan.top] if line.status not in GONE]
    reviewed = sum(map(done, sample))
    waits_for = sample[len(counted)].volume if len(counted) < len(sample) else None
    report = Audit(
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
    return report.model_copy(update={"text": _text(report)})


def _unseen(lines: Sequence[Planned], volumes: Mapping[str, Reviewed]) -> int:
    """Count the volumes that nobody has submitted, in this round or later."""
    seen = ("submitted", "conflict")
    return sum(line.volume not in volumes and line.status not in seen for line in lines)


def _left(
    behind: Sequence[Planned], volumes: Mapping[str, Reviewed], estimate: Interval, unseen: int
) -> tuple[int, int, int] | None:
    """Estimate the wrong volumes among the unseen: about, at least, at most.

    Wrong volumes that somebody found are not left. Of those seen in later rounds it is not
    known how many were wrong by this round's networks.
    """
    if estimate.share is None:
        return None
    low, high = bounds(len(behind), estimate.audited, estimate.wrong)
    seen = [volumes[line.volume] for line in behind if line.volume in volumes]
    known, rest = sum(bool(volume.wrong) for volume in seen), len(behind) - len(seen)
    about = (estimate.share * len(behind) - known) * unseen / rest if rest else 0.0
    limits = (round(about), low - known - (rest - unseen), high - known)
    about_, low, high = (min(unseen, max(0, n)) for n in limits)
    return about_, low, high


def _organ(organ: str, population: int, done: list[Reviewed]) -> OrganAudit:
    """Report one organ's audit, over the volumes in which it was assessed."""
    changes = [
        volume.organs[organ]
        for volume in done
        if organ in volume.organs and kind(volume.organs[organ]) != "nothing_said"
    ]
    wrong = sum(map(needed, changes))
    return OrganAudit(organ=organ, **interval(population, len(changes), wrong).model_dump())


def _text(report: Audit) -> str:
    if report.left is None:
        if not report.drawn:
            why = (
                f"{report.percent:g} % of {report.low_ranked} low-ranked volumes are none; "
                "set audit_percent higher"
            )
        else:
            yet = "the first is not" if report.waiting else "none"
            why = f"{report.drawn} drawn, {yet} reviewed yet"
        text = f"errors left in what nobody looked at: unknown ({why})"
    else:
        text = (
            f"{report.volumes.wrong} of {report.volumes.audited} audited volumes had an error: "
            f"about {report.left} ({report.left_low} to {report.left_high}, 95 %) of the "
            f"{report.unseen} low-ranked volumes nobody looked at, by the networks of "
            f"round {report.round}"
        )
    if report.waiting:
        text += f"; {report.waiting} more count when {report.waits_for} is reviewed"
    if report.top_unseen:
        text += f"; not reviewed of the budget's, either: {report.top_unseen}"
    return text
