"""Estimate the errors left where nobody has looked, from a sweep over the outlines of labels.

The volumes have a random order (:func:`atlas8k.store.sweeps.place_at_random`). Whatever order
people go by, the first so many of the random one that were all looked at are a random sample of
the volumes that nobody had submitted, and the interval is that of
:func:`atlas8k.campaign.audits.bounds`: exact, of a sample without replacement; for a long list
the exact binomial one (Clopper-Pearson).
"""

from __future__ import annotations

from itertools import takewhile

from atlas8k.campaign.audits import bounds, interval
from atlas8k.campaign.reports import Interval, Sweep
from atlas8k.store import Ledger, SweepLine
from atlas8k.store.sweeps import place_at_random


def sweep(ledger: Ledger) -> Sweep | None:
    """Report the sweep; None where nobody has looked at anything in one."""
    lines = ledger.sweep_lines()
    return report(lines, ledger.sweep_seed()) if any(one.verdict for one in lines) else None


def report(lines: list[SweepLine], seed: str) -> Sweep:
    """Report the sweep over these volumes, in whatever order they are given."""
    looked = [one for one in lines if one.verdict]
    flagged = [one for one in looked if one.verdict == "flag"]
    population = sorted(
        (one for one in lines if not one.seen), key=lambda one: place_at_random(seed, one.volume)
    )
    sample = list(takewhile(lambda one: one.verdict is not None, population))
    unseen = sum(one.verdict is None for one in population)
    estimate = interval(len(population), len(sample), sum(map(_wrong, sample)))
    known = sum(map(_wrong, population))
    found = Sweep(
        seed=seed,
        volumes=len(lines),
        looked=len(looked),
        flagged=len(flagged),
        changed=sum(one.changed for one in flagged),
        right=sum(one.decided and not one.changed for one in flagged),
        open=sum(not one.decided for one in flagged),
        missed=sum(one.changed for one in looked if one.verdict == "fine"),
        unseen=unseen,
        estimate=estimate,
        left=None,
        left_low=None,
        left_high=None,
        text="",
    )
    if estimate.share is not None:
        limits = bounds(len(population), estimate.audited, estimate.wrong)
        totals = (round(estimate.share * len(population)), *limits)
        left, low, high = (min(unseen, max(0, total - known)) for total in totals)
        found = found.model_copy(update={"left": left, "left_low": low, "left_high": high})
    return found.model_copy(update={"text": _text(found)})


def _wrong(line: SweepLine) -> bool:
    """Return whether a label is taken for wrong: flagged and not found right since, or changed."""
    return line.changed or (line.verdict == "flag" and not line.decided)


def _text(found: Sweep) -> str:
    estimate: Interval = found.estimate
    text = f"{found.looked:,} of {found.volumes:,} volumes looked at, {found.flagged:,} flagged"
    if found.flagged:
        text += f" ({found.changed} changed since, {found.right} found right, {found.open} open)"
    if found.missed:
        text += f"; {found.missed} that looked fine were changed since"
    if not found.unseen:
        return f"{text}; no volume is left that nobody has looked at"
    if estimate.share is None or estimate.low is None or estimate.high is None:
        return f"{text}; errors left: unknown (none of them is the first of the random order)"
    return (
        f"{text}; of the first {estimate.audited:,} in random order {estimate.wrong:,} are wrong "
        f"({100 * estimate.share:.1f} %, {100 * estimate.low:.1f} to {100 * estimate.high:.1f} %): "
        f"about {found.left:,} ({found.left_low:,} to {found.left_high:,}, 95 %) of the "
        f"{found.unseen:,} volumes that nobody has looked at"
    )
