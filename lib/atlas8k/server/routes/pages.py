"""Pages: where things are, the list of routes, the viewer OHIF, and the archive behind it.

MONAI Label's own pages at ``/`` and ``/docs`` load their scripts from the internet, and are
blank where there is none.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import monailabel
import requests
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, Response
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type

from atlas8k import __version__
from atlas8k.server.access import USERS
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.ohif_patches import scripts_of
from atlas8k.server.page_templates import render
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.errors import NotFoundError, UpstreamError
from atlas8k.services.privacy import cleaned_dicom

router = APIRouter(include_in_schema=False, route_class=GuardedRoute)
Schema = dict[str, Any]

OHIF = Path(monailabel.__file__).parent / "endpoints" / "static" / "ohif"
SERVER_COOKIE = "MONAILABEL_SERVER_URL"
_ARCHIVE_PATH = re.compile(r"(studies|series|instances)(/[A-Za-z0-9][A-Za-z0-9.,_-]*)*/?")
"""DICOMweb's own resources (PS3.18): no way up, no other interface of the archive."""
_SERIES = re.compile(r"series/([0-9.]+)")
_PIXELS = re.compile(
    r"/(frames|instances/[0-9.]+/?$|rendered|thumbnail|bulkdata|series/[0-9.]+/?$)"
)
"""Resources that show or hold a CT's voxels, by series, which is the name of a volume."""
_OBJECTS = re.compile(r"(?i)application/dicom(?!\+json)")
"""Objects or headers in a form that would be passed on unread."""
_PASSED_ON = ("accept", "accept-language", "range", "if-none-match")
_PASSED_BACK = ("content-type", "etag", "content-range", "warning")


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
        lines.append(("Networks", str(found["model_signature"])))
        lines.append(("Scoring", str(found["message"])))
    if unchecked := found.get("unchecked_labels"):
        done, total = unchecked["checked"], unchecked["total"]
        lines.append(("Labels in the folder", f"{done} of {total} checked; each counts after that"))
    if label_files := found.get("label_files"):
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
        text = f"{found['checked']} of {found['of']} volumes are held against their hashes"
    else:
        text = f"those of {found['of']} volumes were held against their hashes"
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
    reply = FileResponse(wanted, media_type=get_mime_type(str(wanted)))
    if wanted == index and SERVER_COOKIE not in request.cookies:
        reply.set_cookie(SERVER_COOKIE, quote(str(request.base_url), safe=""), path="/ohif")
    return reply


@router.get("/proxy/dicom/{path:path}", dependencies=[USERS])
def archive(request: Request, path: str) -> Response:
    """Read from the DICOMweb archive of this server, for the viewer.

    Nothing is written through here: labels are submitted to ``/datastore/label``.
    """
    session = workspace().archive
    if session is None:
        raise NotFoundError("DICOM archive", "--studies is a folder")
    operation, _, rest = path.partition("/")
    if operation in {"wado", "qido"}:
        path = rest
    if not _ARCHIVE_PATH.fullmatch(path) or ".." in path:
        raise NotFoundError("resource of a DICOM archive", path)
    prefix = ""
    if operation == "wado" or (operation == "qido" and path.endswith("metadata")):
        prefix = settings.MONAI_LABEL_WADO_PREFIX or ""
    elif operation == "qido":
        prefix = settings.MONAI_LABEL_QIDO_PREFIX or ""
    parts = [settings.MONAI_LABEL_STUDIES.rstrip("/"), prefix.strip("/"), path]
    headers = {key: request.headers[key] for key in _PASSED_ON if key in request.headers}
    try:
        answer = requests.get(
            "/".join(part for part in parts if part),
            params=request.url.query,
            headers=headers,
            auth=session.archive.access.credentials,
            timeout=settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as err:
        raise UpstreamError(f"the DICOM archive does not answer ({type(err).__name__})") from err
    series = _SERIES.search(path)
    if answer.ok and series is not None and _PIXELS.search(path):
        looked("image", series[1])
    kind, content = answer.headers.get("content-type", ""), bytes(answer.content)
    if not app_instance().settings.show_phi:
        if _OBJECTS.search(kind):
            raise HTTPException(
                403,
                "whole DICOM objects hold the patient's data; start with --conf show_phi true",
            )
        if "json" in kind:
            try:
                content = json.dumps(cleaned_dicom(answer.json())).encode()
            except ValueError:
                content = b"null"
    back = {key: answer.headers[key] for key in _PASSED_BACK if key in answer.headers}
    return Response(content, answer.status_code, headers=back)
