"""Report the status of a campaign from the ledger alone; changes nothing, takes no lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from atlas8k.attention.recalibration import calibrate
from atlas8k.campaign.audits import audit
from atlas8k.campaign.effort import annotators, by_hand_minutes, effort
from atlas8k.campaign.evidence import evidence, predicted_and_found
from atlas8k.campaign.learning import training
from atlas8k.campaign.outliers import outliers
from atlas8k.campaign.reports import (
    Annotator,
    NoiseOfOrgan,
    NotUsable,
    Outliers,
    RoundReport,
    Status,
    Step,
    Training,
    Volumes,
)
from atlas8k.campaign.reviewed import (
    Remaining,
    Reviewed,
    by_organ,
    of_round,
    remaining,
    reviewed,
    reviews_of,
)
from atlas8k.campaign.stopping import stop_rule
from atlas8k.campaign.sweeps import sweep
from atlas8k.core.errors import LedgerError
from atlas8k.store import Budget, Ledger, Plan, Round, Worked

EVERYTHING = "every volume was submitted"


def status(
    ledger: Ledger,
    *,
    model_version: str | None = None,
    names: bool = False,
    running: Collection[str] = (),
    studies: str = "STUDIES",
) -> Status:
    """Report the status of a campaign.

    Parameters
    ----------
    model_version
        Model version of the served networks; the last round's where it is not known.
    names
        Show the annotators' names; else they are numbered.
    running
        Kinds of work that go on now, ``scoring`` and ``training``.
    studies
        The studies folder as a user would type it, for the commands in the report.
    """
    rounds, set_to = ledger.rounds(), ledger.campaign_settings()
    work, public = ledger.worked(), ledger.public_organs()
    trainings = [(recorded.round, training(recorded)) for recorded in ledger.trainings()]
    by_round = {
        round_.number: of_round(w for w in work if w.round == round_.number) for round_ in rounds
    }
    order = ledger.annotators()
    plans = {round_.number: ledger.plan(round_.number) for round_ in rounds}
    budget = ledger.budget()
    served = model_version or (rounds[-1].model_version if rounds else None)
    reports = [
        _round(
            round_,
            by_round[round_.number],
            reviews_of(plan, work) if (plan := plans[round_.number]) else None,
            budget.total if budget and budget.round == round_.number else 0,
            public,
            [training_ for number, training_ in trainings if number == round_.number],
            annotators(by_round[round_.number], order, names=names),
        )
        for round_ in rounds
    ]
    open_round = reports[-1] if reports and reports[-1].closed_at is None else None
    to_review = ledger.to_review()
    volumes = _volumes(ledger, served)
    audits = [round_.audit for round_ in reversed(reports) if round_.audit]
    report = Status(
        at=time.time(),
        model_version=served,
        volumes=volumes,
        not_usable=[
            NotUsable(
                volume=entry.volume,
                reason=entry.reason,
                kind=entry.kind,
                by=entry.holder if names else "",
                at=entry.at,
            )
            for entry in ledger.not_usable()
        ],
        audit_percent=set_to.audit_percent,
        stop_after=set_to.stop_after,
        round=open_round.number if open_round else None,
        rounds=reports,
        stop=next((round_.stop for round_ in reversed(reports) if round_.stop), None),
        audit=next(
            (audited for audited in audits if audited.volumes.audited),
            audits[0] if audits else None,
        ),
        sweep=sweep(ledger),
        outliers=_outliers(ledger, served, budget),
        predicted_quality=calibrate(*ledger.quality_seen(served or "")).text,
        label_noise=[NoiseOfOrgan(**one._asdict()) for one in ledger.label_noise()],
        hours_collection_by_hand=(
            (volumes.total - len(public)) * by_hand_minutes()
            + sum(by_hand_minutes(organs) for organs in public.values())
        )
        / 60,
        steps=[],
    )
    left = remaining(plans.get(budget.round), budget, to_review) if budget else Remaining(0, 0)
    now = _Now(report, open_round, budget, left, to_review, running, studies)
    steps = [
        Step(number=number, name=name, state=state, detail=detail, command=command)
        for number, (name, step) in enumerate(STEPS.items(), start=1)
        for state, detail, command in [step(now)]
    ]
    return report.model_copy(update={"steps": steps})


def _round(
    round_: Round,
    work: Sequence[Worked],
    on_list: tuple[Plan, Mapping[str, Reviewed]] | None,
    total: int,
    public: Mapping[str, Collection[int]],
    trained: list[Training],
    people: list[Annotator],
) -> RoundReport:
    """Report a round; `total`: budget of one without a list, 0 where it is not known."""
    volumes = reviewed(work)
    outcomes = [volume.outcome for volume in volumes.values()]
    closing = ""
    if "model_version" in round_.closing:
        closing = f"new networks, {round_.closing['model_version']}"
    elif round_.closed_at is not None:
        closing = str(round_.closing.get("note", "closed"))
    return RoundReport(
        number=round_.number,
        model_version=round_.model_version,
        opened_at=round_.opened_at,
        closed_at=round_.closed_at,
        # Before the list was drawn, volumes were reviewed by the one before.
        budget=on_list[0].top + on_list[0].reviewed if on_list else total,
        reviewed=len(volumes),
        audited=round_.audited,
        changed=outcomes.count("changed"),
        confirmed=outcomes.count("confirmed"),
        organs=by_organ(volumes.values()),
        evidence=evidence(work),
        quality=predicted_and_found(work, _audited(on_list)),
        effort=effort(work, public),
        annotators=people,
        trainings=trained,
        closing=closing,
        stop=stop_rule(*on_list) if on_list else None,
        audit=audit(*on_list) if on_list else None,
    )


def _audited(on_list: tuple[Plan, Mapping[str, Reviewed]] | None) -> set[str]:
    """Return the volumes of a list that were drawn for audit."""
    lines = on_list[0].lines if on_list else ()
    return {line.volume for line in lines if line.audit is not None}


def _outliers(ledger: Ledger, model_version: str | None, budget: Budget | None) -> Outliers | None:
    """Report the outliers of what is ranked by now."""
    used = None if model_version is None else ledger.ranking_model_version(model_version)
    if used is None:
        return None
    total = None if budget is None else budget.total
    return outliers(ledger.ranked_by(), ledger.sizes(used), total)


def _volumes(ledger: Ledger, model_version: str | None) -> Volumes:
    counts, scored, failed = ledger.counts(), 0, 0
    if model_version is not None:
        with suppress(LedgerError):  # published and not opened by a server yet
            progress = ledger.progress(model_version)
            scored, failed = progress.scored, progress.failed
    return Volumes(
        total=counts.total,
        reviewed=counts.submitted + counts.conflict,
        in_hand=counts.leased,
        conflicts=counts.conflict,
        excluded=counts.excluded,
        scored=scored,
        failed=failed,
    )


@dataclass(frozen=True)
class _Now:
    """The state that the steps are derived from.

    ``to_review``: volumes of the collection that nobody has submitted; ``running``:
    ``scoring``, ``training``.
    """

    report: Status
    open_round: RoundReport | None
    budget: Budget | None
    left: Remaining
    to_review: int
    running: Collection[str]
    studies: str

    @property
    def complete(self) -> bool:
        """Every volume has a score, or a reason for none, under the active networks."""
        volumes = self.report.volumes
        return volumes.total > 0 and volumes.scored + volumes.failed >= volumes.total

    @property
    def listed(self) -> bool:
        """The open round has its list."""
        return self.open_round is not None and self.open_round.stop is not None

    @property
    def submitted(self) -> bool:
        """Something was submitted in the open round."""
        return self.open_round is not None and self.open_round.reviewed > 0

    @property
    def all_submitted(self) -> bool:
        """Nothing of the collection is left to review."""
        return self.report.volumes.total > 0 and not self.to_review


State = Literal["done", "due", "running", "waits", "to decide"]
StepState = tuple[State, str, str]
"""State, detail, and the command that does the step."""


def _first(now: _Now) -> StepState:
    if now.report.model_version is not None:
        return "done", "networks are there", ""
    return "due", "there are no networks to serve", "atlas8k weights import, or atlas8k train"


def _predict(now: _Now) -> StepState:
    if now.report.model_version is None:
        return "waits", "for step 1", ""
    volumes = now.report.volumes
    text = f"{volumes.scored} of {volumes.total}"
    if volumes.failed:
        text += f", {volumes.failed} cannot be predicted"
    if now.complete:
        return "done", text, ""
    if "scoring" in now.running:
        return "running", text, ""
    if not volumes.total:
        return "due", "there is no volume in the folder", ""
    return "due", text, f"atlas8k score {now.studies}"


def _attention(now: _Now) -> StepState:
    state, detail, command = _predict(now)
    return state, f"{detail}, with step 2", command


def _list(now: _Now) -> StepState:
    if now.listed:
        return "done", f"{now.report.volumes.total} volumes", ""
    if now.report.model_version is None or not now.complete:
        return "waits", "for step 3", ""
    if now.all_submitted:
        return "done", EVERYTHING, ""
    return "due", "drawn with the next sample", f"atlas8k campaign next --studies {now.studies}"


def _revise(now: _Now) -> StepState:
    budget = now.open_round.budget if now.open_round else 0
    text = f"{now.budget.reviewed if now.budget else 0} of {budget} volumes"
    audit = now.open_round.audit if now.open_round else None
    if audit is not None and audit.drawn:
        text += f", and {audit.drawn - audit.open} of {audit.drawn} audits"
    if now.all_submitted:
        return "done", f"{text}: {EVERYTHING}" if now.submitted else EVERYTHING, ""
    if budget and not now.left:
        return "done", text, ""
    if not now.listed and not now.submitted:
        return "waits", "for step 4", ""
    # Audits are given out by attention alone.
    by = "" if now.left.volumes else ", strategy attention,"
    return "due", text, f"Next Sample{by} in 3D Slicer or OHIF"


def _reassemble(now: _Now) -> StepState:
    if not now.submitted:
        return "waits", "for step 5", ""
    return "done", "with every submission", ""


def _learn(now: _Now) -> StepState:
    command = f"atlas8k campaign next --studies {now.studies}"
    if "training" in now.running:
        return "running", "", ""
    if not now.submitted and now.all_submitted:
        return "done", f"{EVERYTHING} before this round", ""
    if not now.submitted:
        return "waits", "for step 5: nothing was submitted in this round", ""
    if now.left:
        return "waits", f"for step 5: {now.left} left", f"{command} --early"
    return "due", "then the round is closed and the next begins", command


def _repeat(now: _Now) -> StepState:
    if now.all_submitted:
        return "to decide", f"{EVERYTHING}: the campaign can end", ""
    stop = now.report.stop
    if stop is None:
        return "waits", "for step 5", ""
    text = stop.text if stop.round == now.report.round else f"round {stop.round}: {stop.text}"
    return "to decide" if stop.reached else "waits", text, ""


STEPS: Mapping[str, Callable[[_Now], StepState]] = {
    "train the first networks on partially labeled public data": _first,
    "predict every volume with the three networks": _predict,
    "make attention maps where they disagree, are unsure or overlap": _attention,
    "sort the volumes into a priority list by attention size": _list,
    "an annotator revises the top of the list": _revise,
    "reassemble the labels: public before revised before pseudo labels": _reassemble,
    "fine-tune the networks on them": _learn,
    "repeat from step 2 until the top of the list needs no revision": _repeat,
}
