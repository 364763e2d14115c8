"""Pages of whoever runs a campaign: how it stands, and the list of its volumes.

Their buttons ask the routes that programs ask, which say who may. The pages are read by every
user; what they show of people is numbered unless the server shows names.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from markupsafe import Markup
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance

from atlas8k import __version__
from atlas8k.core.error_kinds import ERROR_KINDS
from atlas8k.core.rankings import RANKINGS
from atlas8k.server import background, charts
from atlas8k.server.access import (
    ADMIN,
    ANNOTATOR,
    REVIEWER,
    USERS,
    get_caller,
    holder,
    may_review,
)
from atlas8k.server.blind import (
    from_scratch,
    hidden_images,
    others_images,
    seen_ledger,
    shown_label,
)
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.page_templates import ENVIRONMENT, render
from atlas8k.server.pictures import picture
from atlas8k.server.routes.cases_page import colors
from atlas8k.server.routes.status import KINDS
from atlas8k.server.workspace import looked, workspace
from atlas8k.services import duplicates
from atlas8k.services.errors import NotFoundError
from atlas8k.services.labels.drafts import PSEUDO
from atlas8k.services.overview import View, name_of, work_now
from atlas8k.services.privacy import hides
from atlas8k.services.scoring import duration
from atlas8k.services.studies.folder import ORIGINAL
from atlas8k.services.thumbnails import wanted
from atlas8k.store import alike, phases
from atlas8k.store.overview import Listed, Order, Show

router = APIRouter(prefix="/atlas8k", route_class=GuardedRoute)

HERE, LIST = "/atlas8k/", "/atlas8k/list"
LINES = 50
BINS = 240
SHOWN_QUESTIONS = 20
SHOWS: dict[Show, str] = {
    "all": "all",
    "open": "open",
    "leased": "in somebody's hands",
    "submitted": "submitted",
    "conflict": "in conflict",
    "review": "with a question for a reviewer",
    "failed": "cannot be scored",
    "excluded": "left out",
    "alike": "near-duplicates",
}
ORDERS: dict[Order, str] = {
    "priority": "priority",
    "name": "name",
    "source": "source",
    "state": "state",
    "changed": "last submitted",
}
STATES = {
    "open": "open",
    "leased": "in hand",
    "submitted": "submitted",
    "conflict": "conflict",
    "failed": "cannot be scored",
    "excluded": "left out",
}
MAIN_COMMANDS = ("atlas8k campaign next", "atlas8k campaign status")


def running() -> list[str]:
    """Return the kinds of work that go on now."""
    return [name for kind, name in KINDS.items() if background.runs(kind)]


def may(*roles: str) -> bool:
    """Return whether who asks has one of these roles; everybody has where sign-in is off.

    It only decides which buttons are shown: the routes behind them ask for themselves.
    """
    return not settings.MONAI_LABEL_AUTH_ENABLE or not get_caller().roles.isdisjoint(roles)


def common(here: str) -> dict[str, Any]:
    """Return what both pages show: where one is, who one is, what one may do."""
    context = workspace()
    return {
        "here": here,
        "version": __version__,
        "archive": context.archive is not None,
        "user": get_caller().user,
        "networks": (networks := app_instance().settings.networks),
        "may_score": may(ANNOTATOR) and networks,
        "may_train": may(ADMIN),
        "may_exclude": may(ANNOTATOR, REVIEWER),
        "may_add": may(ANNOTATOR) and context.archive is None,
        "may_see_log": may(ADMIN),
        "may_export": may(ANNOTATOR) and app_instance().settings.all_routes,
        "reviews": may_review(),
        "returned": sum(
            one.holder == me and bool(one.note)
            for me in [holder().key]
            for one in context.ledger.offers()
        ),
        "colors": colors(),
    }


@router.get("/", include_in_schema=False, dependencies=[USERS])
def page() -> Response:
    """What is to do now, how the round stands, and what was done."""
    context = workspace()
    context.sync()
    context.note_training()
    now, names = running(), not hides()
    ledger, model_version = seen_ledger(), context.ranked_by()
    view = context.overview.view(model_version, names=names, running=now, seen=ledger)
    hidden = {*hidden_images(), *others_images()}
    questions = [one for one in ledger.reviews() if one.volume not in hidden]
    return render(
        "campaign.html.j2",
        script=True,
        **common(HERE),
        view=view,
        status=view.status,
        counts=ledger.states(),
        error_kinds=[(ERROR_KINDS.get(kind, kind), n) for kind, n in ledger.kinds_of_error()],
        duplicates=duplicates.summary(context.studies),
        work={**work_now(context, now), "export": context.exports.state()},
        exports=context.exports.finished() if context.archive is None else None,
        ranking=RANKINGS[ledger.ranked_by()],
        chart=_distribution(model_version, view),
        curves=_curves(view),
        questions=questions[:SHOWN_QUESTIONS] if may_review() else [],
        kinds={kind: sum(one.kind == kind for one in questions) for kind in QUESTIONS},
        asked=QUESTIONS,
        offers=[one for one in ledger.offers() if one.volume not in hidden],
        failures=_some(ledger.failures(model_version) if model_version else {}),
        commands=MAIN_COMMANDS,
        gold=context.gold.table(names=names) if context.gold and may_review() else None,
    )


QUESTIONS = {
    "conflict": "two people submitted one volume",
    "dispute": "a submission changes a public label",
    "double_read": "two readings to compare",
    "sample": "drawn for a look",
}


def _some(found: dict[str, str], most: int = 10) -> list[tuple[str, str]]:
    return list(found.items())[:most]


def _distribution(model_version: str | None, view: View) -> Markup | None:
    """Return the chart of the list; None where nothing is scored."""
    ledger, number = seen_ledger(), view.status.round
    if model_version is None:
        return None
    bins = ledger.distribution(model_version, number, BINS)
    if not bins:
        return None
    plan = view.status.rounds[-1] if number is not None else None
    ranking = RANKINGS[ledger.ranked_by()]
    return charts.distribution(
        bins, plan.budget if plan else 0, f"{ranking.figure}{ranking.in_unit}"
    )


def _curves(view: View) -> list[Markup]:
    """Return DSC and mean figure over the rounds, where two rounds or more have them."""
    found, rounds = [], view.status.rounds
    last = [one.trainings[-1] if one.trainings else None for one in rounds]
    before = [one.dsc_before if one else None for one in last]
    after = [one.dsc_after if one else None for one in last]
    numbers = [one.number for one in rounds]
    if sum(value is not None for value in after) > 1:
        lines = [charts.Curve("before", "before", before), charts.Curve("after", "after", after)]
        found.append(
            charts.rounds(numbers, lines, "DSC where the gate compared", from_nothing=False)
        )
    means = [view.means.get(one.model_version or "") for one in rounds]
    if sum(value is not None for value in means) > 1:
        ranking = RANKINGS[workspace().ledger.ranked_by()]
        line = charts.Curve("all volumes", "after", means)
        found.append(charts.rounds(numbers, [line], f"mean {ranking.figure}{ranking.in_unit}"))
    return found


@router.get("/list", include_in_schema=False, dependencies=[USERS])
def volumes(
    q: Annotated[str, Query(max_length=200)] = "",
    show: Show = "all",
    source: Annotated[str | None, Query(max_length=200)] = None,
    phase: Annotated[str | None, Query(max_length=20)] = None,
    order: Order = "priority",
    page: Annotated[int, Query(ge=1, le=10**7)] = 1,
) -> Response:
    """A part of the volumes, filtered and ordered by the store."""
    context = workspace()
    context.sync()
    ledger, names = seen_ledger(), not hides()
    # "*": whatever the source; a form cannot leave a field out.
    wanted_source = None if source in (None, "*") else source
    model_version = context.ranked_by()
    with ledger.read() as tx:
        known = phases.of_volumes(tx)
    by_phase: dict[str, list[str]] = {}
    for name in context.studies.now().ids():
        by_phase.setdefault(known[name].phase if name in known else "", []).append(name)
    found = ledger.listed(
        model_version,
        among=None if phase in (None, "*") else by_phase.get(phase, []),
        text=q,
        show=show,
        source=wanted_source,
        order=order,
        offset=(page - 1) * LINES,
        limit=LINES,
    )
    hidden = set(hidden_images())
    found = found._replace(
        lines=tuple(_unread(one) if one.volume in hidden else one for one in found.lines)
    )
    with ledger.read() as tx:
        pairs = alike.of_volumes(tx, [one.volume for one in found.lines])
    numbers, me = ledger.annotators(), holder().key
    asked = {"q": q, "show": show, "source": source or "*", "order": order}
    asked["phase"] = "*" if phase is None else phase
    return render(
        "list.html.j2",
        script=True,
        **common(LIST),
        found=found,
        hidden=hidden,
        alike=pairs,
        asked=asked,
        page_number=page,
        pages=max(1, -(-found.total // LINES)),
        first=(page - 1) * LINES + 1,
        link=_link(asked),
        shows=SHOWS,
        orders=ORDERS,
        states=STATES,
        counts=ledger.states(),
        sources=ledger.sources_there(),
        phases=known,
        phase_counts={one: len(by_phase[one]) for one in (*phases.PHASES, "") if one in by_phase},
        ranking=RANKINGS[ledger.ranked_by()],
        calibration=context.calibrations.of(model_version),
        who=lambda key: "you" if key == me else name_of(key, numbers, names=names),
    )


def _unread(line: Listed) -> Listed:
    """Return a line without what follows from a first reading: which organs it left, and when."""
    return line._replace(
        place=None, figure=None, attention_ml=None, organs=(), submitted_at=None, questions=0
    )


def _link(asked: dict[str, str]) -> Callable[..., str]:
    """Return what makes an address of the list: as it is asked for, with some of it changed."""
    usual = {"q": "", "show": "all", "source": "*", "phase": "*", "order": "priority"}
    usual["page"] = "1"

    def link(**changed: object) -> str:
        every = {**asked, **{key: str(value) for key, value in changed.items()}}
        return f"{LIST}?" + urlencode({k: v for k, v in every.items() if v != usual.get(k)})

    return link


@router.get(
    "/thumbnail", tags=["Datastore"], summary="A small picture of a CT", dependencies=[USERS]
)
def thumbnail(request: Request, image: str) -> Response:
    """The slice to look at first, with the draft label's organs and a box; JPEG.

    404 where the CT is still in the archive. Drawn when it is asked for.
    """
    context = workspace()
    versions = context.label_service.versions
    try:
        label = shown_label(image, ORIGINAL) or versions.current(image, ORIGINAL)
    except NotFoundError:  # it is read by two people
        label = None
    scratch = from_scratch(image)
    label = label or (None if scratch else versions.current(image, PSEUDO))
    what = wanted(context, image, label, place=not scratch)
    looked("thumbnail", image)
    return picture(request, what.key, lambda: context.thumbnails.get(what))


@router.get(
    "/work", tags=["Campaign"], summary="Scoring and training, with time left", dependencies=[USERS]
)
def work() -> dict[str, Any]:
    """``running``, ``text``, ``part`` (0 to 1) and ``seconds_left`` of each."""
    context = workspace()
    return {**work_now(context, running()), "export": context.exports.state()}


def iso(seconds: float) -> Markup:
    """Return a time as HTML that a script shows in the viewer's zone; UTC without one."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return Markup(
        f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M} UTC</time>'
    )


def hours(value: float | None) -> str:
    """Return hours for people: none, with a digit below ten, with a comma at thousands."""
    if value is None:
        return "–"
    return f"{value:.1f}" if abs(value) < 10 else f"{value:,.0f}"


ENVIRONMENT.filters |= {
    "iso": iso,
    "hours": hours,
    "duration": duration,
    "short": charts.short,
}
