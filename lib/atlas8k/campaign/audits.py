"""What errors are left where nobody has looked, from low-ranked volumes drawn by chance.

All three networks can miss the same error; then nothing disagrees, the volume ranks low and
nobody is sent there. So a share of the low-ranked volumes is reviewed all the same. They
are a sample without replacement from a list of known length: the number of wrong ones
among so many drawn is hypergeometric. The interval turns that around exactly (every number
of wrong volumes in the whole list under which what was found is not too unlikely on either
side, 2.5 % each). For a long list it is the Clopper-Pearson interval; for a short one it is
narrower, and shrinks to a point once all were looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from scipy.stats import hypergeom

from atlas8k.campaign.changes import Reviewed, kind, needed
from atlas8k.campaign.reports import Audit, Interval, OrganAudit
from atlas8k.campaign.stopping import GONE
from atlas8k.ledger import Plan, Planned
from atlas8k.organs import ORGAN_NAMES

ALPHA = 0.05
ROUNDING = 1e-10
"""Relative. A tail of just 2.5 %, as 1 in 40, comes out a little above or below that."""


def bounds(population: int, drawn: int, wrong: int, alpha: float = ALPHA) -> tuple[int, int]:
    """Fewest and most wrong ones in a population, of which `wrong` among `drawn` were found.

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
    """The share of wrong ones in a population; unknown where none was drawn."""
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
    """What a round's audits say.

    Parameters
    ----------
    volumes
        Those reviewed in this round, by name.
    """
    behind = [line for line in plan.lines[plan.top :] if line.status not in GONE]
    sample = [line for line in behind if line.audit is not None]
    done = [volumes[line.volume] for line in sample if line.volume in volumes]
    seen = [volumes[line.volume] for line in behind if line.volume in volumes]
    wrong = sum(bool(one.wrong) for one in done)
    found = sum(bool(one.wrong) for one in seen)
    whole = interval(len(behind), len(done), wrong)
    unseen = _unseen(behind, volumes)
    left = left_low = left_high = None
    if done:
        low, high = bounds(len(behind), len(done), wrong)
        # Wrong ones that were found are not left, whoever found them.
        estimate = round(wrong / len(done) * len(behind)) - found
        left, left_low, left_high = (
            min(unseen, max(0, n)) for n in (estimate, low - found, high - found)
        )
    return Audit(
        round=plan.round,
        percent=plan.audit_percent,
        low_ranked=len(behind),
        drawn=len(sample),
        open=len(sample) - len(done),
        unseen=unseen,
        volumes=whole,
        left=left,
        left_low=left_low,
        left_high=left_high,
        organs=[_organ(organ, len(behind), done) for organ in ORGAN_NAMES],
        text=_text(plan, len(behind), len(sample), whole, (left, left_low, left_high), unseen),
    )


def _unseen(lines: list[Planned], volumes: Mapping[str, Reviewed]) -> int:
    return sum(line.volume not in volumes for line in lines)


def _organ(organ: str, population: int, done: list[Reviewed]) -> OrganAudit:
    """Of volumes in which something was said of the organ."""
    said = [
        one.organs[organ]
        for one in done
        if organ in one.organs and kind(one.organs[organ]) != "nothing_said"
    ]
    wrong = sum(map(needed, said))
    return OrganAudit(organ=organ, **interval(population, len(said), wrong).model_dump())


def _text(
    plan: Plan,
    population: int,
    drawn: int,
    found: Interval,
    left: tuple[int | None, int | None, int | None],
    unseen: int,
) -> str:
    if found.share is None:
        why = (
            f"{drawn} drawn, none reviewed yet"
            if drawn
            else f"{plan.audit_percent:g} % of {population} low-ranked volumes are none; "
            "set audit_percent higher"
        )
        return f"errors left in what nobody looked at: unknown ({why})"
    return (
        f"{found.wrong} of {found.audited} audited volumes had an error: about {left[0]} "
        f"({left[1]} to {left[2]}, 95 %) of the {unseen} low-ranked volumes nobody looked at"
    )
