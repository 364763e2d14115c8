"""The server's first page and the list of its routes: plain HTML, nothing from elsewhere.

MONAI Label's own pages at ``/`` and ``/docs`` load their scripts from the internet, and are
blank where there is none.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance

from atlas8k import __version__
from atlas8k.server.cases.page import HEADERS

router = APIRouter(include_in_schema=False)

Schema = dict[str, Any]


class Value(NamedTuple):
    """A parameter of a route, or a field of its body."""

    name: str
    where: str
    type: str
    required: bool
    default: str
    about: str


class Operation(NamedTuple):
    """A route with one method."""

    method: str
    path: str
    summary: str
    about: str
    values: list[Value]
    answers: list[tuple[str, str]]


@functools.cache
def _environment() -> Environment:
    """Templates in which every value is escaped."""
    return Environment(
        loader=PackageLoader("atlas8k.server"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@router.get("/")
def landing(request: Request) -> Response:
    """Where things are on this server, and where its work stands.

    With sign-in on anybody may see the page, so that it says nothing of the work.
    """
    signed = bool(settings.MONAI_LABEL_AUTH_ENABLE)
    text = (
        _environment()
        .get_template("landing.html.j2")
        .render(
            version=__version__,
            url=str(request.base_url).rstrip("/"),
            signed=signed,
            archive=settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")),
            state=[] if signed else state(),
        )
    )
    return HTMLResponse(text, headers=HEADERS)


@router.get("/docs")
def docs(request: Request) -> Response:
    """Every route with its parameters, from the server's own OpenAPI schema."""
    text = (
        _environment()
        .get_template("api.html.j2")
        .render(version=__version__, groups=operations(request.app))
    )
    return HTMLResponse(text, headers=HEADERS)


def state() -> list[tuple[str, str]]:
    """Return where the server's work stands, as names and lines of text."""
    app = app_instance()
    found = app.context.status()
    lines = [("Volumes", str(len(app.datastore().list_images())))]
    if "error" in found:
        lines.append(("Networks", str(found["error"])))
    else:
        lines.append(("Networks", str(found["model_signature"])))
        lines.append(("Scoring", str(found["message"])))
    if unchecked := found.get("unchecked_labels"):
        done, total = unchecked["checked"], unchecked["total"]
        lines.append(("Labels in the folder", f"{done} of {total} checked; each counts after that"))
    if found.get("training"):
        lines.append(("Last training", str(found["training"])))
    if archive := found.get("archive"):
        answers = "answers" if archive["answers"] else f"does not answer: {archive.get('error')}"
        lines.append(
            ("Archive", f"{archive['url']} {answers}; {archive['refused']} series refused")
        )
    return lines


def operations(app: FastAPI) -> dict[str, list[Operation]]:
    """Return the routes of an application by tag, as its OpenAPI schema describes them."""
    schema = app.openapi()
    groups: dict[str, list[Operation]] = {}
    for path, methods in schema["paths"].items():
        for method, found in methods.items():
            groups.setdefault((found.get("tags") or ["Others"])[0], []).append(
                Operation(
                    method.upper(),
                    path,
                    found.get("summary", ""),
                    found.get("description", ""),
                    [*_parameters(found, schema), *_fields(found, schema)],
                    [
                        (code, one.get("description", ""))
                        for code, one in found["responses"].items()
                    ],
                )
            )
    return groups


def _parameters(found: Schema, schema: Schema) -> list[Value]:
    return [
        Value(
            one["name"],
            one["in"],
            _type(one.get("schema", {}), schema),
            bool(one.get("required")),
            _default(one.get("schema", {})),
            one.get("description", ""),
        )
        for one in found.get("parameters", ())
    ]


def _fields(found: Schema, schema: Schema) -> list[Value]:
    """Fields of a request's body; the body itself where it has none that are named."""
    made = []
    for kind, content in found.get("requestBody", {}).get("content", {}).items():
        body = _resolved(content.get("schema", {}), schema)
        where = {"application/json": "JSON body"}.get(kind, "form")
        required = body.get("required", ())
        for name, one in body.get("properties", {}).items():
            about = one.get("description", "")
            made.append(
                Value(name, where, _type(one, schema), name in required, _default(one), about)
            )
        if not body.get("properties"):
            made.append(Value("", where, _type(body, schema), False, _default(body), ""))
    return made


def _resolved(one: Schema, schema: Schema) -> Schema:
    """What a reference within the schema stands for."""
    while "$ref" in one:
        found: Any = schema
        for step in one["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        one = found
    return one


def _type(one: Schema, schema: Schema) -> str:
    """A type in a few words: ``integer``, ``a | b``, ``list of string``, ``file``."""
    one = _resolved(one, schema)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in one:
            kinds = [_type(part, schema) for part in one[key] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "enum" in one:
        return " | ".join(str(value) for value in one["enum"])
    if one.get("type") == "array":
        return f"list of {_type(one.get('items', {}), schema)}"
    if one.get("format") == "binary" or "contentMediaType" in one:
        return "file"
    return str(one.get("type", "any"))


def _default(one: Schema) -> str:
    return "" if one.get("default") is None else str(one["default"])
