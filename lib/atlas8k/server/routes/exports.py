"""Routes of datasets that are exported while the server runs, as ``atlas8k export`` does."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from atlas8k.server.access import ADMINS, USERS, Who
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.page_templates import HEADERS
from atlas8k.server.workspace import workspace
from atlas8k.services.context import Context
from atlas8k.services.errors import ConflictError, RequestError
from atlas8k.services.exporting.export import ExportSettings
from atlas8k.services.exporting.layouts import Layout
from atlas8k.services.exporting.selection import Require

router = APIRouter(prefix="/atlas8k/exports", tags=["Campaign"], route_class=GuardedRoute)


class Wanted(Who):
    """``split`` ``paper``: training, validation and test in the paper's proportions.

    Without ``cts``, CTs are copied for the layout ``dicom``, whose labels refer to them, and left
    out for the others.
    """

    name: str = Field(min_length=1, max_length=64)
    layout: Layout = "abdomenatlas"
    require: Require = "confirmed"
    cts: Literal["", "none", "link", "copy"] = ""
    purpose: Literal["share", "commercial", "internal"] = "share"
    split: Literal["", "paper"] = ""


@router.get("", summary="How the export stands, and those that are there", dependencies=[USERS])
def state() -> dict[str, Any]:
    """What ``GET /atlas8k/work`` says of it, and ``finished``: name and path of each."""
    exports = workspace().exports
    return {**exports.state(), "finished": [one._asdict() for one in exports.finished()]}


@router.post("", summary="Begin an export, or go on with one", dependencies=[ADMINS])
def begin(asked: Wanted) -> dict[str, str]:
    """Its folder, and what becomes of the CTs.

    409 where one runs, one of that name is there, or the studies are an archive.
    """
    context = _of_a_folder()
    cts = asked.cts or ("copy" if asked.layout == "dicom" else "none")
    if asked.layout == "dicom" and cts != "copy":
        raise RequestError("DICOM SEG objects refer to a CT series: have the CTs copied with them")
    settings = ExportSettings(
        layout=asked.layout,
        require=asked.require,
        cts=cts,
        name=asked.name,
        purpose=asked.purpose,
        split=asked.split,
    )
    out = context.exports.start(asked.name, settings)
    context.ledger.note("export", kind="dataset", name=asked.name, require=asked.require)
    return {"path": str(out), "cts": cts}


@router.delete("", summary="Stop the export that runs", dependencies=[ADMINS])
def stop() -> dict[str, bool]:
    """Whether one ran; what is done stays, and the same export goes on from there."""
    return {"stopped": workspace().exports.stop()}


@router.get("/{name}/datasheet", summary="What an export holds, a page", dependencies=[USERS])
def datasheet(name: str) -> Response:
    """The page as it was written with the export; 404 where there is none."""
    path = workspace().exports.datasheet(name)
    return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers=HEADERS)


def _of_a_folder() -> Context:
    context = workspace()
    if context.archive is not None:
        raise ConflictError(
            "series of an archive are exported by the command alone: atlas8k export OUT --studies "
            "URL --rename BDMAP_, which numbers volumes instead of naming their UIDs"
        )
    return context
