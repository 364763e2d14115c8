"""Check the stop rule of step 8: the top of the list needs no revision any more.

It only shows a state and ends nothing: samples are handed out as before, and the campaign's
owner decides.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas8k.campaign.reports import StopRule
from atlas8k.campaign.reviewed import GONE, Reviewed
from atlas8k.store import Plan


def stop_rule(plan: Plan, volumes: Mapping[str, Reviewed]) -> StopRule:
    """Report the state of the rule in one round.

    It is reached when the first so many places of the round's list were reviewed in this
    round, and in none of them an organ was changed, added or removed. A changed volume breaks
    it for the round: the networks have to be fine-tuned and the next list begins anew. A
    volume that is not reviewed yet, or not assessed, keeps it waiting; a changed volume behind
    one that waits breaks it as well.

    Parameters
    ----------
    plan
        So many in a row as its ``stop_after`` says, but no more than the budget asks to be
        reviewed. (In lists drawn by earlier releases `top` was what early samples had left of
        it, and nothing where they had used it up.)
    volumes
        Volumes reviewed of it, by name; both as :func:`~atlas8k.campaign.reviewed.reviews_of`
        gives them.
    """
    lines = [line for line in plan.lines if line.status not in GONE]
    outcomes = [
        volumes[line.volume].outcome if line.volume in volumes else "open" for line in lines
    ]
    needed = min(plan.stop_after, plan.top or plan.reviewed, len(lines))
    row = next((i for i, outcome in enumerate(outcomes) if outcome != "confirmed"), len(lines))
    broken = next((lines[i] for i in range(row, needed) if outcomes[i] == "changed"), None)
    waits = lines[row] if row < len(lines) and outcomes[row] != "changed" else None
    if 0 < needed <= row:
        text = f"the first {row} of the list needed no change: the campaign can end"
    elif broken is not None:
        organs = ", ".join(volumes[broken.volume].wrong)
        text = (
            f"the list's top still needs revision: {broken.volume} (place {broken.place}: "
            f"{organs}); after fine-tuning it is checked anew"
        )
    else:
        text = f"{row} of the first {needed} of the list confirmed without a change so far"
    return StopRule(
        round=plan.round,
        needed=needed,
        in_a_row=row,
        reached=0 < needed <= row,
        broken_by=broken.volume if broken else None,
        broken_at=broken.place if broken else None,
        waits_for=waits.volume if waits else None,
        text=text,
    )
