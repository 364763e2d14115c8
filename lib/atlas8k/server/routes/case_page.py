"""The page of one case: its CT with layers, what is said of each organ, places to look at.

The browser shows the CT by NiiVue and asks the routes that programs ask; where it cannot, it shows
slices drawn here.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

from atlas8k.attention.explain import PLANES
from atlas8k.core.error_kinds import ERROR_KINDS
from atlas8k.core.errors import VolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGANS
from atlas8k.labels.plausibility import PEOPLE_ML, plausible_ml
from atlas8k.reports.thumbnail import WINDOWS, draw_planes
from atlas8k.server.access import USERS, holder
from atlas8k.server.blind import check_shown, gold_seen, masked
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.layers import DRAWING, START, Layer, ct, in_part, layers, part_text, start
from atlas8k.server.page_templates import render
from atlas8k.server.pictures import key_of, picture
from atlas8k.server.routes.campaign_page import STATES, common
from atlas8k.server.routes.cases import WORKER, about, cases_of
from atlas8k.server.routes.review_page import who
from atlas8k.server.workspace import looked, workspace
from atlas8k.services import viewer
from atlas8k.services.case_facts import Case
from atlas8k.services.case_parts import View, around
from atlas8k.services.cases import Cases
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.store import phases

router = APIRouter(prefix="/atlas8k", include_in_schema=False, route_class=GuardedRoute)

DIFFICULTIES = ("easy", "usual", "hard")
SCRIPTS = ("case.js", "draw.js", "strokes.js")
Near = Annotated[str, Query(max_length=80)]
Index = Annotated[int, Query(ge=0, le=100_000)]


def millimetres(near: str) -> list[float]:
    """Return a place of a request, ``x,y,z``, RAS+ mm.

    Raises
    ------
    RequestError
        These are not three numbers.
    """
    try:
        found = [float(text) for text in near.split(",")]
    except ValueError:
        found = []
    if len(found) != 3 or not all(abs(mm) < 1e5 for mm in found):
        raise RequestError(f"near: {near[:40]!r}; three numbers are needed, mm")
    return found


@router.get("/case/study", dependencies=WORKER)
def of_study(study: Annotated[str, Query(max_length=64)]) -> Response:
    """Go to the case of a study that OHIF shows: the one in hand, or the only one."""
    archive = workspace().archive
    found = [] if archive is None else archive.volumes(study)
    if not found:
        raise NotFoundError("case of the study", study)
    mine = cases_of().keys
    held = {one.volume for one in workspace().ledger.leases() if one.holder in mine}
    one = next((image for image in found if image in held), found[0] if len(found) == 1 else None)
    where = "/atlas8k/cases" if one is None else f"/atlas8k/case?image={quote(one)}"
    return RedirectResponse(where, 303)


@router.get("/case", dependencies=WORKER)
def page(image: str, near: Near = "") -> Response:
    """One case; in the hands of who asks it can be drawn in and submitted.

    ``near``: the place, RAS mm, about which a CT that is too large for a browser is shown at full
    resolution.
    """
    context, cases = workspace(), cases_of()
    case = cases.look(image)
    if not case.lease:
        check_shown(image)
    hidden = image in gold_seen()
    held = next((one for one in context.ledger.leases() if one.volume == image), None)
    view, grid, trouble = None, None, ""
    try:
        view, grid = cases.view(image, millimetres(near) if near else None)
    except VolumeError as error:
        trouble = error.reason
    with context.ledger.read() as tx:
        phase = phases.of_volume(tx, image)
    looked("image", image)
    return render(
        "case.html.j2",
        viewer=True,
        **common(""),
        case=case,
        state=cases.state(image),
        states=STATES,
        other=None if case.lease or hidden else held,
        offered=masked(image) is None
        and any(one.volume == image for one in context.ledger.offers()),
        mine=cases.is_mine(image),
        who=who(),
        trouble=trouble,
        phase=phase,
        organs=ORGANS,
        lines={one.name: one for one in case.organs},
        people=PEOPLE_ML,
        kinds=ERROR_KINDS,
        difficulties=DIFFICULTIES,
        windows=WINDOWS,
        layers=_layers(cases, case, view),
        view=view,
        part=None if view is None or view.kind == "whole" else view,
        apart=view.part.grid(grid).spacing if view and grid else (),
        planes=[PLANES.get(letter, "axial") for letter in grid.orientation] if grid else [],
        facts=_facts(cases, case, grid, view) if grid and view else None,
    )


def _layers(cases: Cases, case: Case, view: View | None) -> list[Layer]:
    """Return the layers, each of the part that is shown."""
    found = layers(cases, case)
    if view is None or view.kind == "whole":
        return found
    return [replace(one, url=in_part(case.image, one.key, view), method="POST") for one in found]


def _facts(cases: Cases, case: Case, grid: Grid, view: View) -> dict[str, Any]:
    """Return what the page's script goes by; ready for JSON."""
    places = [
        {"organ": one["organ"], "centre": one["centre"], "mm": one["place"]["ras_mm"]}
        for one in case.regions
        if one.get("place")
    ]
    drawn, part = cases.drawings.current(case.image), view.kind != "whole"
    outside = around(drawn, cases.begun(case.image), view)
    return {
        "image": case.image,
        "ct": ct(case.image, view),
        "view": view.kind,
        "method": "POST" if part else "GET",
        "box": part_text(view.part) if view.kind == "block" else "",
        "outside": {"voxels": outside.voxels, "changed": outside.changed},
        "drawn": in_part(case.image, DRAWING, view)
        if part
        else f"/atlas8k/cases/{quote(case.image, safe='')}/drawing/label",
        "lease": case.lease,
        "ends": case.seconds_left,
        "fingerprint": workspace().studies.fingerprint(case.image),
        "shape": grid.shape,
        "at": [round(n) for n in places[0]["centre"]] if places else [n // 2 for n in grid.shape],
        "voxel_ml": grid.voxel_ml,
        "start": in_part(case.image, START, view) if part else start(case),
        "label": bool(case.organs),
        "there": [one.name for one in case.organs if one.ml],
        "drawing": about(cases.drawings.find(case.image)),
        "me": hashlib.sha256(holder().key.encode()).hexdigest()[:12],
        "places": places,
        "windows": WINDOWS,
        "organs": [
            {"id": one.id, "name": one.name, "color": one.color, "asked": asked_ml(one.name)}
            for one in ORGANS
        ],
    }


def asked_ml(organ: str) -> tuple[float, float | None]:
    """Return the volumes outside of which it is asked whether an organ's is right, ml."""
    low, high = plausible_ml(organ)
    return low, high if math.isfinite(high) else None


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
