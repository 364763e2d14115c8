"""Pages: where things are, the list of routes, and the viewer OHIF.

MONAI Label's own pages at ``/`` and ``/docs`` load their scripts from the internet, and are
blank where there is none.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import monailabel
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type

from atlas8k import __version__
from atlas8k.server.access import USERS
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.ohif_patches import scripts_of, with_way_back
from atlas8k.server.page_templates import render
from atlas8k.server.workspace import workspace
from atlas8k.services.errors import NotFoundError

router = APIRouter(include_in_schema=False, route_class=GuardedRoute)
Schema = dict[str, Any]

OHIF = Path(monailabel.__file__).parent / "endpoints" / "static" / "ohif"
SERVER_COOKIE = "MONAILABEL_SERVER_URL"


@router.get("/")
def landing(request: Request) -> Response:
    """Where things are on this server, and where its work stands.

    With sign-in on anybody may see the page, so that it says nothing of the work.
    """
    signed = bool(settings.MONAI_LABEL_AUTH_ENABLE)
    return render(
        "landing.html.j2",
        version=__version__,
        url=str(request.base_url).rstrip("/"),
        signed=signed,
        archive=settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")),
        state=[] if signed else state(),
    )


def state() -> list[tuple[str, str]]:
    """Return where the server's work stands, as names and lines of text."""
    app = app_instance()
    found = workspace().status()
    lines = [("Volumes", str(len(app.datastore().list_images())))]
    if "error" in found:
        lines.append(("Networks", str(found["error"])))
    else:
        lines.append(("Networks", str(found["model_version"])))
        lines.append(("Scoring", str(found["message"])))
    if unchecked := found.get("unchecked_labels"):
        done, total = unchecked["checked"], unchecked["total"]
        lines.append(("Labels in the folder", f"{done} of {total} checked; each counts after that"))
    label_files = found.get("label_files") or {}
    if any(label_files.get(key) for key in ("of", "count", "set_aside_count")):
        lines.append(("Label files", label_files_text(label_files)))
    if found.get("training"):
        lines.append(("Last training", str(found["training"])))
    if archive := found.get("archive"):
        answers = "answers" if archive["answers"] else f"does not answer: {archive.get('error')}"
        lines.append(
            ("Archive", f"{archive['url']} {answers}; {archive['refused']} series refused")
        )
    return lines


def label_files_text(found: dict[str, Any]) -> str:
    """Return in one line how the label files are, of :meth:`LabelWatch.status`."""
    if found["at"] is None:
        text = f"of {found['of']} volumes, {found['checked']} are checked so far"
    else:
        text = f"of {found['of']} volumes, all checked"
    if not found["count"] and found["checked"]:
        text += ": as they were stored"
    if found["count"]:
        text += f"; {found['count']} files are not what they were: run atlas8k doctor"
    if found["set_aside_count"]:
        text += f"; {found['set_aside_count']} are set aside in labels/.set-aside"
    return text


@router.get("/docs")
def docs(request: Request) -> Response:
    """Every route with its parameters, from the server's own OpenAPI schema."""
    schema = request.app.openapi()
    groups: dict[str, list[Schema]] = {}
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            groups.setdefault((route.get("tags") or ["Others"])[0], []).append(
                {**route, "method": method.upper(), "path": path, "named": _values(route, schema)}
            )
    return render("api.html.j2", version=__version__, groups=groups)


def _values(route: Schema, schema: Schema) -> list[Schema]:
    """Return the parameters of a route and the fields of its body."""
    found = [{**one["schema"], **one} for one in route.get("parameters", ())]
    for kind, content in route.get("requestBody", {}).get("content", {}).items():
        body = _resolved(content.get("schema", {}), schema)
        where = "JSON body" if kind == "application/json" else "form"
        for name, one in (body.get("properties") or {"": body}).items():
            required = name in body.get("required", ())
            found.append({**one, "name": name, "in": where, "required": required})
    return [{**one, "type": _type(one, schema)} for one in found]


def _resolved(one: Schema, schema: Schema) -> Schema:
    """Return what a reference within the schema stands for."""
    while "$ref" in one:
        found: Any = schema
        for step in one["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        one = found
    return one


def _type(one: Schema, schema: Schema) -> str:
    """Return a type in a few words: ``integer``, ``a | b``, ``list of string``, ``file``."""
    one = _resolved(one, schema)
    if "anyOf" in one:
        kinds = [_type(part, schema) for part in one["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in one:
        return " | ".join(str(value) for value in one["enum"])
    if one.get("type") == "array":
        return f"list of {_type(one.get('items', {}), schema)}"
    if one.get("format") == "binary" or "contentMediaType" in one:
        return "file"
    return str(one.get("type", "any"))


@router.get("/ohif/{path:path}", dependencies=[USERS])
def ohif(request: Request, path: str) -> Response:
    """Return a file of the viewer; its start page for every path that is none.

    The start page tells the viewer where this server is, unless it has been told another
    one: by itself it looks at port 8000.
    """
    index = wanted = OHIF / "index.html"
    with contextlib.suppress(OSError, ValueError):  # longer than a name may be; with a zero
        asked = (OHIF / path).resolve()
        if asked.is_relative_to(OHIF.resolve()) and asked.is_file():
            wanted = asked
    if not wanted.is_file():
        raise NotFoundError("viewer", "ohif")
    if wanted.suffix == ".js" and (text := scripts_of(OHIF.resolve()).get(wanted)) is not None:
        return Response(text, media_type="text/javascript", headers={"Cache-Control": "no-cache"})
    if wanted != index:
        headers = {"Cache-Control": "private"}  # the browser decides for how long
        return FileResponse(wanted, media_type=get_mime_type(str(wanted)), headers=headers)
    reply = HTMLResponse(with_way_back(index.read_text(encoding="utf-8")))
    if SERVER_COOKIE not in request.cookies:
        reply.set_cookie(SERVER_COOKIE, quote(str(request.base_url), safe=""), path="/ohif")
    return reply
