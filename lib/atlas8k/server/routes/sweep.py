"""The sweep: the outlines of every label, looked at one after the other by keyboard."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from atlas8k.campaign.sweeps import sweep as sweep_report
from atlas8k.reports.outlines import draw_outlines
from atlas8k.server.access import ANNOTATORS_OR_REVIEWERS, Who
from atlas8k.server.blind import check_shown, hidden_images, others_images
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.page_templates import named, render
from atlas8k.server.pictures import key_of, picture
from atlas8k.server.routes.campaign_page import common
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.studies.names import check_id
from atlas8k.services.sweep import MOST, shown_label
from atlas8k.services.thumbnails import spot_of
from atlas8k.store import SweepOrder, Verdict

router = APIRouter(
    prefix="/atlas8k/sweep",
    tags=["Sweep"],
    dependencies=[ANNOTATORS_OR_REVIEWERS],
    route_class=GuardedRoute,
)
HERE = "/atlas8k/sweep"
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Next(Who):
    """How many, in which order; ``seen``: also what somebody has submitted."""

    order: SweepOrder = "worst"
    seen: bool = False
    count: int = Field(12, ge=1, le=MOST)
    without: list[str] = Field(default_factory=list, max_length=MOST)


class Look(Who):
    """What was seen: the label by its hash, and whether it looks fine."""

    image: str = Field(max_length=1000)
    label: Sha256
    verdict: Verdict


class Undo(Who):
    """Number of the look."""

    look: int = Field(ge=1, le=2**62)


@router.get("", include_in_schema=False)
def page() -> Response:
    """The contact sheet, and what it says of the errors left."""
    context = workspace()
    context.sync()
    context.ledger.ensure_sweep_seed()
    return render(
        "sweep.html.j2",
        script=True,
        **common(HERE),
        report=sweep_report(context.ledger),
        seed=context.ledger.sweep_seed(),
        ranked=context.ranked_by() is not None,
    )


@router.post("/next", summary="Labels to look at next")
def following(asked: Next) -> dict[str, Any]:
    """They are this person's for some minutes; ``waiting``: how many wait in all."""
    context = workspace()
    context.sync()
    given, waiting = context.sweep.next(
        asked.holder,
        asked.order,
        context.ranked_by(),
        count=asked.count,
        seen=asked.seen,
        without={*asked.without, *hidden_images(asked.client_id), *others_images()},
    )
    return {
        "next": [
            {
                "image": one.volume,
                "name": named(one.volume),
                "label": one.sha256,
                "figure": one.figure,
                "findings": one.findings,
            }
            for one in given
        ],
        "waiting": waiting,
    }


@router.get("/outlines", summary="Outlines of a label on three planes of its CT")
def outlines(
    request: Request, image: str, label: Annotated[str, Query(pattern="^[0-9a-f]{64}$")]
) -> Response:
    """The planes that show most of all organs, or the first place to look at; JPEG."""
    context = workspace()
    check_shown(check_id(image))
    version, ct = shown_label(context, image, label), context.studies.image_path(image)
    model_version = context.ranked_by()
    noted = (context.ledger.explanation(image, model_version) if model_version else None) or {}
    spot, stat = spot_of(noted), ct.stat()
    parts = ("outlines", image, stat.st_size, stat.st_mtime_ns, label, spot)
    key = key_of(*parts)
    looked("outlines", image, version=version.sha256)
    return picture(
        request,
        key,
        lambda: context.thumbnails.drawn(key, lambda: draw_outlines(ct, version.path, spot)),
    )


@router.post("/look", summary="Record that a label looks fine, or flag it")
def look(asked: Look) -> dict[str, Any]:
    """It confirms nothing. A flag makes a case; 409 where the label was replaced meanwhile."""
    context = workspace()
    context.know(asked.image)
    check_shown(asked.image, asked.client_id)
    number = context.sweep.look(asked.image, asked.label, asked.verdict, asked.holder)
    return {"image": asked.image, "look": number}


@router.post("/undo", summary="Take a look of one's own back")
def undo(asked: Undo) -> dict[str, Any]:
    """With the case that its flag has made."""
    return {"image": workspace().sweep.undo(asked.look, asked.holder), "look": asked.look}
