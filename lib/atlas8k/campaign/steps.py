"""The eight steps of the procedure: which are done, which are due, and what does them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from atlas8k.campaign.left import Left
from atlas8k.campaign.reports import Audit, Step, StopRule

NAMES = (
    "train the first networks on partially labeled public data",
    "predict every volume with the three networks",
    "make attention maps where they disagree, are unsure or overlap",
    "sort the volumes into a priority list by attention size",
    "an annotator revises the top of the list",
    "reassemble the labels: public before revised before pseudo labels",
    "fine-tune the networks on them",
    "repeat from step 2 until the top of the list needs no revision",
)
EVERYTHING = "every volume was submitted"
State = Literal["done", "due", "running", "waits", "to decide"]


@dataclass(frozen=True)
class Standing:
    """What the steps follow from.

    Attributes
    ----------
    served
        There are networks to serve.
    total, scored, failed
        Volumes, and how many have a score or a reason for none under those networks.
    listed
        The open round has its list.
    budget, reviewed
        Volumes to review in this round, and how many were; audits aside.
    left
        What of that waits for somebody.
    to_review
        Volumes of the collection that nobody has submitted.
    round
        The open one.
    submitted
        Anything was submitted in this round.
    unsettled
        Volumes whose assembled label is still to be written.
    stop
        Of the last round that has a list.
    running
        Kinds of work that go on: ``scoring``, ``training``.
    studies
        The studies folder, for the commands.
    """

    served: bool
    total: int
    scored: int
    failed: int
    listed: bool
    budget: int
    reviewed: int
    left: Left
    to_review: int
    round: int | None
    submitted: bool
    unsettled: int
    stop: StopRule | None = None
    audit: Audit | None = None
    running: frozenset[str] = frozenset()
    studies: str = "STUDIES"


def steps(now: Standing) -> list[Step]:
    """All eight, in order."""
    found = [made(now) for made in _STEPS]
    return [
        Step(number=number, name=name, state=state, detail=detail, command=command)
        for number, (name, (state, detail, command)) in enumerate(
            zip(NAMES, found, strict=True), start=1
        )
    ]


Found = tuple[State, str, str]


def _first(now: Standing) -> Found:
    if now.served:
        return "done", "networks are there", ""
    return "due", "there are no networks to serve", "atlas8k weights import, or atlas8k train"


def _complete(now: Standing) -> bool:
    return now.scored + now.failed >= now.total


def _all_submitted(now: Standing) -> bool:
    return now.total > 0 and not now.to_review


def _predict(now: Standing) -> Found:
    if not now.served:
        return "waits", "for step 1", ""
    text = f"{now.scored} of {now.total}"
    if now.failed:
        text += f", {now.failed} cannot be predicted"
    if _complete(now) and now.total:
        return "done", text, ""
    if "scoring" in now.running:
        return "running", text, ""
    if not now.total:
        return "due", "there is no volume in the folder", ""
    return "due", text, f"atlas8k score {now.studies}"


def _attention(now: Standing) -> Found:
    state, detail, command = _predict(now)
    return state, f"{detail}, with step 2", command


def _list(now: Standing) -> Found:
    if now.listed:
        return "done", f"{now.total} volumes", ""
    if not (now.served and now.total and _complete(now)):
        return "waits", "for step 3", ""
    if _all_submitted(now):
        return "done", EVERYTHING, ""
    return "due", "drawn with the next sample", f"atlas8k campaign next --studies {now.studies}"


def _revise(now: Standing) -> Found:
    text = f"{now.reviewed} of {now.budget} volumes"
    if now.audit is not None and now.audit.drawn:
        done = now.audit.drawn - now.audit.open
        text += f", and {done} of {now.audit.drawn} audits"
    if _all_submitted(now):
        return "done", f"{text}: {EVERYTHING}" if now.submitted else EVERYTHING, ""
    if now.budget and not now.left:
        return "done", text, ""
    if not now.listed and not now.submitted:
        return "waits", "for step 4", ""
    # Audits are given out by attention alone.
    by = "" if now.left.volumes else ", strategy attention,"
    return "due", text, f"Next Sample{by} in 3D Slicer or OHIF"


def _reassemble(now: Standing) -> Found:
    if now.unsettled:
        return "due", f"{now.unsettled} labels; done with the next sample or training", ""
    if not now.submitted:
        return "waits", "for step 5", ""
    return "done", "with every submission", ""


def _learn(now: Standing) -> Found:
    command = f"atlas8k campaign next --studies {now.studies}"
    if "training" in now.running:
        return "running", "", ""
    if not now.submitted and _all_submitted(now):
        return "done", f"{EVERYTHING} before this round", ""
    if not now.submitted:
        return "waits", "for step 5: nothing was submitted in this round", ""
    if now.left:
        return "waits", f"for step 5: {now.left} left", f"{command} --early"
    return "due", "then the round is closed and the next begins", command


def _repeat(now: Standing) -> Found:
    if _all_submitted(now):
        return "to decide", f"{EVERYTHING}: the campaign can end", ""
    stop = now.stop
    if stop is None:
        return "waits", "for step 5", ""
    text = stop.text if stop.round == now.round else f"round {stop.round}: {stop.text}"
    return "to decide" if stop.reached else "waits", text, ""


_STEPS: tuple[Callable[[Standing], Found], ...] = (
    _first,
    _predict,
    _attention,
    _list,
    _revise,
    _reassemble,
    _learn,
    _repeat,
)
