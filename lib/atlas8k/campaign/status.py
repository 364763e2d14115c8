"""A campaign as it stands, from the ledger alone: it changes nothing and waits for nobody."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from atlas8k.campaign.audits import audit
from atlas8k.campaign.changes import Reviewed, by_organ, of_round, reviewed
from atlas8k.campaign.effort import BY_HAND_MINUTES, annotators, effort, holders
from atlas8k.campaign.learning import training
from atlas8k.campaign.left import Left, left
from atlas8k.campaign.listed import listed
from atlas8k.campaign.reports import Annotator, NotUsable, RoundReport, Status, Training, Volumes
from atlas8k.campaign.steps import Standing, steps
from atlas8k.campaign.stopping import stop_rule
from atlas8k.errors import LedgerError
from atlas8k.ledger import Counts, Ledger, Plan, Progress, Round, Worked
from atlas8k.organs import N_ORGANS


def status(
    ledger: Ledger,
    *,
    signature: str | None = None,
    names: bool = False,
    running: Collection[str] = (),
    studies: str = "STUDIES",
) -> Status:
    """Look at a campaign.

    Parameters
    ----------
    signature
        Of the networks served now; the last round's where it is not known.
    names
        Show who the annotators are; else they are numbered.
    running
        Kinds of work that go on now, ``scoring`` and ``training``.
    studies
        The studies folder as a user would type it, for the commands that are said.
    """
    rounds, counts, set_to = ledger.rounds(), ledger.counts(), ledger.campaign_settings()
    work, public = ledger.worked(), ledger.public_organs()
    noted = [(one.round, training(one)) for one in ledger.trainings()]
    by_round = {one.number: of_round(w for w in work if w.round == one.number) for one in rounds}
    done = sorted((one for of in by_round.values() for one in of), key=lambda one: one.id)
    order = holders(done)
    plans = {one.number: ledger.plan(one.number) for one in rounds}
    budget = ledger.budget()
    served = signature or (rounds[-1].signature if rounds else None)
    progress = _progress(ledger, served)
    reports = [
        _round(
            one,
            by_round[one.number],
            listed(plan, work) if (plan := plans[one.number]) else None,
            budget.total if budget and budget.round == one.number else 0,
            public,
            [made for number, made in noted if number == one.number],
            annotators(by_round[one.number], order, names=names),
        )
        for one in rounds
    ]
    open_round = reports[-1] if reports and reports[-1].closed_at is None else None
    to_review = ledger.to_review()
    stop = next((one.stop for one in reversed(reports) if one.stop), None)
    standing = Standing(
        served=served is not None,
        total=counts.total,
        scored=progress.scored if progress else 0,
        failed=progress.failed if progress else 0,
        listed=open_round is not None and open_round.stop is not None,
        budget=open_round.budget if open_round else 0,
        reviewed=budget.reviewed if budget else 0,
        left=left(plans.get(budget.round), budget, to_review) if budget else Left(0, 0),
        to_review=to_review,
        round=budget.round if budget else None,
        submitted=open_round is not None and open_round.reviewed > 0,
        unsettled=len(ledger.unsettled()),
        stop=stop,
        audit=open_round.audit if open_round else None,
        running=frozenset(running),
        studies=studies,
    )
    return Status(
        at=time.time(),
        signature=served,
        volumes=_volumes(counts, progress),
        not_usable=[
            NotUsable(
                volume=one.volume,
                reason=one.reason,
                kind=one.kind,
                by=one.holder if names else "",
                at=one.at,
            )
            for one in ledger.not_usable()
        ],
        audit_percent=set_to.audit_percent,
        stop_after=set_to.stop_after,
        round=open_round.number if open_round else None,
        rounds=reports,
        stop=stop,
        audit=next(
            (r.audit for r in reversed(reports) if r.audit and r.audit.volumes.audited), None
        )
        or next((one.audit for one in reversed(reports) if one.audit), None),
        hours_collection_by_hand=(counts.total * N_ORGANS - sum(public.values()))
        * BY_HAND_MINUTES
        / 60,
        steps=steps(standing),
    )


def _progress(ledger: Ledger, signature: str | None) -> Progress | None:
    if signature is None:
        return None
    try:
        return ledger.progress(signature)
    except LedgerError:  # published and not looked at by a server yet
        return None


def _round(
    one: Round,
    work: Sequence[Worked],
    on_list: tuple[Plan, Mapping[str, Reviewed]] | None,
    total: int,
    public: Mapping[str, int],
    trained: list[Training],
    people: list[Annotator],
) -> RoundReport:
    """`total`: the budget of a round without a list, 0 where it is not known any more."""
    volumes = reviewed(work)
    changed = sum(bool(volume.wrong) for volume in volumes.values())
    return RoundReport(
        number=one.number,
        signature=one.signature,
        opened_at=one.opened_at,
        closed_at=one.closed_at,
        # Before the list was drawn, volumes were reviewed by the one before.
        budget=on_list[0].top + on_list[0].reviewed if on_list else total,
        reviewed=len(volumes),
        audited=one.audited,
        changed=changed,
        confirmed=sum(volume.outcome == "confirmed" for volume in volumes.values()),
        organs=by_organ(volumes.values()),
        effort=effort(work, public),
        annotators=people,
        trainings=trained,
        closing=_closing(one),
        stop=stop_rule(*on_list) if on_list else None,
        audit=audit(*on_list) if on_list else None,
    )


def _closing(one: Round) -> str:
    if one.closed_at is None:
        return ""
    if "signature" in one.closing:
        return f"new networks, {one.closing['signature']}"
    return str(one.closing.get("note", "closed"))


def _volumes(counts: Counts, progress: Progress | None) -> Volumes:
    return Volumes(
        total=counts.total,
        reviewed=counts.submitted + counts.conflict,
        in_hand=counts.leased,
        conflicts=counts.conflict,
        excluded=counts.excluded,
        scored=progress.scored if progress else 0,
        failed=progress.failed if progress else 0,
    )
