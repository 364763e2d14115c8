"""The page of one case: its CT with layers, what is said of each organ, places to look at.

The browser shows the CT by NiiVue and asks the routes that programs ask; where it cannot, it shows
slices drawn here.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from monailabel.interfaces.utils.app import app_instance

from atlas8k.attention.explain import PLANES
from atlas8k.core.errors import VolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGANS
from atlas8k.core.volume import read_grid
from atlas8k.labels.plausibility import FACTOR, PEOPLE_ML
from atlas8k.reports.thumbnail import WINDOWS, draw_planes
from atlas8k.server.access import USERS, holder, may_review
from atlas8k.server.blind import check_shown, from_scratch, hides_first
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.page_templates import render
from atlas8k.server.pictures import key_of, picture
from atlas8k.server.routes.campaign_page import STATES, common
from atlas8k.server.routes.cases import WORKER, about, cases_of
from atlas8k.server.routes.review_page import who
from atlas8k.server.workspace import looked, workspace
from atlas8k.services import viewer
from atlas8k.services.cases import Case, Cases
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.labels.drafts import PSEUDO, PUBLIC
from atlas8k.services.studies.catalogue import FINAL
from atlas8k.services.studies.folder import ORIGINAL

router = APIRouter(prefix="/atlas8k", include_in_schema=False, route_class=GuardedRoute)

ATTENTION = "attention"
KINDS = {
    "cavity": "cavity left out",
    "enlarged": "enlarged part left out",
    "leakage": "leaks into something else",
    "sides": "left and right swapped",
    "protocol": "drawn by another protocol",
    "other": "other",
}
"""Errors of predicted labels: what Figure 5 of the paper shows, and others."""
DIFFICULTIES = ("easy", "usual", "hard")
SCRIPTS = ("case.js", "draw.js")
Index = Annotated[int, Query(ge=0, le=100_000)]


@router.get("/case", dependencies=WORKER)
def page(image: str) -> Response:
    """One case; in the hands of who asks it can be drawn in and submitted."""
    context, cases = workspace(), cases_of()
    case = cases.look(image)
    if not case.lease:
        check_shown(image)
    held = next((one for one in context.ledger.leases() if one.volume == image), None)
    current = context.ledger.current_submission(image)
    grid, trouble = None, ""
    try:
        grid = read_grid(context.studies.image_path(image)).served
    except VolumeError as error:
        trouble = error.reason
    looked("image", image)
    return render(
        "case.html.j2",
        viewer=True,
        **common(""),
        case=case,
        state=context.ledger.status(image),
        states=STATES,
        other=None if case.lease else held,
        offered=any(one.volume == image for one in context.ledger.offers()),
        mine=current is not None and cases.is_own(current),
        who=who(),
        trouble=trouble,
        organs=ORGANS,
        lines={one.name: one for one in case.organs},
        people=PEOPLE_ML,
        kinds=KINDS,
        difficulties=DIFFICULTIES,
        windows=WINDOWS,
        layers=layers(cases, case),
        planes=[PLANES.get(letter, "axial") for letter in grid.orientation] if grid else [],
        facts=_facts(cases, case, grid) if grid else None,
    )


def _facts(cases: Cases, case: Case, grid: Grid) -> dict[str, Any]:
    """Return what the page's script goes by; ready for JSON."""
    places = [
        {"organ": one["organ"], "centre": one["centre"], "mm": one["place"]["ras_mm"]}
        for one in case.regions
        if one.get("place")
    ]
    return {
        "image": case.image,
        "lease": case.lease,
        "ends": case.seconds_left,
        "fingerprint": workspace().studies.fingerprint(case.image),
        "shape": grid.shape,
        "at": [round(n) for n in places[0]["centre"]] if places else [n // 2 for n in grid.shape],
        "voxel_ml": grid.voxel_ml,
        "start": _start(case),
        "label": bool(case.organs),
        "there": [one.name for one in case.organs if one.ml],
        "drawing": about(cases.drawings.find(case.image)),
        "me": hashlib.sha256(holder().key.encode()).hexdigest()[:12],
        "places": places,
        "windows": WINDOWS,
        "organs": [
            {"id": one.id, "name": one.name, "color": one.color, "asked": _asked(one.name)}
            for one in ORGANS
        ],
    }


def _asked(organ: str) -> tuple[float, float]:
    """Return the volumes outside of which it is asked whether an organ's is right, ml."""
    low, high = PEOPLE_ML[organ]
    return low / FACTOR, high * FACTOR


def _start(case: Case) -> str:
    """Return the address of the label that a case begins with."""
    if case.lease:
        return "/atlas8k/cases/start?" + urlencode({"image": case.image, "lease": case.lease})
    return _label(case.image, ORIGINAL)


def _label(image: str, tag: str) -> str:
    return "/datastore/label?" + urlencode({"label": image, "tag": tag})


def layers(cases: Cases, case: Case) -> list[dict[str, Any]]:
    """Return what may be laid over a CT: ``text``, and ``url`` with ``method`` to get it by.

    Of submissions, one's own; a reviewer sees all, a second reader none.
    """
    image, service = case.image, cases.context.label_service
    if from_scratch(image):
        return []
    found = [(f"network-{one}", f"network {one}", "POST", _network(image, one)) for one in _names()]
    found.append((ATTENTION, "places to look at", "POST", _network(image, ATTENTION)))
    shown = [(PUBLIC, "public label"), (PSEUDO, "prediction of the networks")]
    if not hides_first(image):
        shown.append((FINAL, "current label, as submitted"))
        for one in reversed(service.reviews.history(image)):
            own = cases.is_own(one.submission)
            if one.file is not None and (own or may_review()):
                number = one.submission.id
                where = f"/atlas8k/labels/{quote(image, safe='')}/history/{number}"
                found.append((f"submission-{number}", f"submission {number}", "GET", where))
    for tag, text in shown:
        if service.versions.current(image, tag) is not None:
            found.append((tag, text, "GET", _label(image, tag)))
    found.append(("start", "label as it was given out", "GET", _start(case)))
    found = found if case.organs else found[:-1]
    return [{"key": k, "text": t, "method": m, "url": u} for k, t, m, u in reversed(found)]


def _names() -> list[str]:
    others = ("ensemble", ATTENTION, "draft")
    return [one for one in app_instance()._infers if one not in others]


def _network(image: str, name: str) -> str:
    return f"/infer/{name}?" + urlencode({"image": image, "output": "image"})


@router.get("/case/slices", dependencies=WORKER)
def slices(
    request: Request,
    image: str,
    x: Index,
    y: Index,
    z: Index,
    window: str = "abdomen",
    label: bool = True,
) -> Response:
    """Three planes through a voxel of the CT's file, with the label that the case begins with."""
    if window not in WINDOWS:
        raise RequestError(f"window: {window[:40]!r}; there are {', '.join(WINDOWS)}")
    context, cases = workspace(), cases_of()
    case = cases.look(image)
    if not case.lease:
        check_shown(image)
    version = cases.begins_with(image) if label else None
    ct = context.studies.image_path(image)
    parts = (image, ct.stat().st_mtime_ns, version and version.sha256, x, y, z, window)
    key = key_of(*parts)
    looked("image", image)
    path = version.path if version is not None else None
    try:
        return picture(
            request,
            key,
            lambda: context.thumbnails.drawn(
                key, lambda: draw_planes(ct, path, (x, y, z), WINDOWS[window])
            ),
        )
    except IndexError as err:
        raise RequestError(f"{x}, {y}, {z}: the CT has no such voxel") from err


@router.get("/viewer/{name}", dependencies=[USERS])
def script(name: str) -> Response:
    """Return a script of the page of a case, or NiiVue, as npm has brought it."""
    path = viewer.NIIVUE if name == "niivue.js" else _script(name)
    if path is None or not path.is_file():
        raise NotFoundError("script", f"{name}; NiiVue comes with `atlas8k viewer install`")
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, media_type="text/javascript", headers=headers)


def _script(name: str) -> Path | None:
    if name not in SCRIPTS:
        return None
    return Path(str(files("atlas8k.server") / "static" / name))
