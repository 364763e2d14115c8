"""The stop rule of step 8: the top of the list needs no revision any more.

A state to be seen, never an end by itself: samples are handed out as before, and who runs
the campaign decides.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas8k.campaign.changes import Reviewed
from atlas8k.campaign.listed import GONE, listed
from atlas8k.campaign.reports import StopRule
from atlas8k.ledger import Ledger, Plan


def rule_of(ledger: Ledger, number: int) -> StopRule | None:
    """The rule in a round; None where that has no list."""
    plan = ledger.plan(number)
    return None if plan is None else stop_rule(*listed(plan, ledger.worked()))


def stop_rule(plan: Plan, volumes: Mapping[str, Reviewed]) -> StopRule:
    """Where the rule stands in one round.

    It is reached when the first so many places of the round's list were reviewed in this
    round, and in none of them an organ was changed, added or taken away. One that was breaks
    it for the round: the networks have to be fine-tuned and the next list begins anew. One
    that is not reviewed yet, or of which nothing was said, keeps it waiting.

    Parameters
    ----------
    plan
        So many in a row as its ``stop_after`` says, but no more than the budget asks to be
        reviewed. (In lists drawn by earlier releases `top` was what early samples had left of
        it, and nothing where they had used it up.)
    volumes
        Those reviewed of it, by name; both as :func:`~atlas8k.campaign.listed.listed` gives.
    """
    lines = [line for line in plan.lines if line.status not in GONE]
    needed = min(plan.stop_after, plan.top or plan.reviewed, len(lines))
    row, broken, waits = 0, None, None
    for line in lines:
        one = volumes.get(line.volume)
        if one is None or one.outcome != "confirmed":
            if one is not None and one.outcome == "changed":
                broken = line
            else:
                waits = line
            break
        row += 1
    if broken is None and row < needed:
        # What comes behind one that waits can break the rule as well.
        for line in lines[row:needed]:
            one = volumes.get(line.volume)
            if one is not None and one.outcome == "changed":
                broken = line
                break
    if row >= needed:
        broken = None
    return StopRule(
        round=plan.round,
        needed=needed,
        in_a_row=row,
        reached=0 < needed <= row,
        broken_by=broken.volume if broken else None,
        broken_at=broken.place if broken else None,
        waits_for=waits.volume if waits else None,
        text=_text(
            row,
            needed,
            broken
            and f"{broken.volume} (place {broken.place}: "
            f"{', '.join(volumes[broken.volume].wrong)})",
        ),
    )


def _text(row: int, needed: int, broken: str | None) -> str:
    if 0 < needed <= row:
        return f"the first {row} of the list needed no change: the campaign can end"
    if broken:
        return f"the list's top still needs revision: {broken}; after fine-tuning it is asked anew"
    return f"{row} of the first {needed} of the list confirmed without a change so far"
