"""Routes of history and reviews, below ``/atlas8k``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse
from pydantic import Field

from atlas8k.core.structures import find_organ
from atlas8k.server.access import LABELERS, REVIEWERS, Who, may_review
from atlas8k.server.blind import check_shown, gold_seen, hidden_images, hides_first, masked
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.routes.cases import cases_of
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.labels.by_organ import Shown, Side, decide_by_organ
from atlas8k.services.labels.reviews import Revision
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Submission

labels = APIRouter(
    prefix="/atlas8k/labels/{image}",
    tags=["Labels"],
    dependencies=[LABELERS],
    route_class=GuardedRoute,
)
reviews = APIRouter(
    prefix="/atlas8k/review",
    tags=["Labels"],
    dependencies=[REVIEWERS],
    route_class=GuardedRoute,
)
NOT_OWN = HTTPException(403, "somebody else's submission; a reviewer may do that")
NUMBER = Field(ge=1, le=2**62, description="number of a submission")


class Restore(Who):
    """Which submission is to be current again."""

    submission: int = NUMBER


class Reopen(Who):
    """``mine``: for who asks alone; else for anybody."""

    mine: bool = False
    note: str = Field("", max_length=2000)


class Return(Who):
    """Why, and whether anybody may take the case or its annotator alone."""

    note: str = Field(min_length=1, max_length=2000)
    to: Literal["annotator", "anybody"] = "annotator"


class Decide(Who):
    """Either a submission, or an organ and where it is to come from."""

    submission: int | None = Field(None, ge=1, le=2**62)
    organ: str | None = Field(None, max_length=80)
    source: Literal["public", "revised"] | None = None


class DecideByOrgan(Who):
    """Two labels of the case by their keys, and by organ which of the two counts."""

    first: str = Field(max_length=40)
    second: str = Field(max_length=40)
    counts: dict[str, Side] = Field(max_length=254)
    shown: Shown | None = Field(None, description="what was looked at; by default what is there")


def labels_of(image: str) -> LabelService:
    """Return the labels of this server, in which there is such an image.

    Raises
    ------
    NotFoundError
        There is not.
    """
    context = workspace()
    context.know(image)
    return context.label_service


def check_own(asked: Who, one: Submission | None, label_service: LabelService) -> None:
    """Raise 403 where a submission is somebody else's and who asks is no reviewer."""
    if may_review():
        return
    if one is not None and one.restored is not None:
        one = label_service.ledger.submission(one.restored)
    if one is None or one.holder != asked.holder.key:
        raise NOT_OWN


def check_known(image: str, number: int) -> None:
    """Raise :class:`NotFoundError` for another's submission of a gold case."""
    gold = gold_seen().get(image)
    if gold is None:
        return
    known = workspace().label_service.reviews.history(image, gold)
    if all(one.submission.id != number for one in known):
        raise NotFoundError(f"submission of {image}", number)


def line(one: Revision) -> dict[str, Any]:
    """Return a revision for JSON."""
    record = asdict(one.submission)
    record.pop("content")
    organs = {organ: change._asdict() for organ, change in one.organs.items()}
    return {**record, "organs": organs, "in_force": one.is_current, "there": one.file is not None}


@labels.get("/history", summary="Every submission of a case")
def history(image: str) -> dict[str, Any]:
    """Who submitted what and when, what changed in each organ, and which one is current."""
    label_service, gold = labels_of(image), gold_seen().get(image)
    if hides_first(image) and gold is None:
        return {"image": image, "history": [], "organs": {}}
    known = label_service.ledger.sources(image)
    if gold is not None and not gold.is_current:
        known = label_service.ledger.sources_with(image, gold.own)
    sources = {organ: one._asdict() for organ, one in known.items()}
    return {
        "image": image,
        "history": [line(r) for r in label_service.reviews.history(image, gold)],
        "organs": sources,
    }


@labels.get("/history/{number}", summary="The label of one submission")
def submitted(image: str, number: int) -> FileResponse:
    """The file as it was kept; annotators get their own."""
    label_service = labels_of(image)
    if not 1 <= number <= 2**62:
        raise NotFoundError(f"submission of {image}", number)
    check_known(image, number)
    if hides_first(image) and masked(image) is None:
        raise NotFoundError(f"submission of {image}", number)
    check_own(Who(), label_service.reviews.own(image, number), label_service)
    path = label_service.reviews.file_of(image, number)
    looked("label", image, submission=number)
    return FileResponse(path, media_type="application/gzip", filename=f"{image}.{number}.nii.gz")


@labels.post("/restore", summary="Make an earlier submission current")
def restore(image: str, asked: Restore) -> dict[str, Any]:
    """A new entry of the history; nothing is lost. Annotators restore their own."""
    label_service = labels_of(image)
    check_shown(image, asked.client_id)
    check_known(image, asked.submission)
    if masked(image) is not None:
        restored = cases_of(asked.client_id).restore(image, asked.submission)
        return {"image": image, "submission": restored.id, "restored": asked.submission}
    check_own(asked, label_service.reviews.own(image, asked.submission), label_service)
    check_own(asked, label_service.ledger.current_submission(image), label_service)
    restored = label_service.reviews.restore(image, asked.submission, asked.holder)
    return {"image": image, "submission": restored.id, "restored": asked.submission}


@labels.post("/reopen", summary="Open a submitted case again")
def reopen(image: str, asked: Reopen) -> dict[str, Any]:
    """It is given out next, with its last revision on it. Annotators open their own."""
    label_service, me = labels_of(image), asked.holder.key
    if (gold := masked(image)) is not None:
        if gold.own is None:
            raise NOT_OWN
        cases_of(asked.client_id).reopen(image)
        return {"image": image, "for": me if asked.mine else None}
    check_own(asked, label_service.ledger.current_submission(image), label_service)
    label_service.reviews.reopen(image, to=me if asked.mine else None, note=asked.note, reviewer=me)
    return {"image": image, "for": me if asked.mine else None}


@reviews.get("", summary="What a reviewer has to decide")
def to_decide() -> dict[str, Any]:
    """Open questions, oldest first, and second readings that wait for somebody."""
    queue, hidden = workspace().label_service.reviews.queue(), hidden_images()
    return {**queue, "open": [one for one in queue["open"] if one["volume"] not in hidden]}


@reviews.get("/{image}", summary="What there is to decide of one case")
def review(image: str) -> dict[str, Any]:
    """Questions with what was decided, submissions, organs, agreement of two readings."""
    check_shown(image)
    return labels_of(image).reviews.case(image)


@reviews.post("/{image}/accept", summary="What is current stays")
def accept(image: str, asked: Who) -> dict[str, Any]:
    """Closes every open question of the case but disputes; those that are left."""
    left = labels_of(image).reviews.accept(image, asked.holder.key)
    return {"image": image, "left": [asdict(one) for one in left]}


@reviews.post("/{image}/return", summary="Return a case with a note")
def give_back(image: str, asked: Return) -> dict[str, Any]:
    """It is given out again, the note with it; its open questions are closed."""
    anybody = asked.to == "anybody"
    to = labels_of(image).reviews.give_back(image, asked.holder.key, asked.note, to_anybody=anybody)
    return {"image": image, "to": to}


@reviews.post("/{image}/ask-again", summary="Undo the latest decision about a case")
def ask_again(image: str, asked: Who) -> dict[str, Any]:
    """Its questions are open again, the current label stays; 409 where the case went on since."""
    opened = labels_of(image).reviews.ask_again(image, asked.holder.key)
    return {"image": image, "open": [asdict(one) for one in opened]}


@reviews.post("/{image}/take-over", summary="Take a case over")
def take_over(image: str, asked: Who) -> dict[str, Any]:
    """Leases the case; what is submitted on it is current and answers the open questions."""
    lease = labels_of(image).reviews.take_over(image, asked.holder)
    return {"image": image, "lease": lease}


@reviews.post("/{image}/decide", summary="Decide a conflict or a dispute")
def decide(image: str, asked: Decide) -> dict[str, Any]:
    """The current submission of those in conflict; or ``public`` or ``revised`` for an organ."""
    label_service = labels_of(image)
    if asked.submission is not None and asked.organ is None and asked.source is None:
        label_service.reviews.decide_submission(image, asked.submission, asked.holder.key)
    elif asked.submission is None and asked.organ is not None and asked.source is not None:
        organ = find_organ(asked.organ)
        if organ is None:
            raise NotFoundError("organ", asked.organ)
        label_service.reviews.decide_organ(image, organ.name, asked.source, asked.holder.key)
    else:
        raise RequestError("give a submission, or an organ and a source (public or revised)")
    return {"image": image, "left": [asdict(one) for one in label_service.ledger.reviews(image)]}


@reviews.post("/{image}/decide-by-organ", summary="Take each organ from one of two labels")
def by_organ(image: str, asked: DecideByOrgan) -> dict[str, Any]:
    """What comes of it is a submission of who asks, and answers the open questions."""
    check_shown(image)
    counts: dict[str, Side] = {}
    for name, side in asked.counts.items():
        organ = find_organ(name)
        if organ is None:
            raise NotFoundError("organ", name)
        counts[organ.name] = side
    pair = asked.first, asked.second
    service = labels_of(image)
    found = decide_by_organ(service, image, pair, counts, asked.holder, asked.shown)
    return {
        "image": image,
        "submission": found.receipt.submission.id,
        "in_force": found.receipt.is_current,
        "recorded": found.receipt.recorded,
        "lost_ml": found.lost_ml,
    }
