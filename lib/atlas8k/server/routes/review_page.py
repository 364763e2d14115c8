"""Pages of a reviewer: what there is to decide, and two labels of a case side by side.

Their buttons call the routes of :mod:`atlas8k.server.routes.review`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from atlas8k.core.error_kinds import ERROR_KINDS
from atlas8k.core.errors import VolumeError
from atlas8k.core.structures import find_organ
from atlas8k.reports.thumbnail import Spot, draw_compared
from atlas8k.server.access import REVIEWERS, holder
from atlas8k.server.blind import check_shown, hidden_images
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.page_templates import render
from atlas8k.server.pictures import key_of, picture
from atlas8k.server.routes.campaign_page import QUESTIONS, common
from atlas8k.server.routes.review import labels_of
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.labels.comparison import (
    ComparedOrgan,
    Label,
    compare,
    labels,
    named,
    proposed,
)
from atlas8k.services.overview import name_of
from atlas8k.services.privacy import hides

router = APIRouter(
    prefix="/atlas8k/reviews",
    include_in_schema=False,
    dependencies=[REVIEWERS],
    route_class=GuardedRoute,
)
HERE = "/atlas8k/reviews"
Key = Annotated[str, Query(max_length=40)]


@router.get("")
def page() -> Response:
    """Questions by volume, the oldest first, and what waits for somebody else."""
    context, hidden = workspace(), set(hidden_images())
    by_volume: dict[str, list[Any]] = {}
    for one in context.ledger.reviews():
        if one.volume not in hidden:
            by_volume.setdefault(one.volume, []).append(one)
    return render(
        "reviews.html.j2",
        script=True,
        **common(HERE),
        questions=by_volume,
        asked=QUESTIONS,
        offers=[one for one in context.ledger.offers() if one.volume not in hidden],
        hidden=len(hidden),
        who=who(),
    )


@router.get("/case")
def case(image: str, first: Key = "", second: Key = "", organ: Key = "") -> Response:
    """Two labels of a case and their difference, organ by organ, with what can be decided."""
    check_shown(image)
    service, ledger = labels_of(image), workspace().ledger
    there = labels(service, image)
    questions = ledger.reviews(image, closed=True)
    usual = proposed(there, questions)
    pair = [named(there, key) for key in (first or usual[0], second or usual[1])] if there else []
    organs, trouble = _compared(pair)
    chosen = next((one for one in organs if one.organ == organ), None) or _most(organs)
    for one in pair:
        looked("label", image, version=one.sha256)
    return render(
        "review.html.j2",
        script=True,
        **common(""),
        image=image,
        state=ledger.status(image),
        questions=[one for one in questions if one.closed_at is None],
        decided=[one for one in questions if one.closed_at is not None],
        asked=QUESTIONS,
        labels=there,
        pair=pair,
        organs=organs,
        chosen=chosen,
        last=max((one.id for one in ledger.submissions(image)), default=0),
        by_organ=sum(one.differs_ml > 0 for one in organs) if ledger.submitted(image) else 0,
        given_again=next(
            (o for o in ledger.offers() if o.volume == image and o.purpose == "returned"), None
        ),
        trouble=trouble,
        submissions=[one for one in service.reviews.history(image) if one.file is not None],
        notes=ledger.notes(image),
        error_kinds=ERROR_KINDS,
        sources=ledger.sources(image),
        who=who(),
    )


def who() -> Any:
    """Return what names a holder on a page."""
    numbers, me, names = workspace().ledger.annotators(), holder().key, not hides()
    return lambda key: "you" if key == me else name_of(key, numbers, names=names)


def _compared(pair: list[Label]) -> tuple[tuple[ComparedOrgan, ...], str]:
    """Return the organs of two labels, and in words why there are none."""
    if not pair:
        return (), "It has no label that could be shown."
    try:
        return _compare(pair[0].path, pair[0].sha256, pair[1].path, pair[1].sha256), ""
    except VolumeError as err:
        return (), f"The two cannot be compared: {err.reason}."


@lru_cache(maxsize=64)
def _compare(
    first: Path, first_sha256: str, second: Path, second_sha256: str
) -> tuple[ComparedOrgan, ...]:
    """Compare two label files; once, as a file of that hash stays what it is."""
    return compare(first, second)


def _most(organs: tuple[ComparedOrgan, ...]) -> ComparedOrgan | None:
    """Return the organ that differs most for its size; None where there is none."""
    return min(organs, key=lambda one: one.dsc, default=None)


@router.get("/slice")
def plane(
    request: Request,
    image: str,
    first: Key,
    second: Key,
    axis: Annotated[int, Query(ge=0, le=2)],
    index: Annotated[int, Query(ge=0, le=100_000)],
    organ: Key = "",
) -> Response:
    """One plane three times: the first label, the second, what differs; JPEG."""
    check_shown(image)
    context, service = workspace(), labels_of(image)
    there = labels(service, image)
    one, two = named(there, first), named(there, second)
    shown = find_organ(organ) if organ else None
    if organ and shown is None:
        raise NotFoundError("organ", organ)
    ct = context.studies.image_path(image)
    parts = (image, ct.stat().st_mtime_ns, one.sha256, two.sha256, axis, index, organ)
    key = key_of(*parts)
    looked("image", image)
    try:
        return picture(
            request,
            key,
            lambda: context.thumbnails.drawn(
                key, lambda: draw_compared(ct, one.path, two.path, shown, Spot(axis, index))
            ),
        )
    except IndexError as err:
        raise RequestError(f"index {index}: the CT has no such plane") from err
