"""HTML pages from the templates of this package; every value that goes into one is escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from atlas8k.server.access import get_caller
from atlas8k.server.workspace import workspace
from atlas8k.services.privacy import hides

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
ENVIRONMENT = Environment(
    loader=PackageLoader("atlas8k.server"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_SECTION = re.compile(r"\n\s*(Parameters|Returns|Yields|Raises|Notes|Examples)\s*\n\s*-{3,}")
_ROLE = re.compile(r":[a-z:]+:`~?([^`]+)`")
_CODE = re.compile(r"``(.+?)``|`(.+?)`")


def prose(docstring: str) -> Markup:
    """Return a docstring for people: what stands before its numpy sections, names as code."""
    text = _ROLE.sub(r"``\1``", _SECTION.split(docstring, maxsplit=1)[0].strip())
    return Markup(_CODE.sub(r"<code>\1\2</code>", str(escape(text))))


def named(volume: str) -> str:
    """Return what people know a volume by: of an archive whose patients may be shown, a name."""
    archive = workspace().archive
    if archive is None or hides():
        return volume
    return archive.archive.names.get(volume, volume)


def breakable(name: str) -> Markup:
    """Return a name that breaks between its parts before it breaks within a word."""
    return Markup(_PARTS.sub(r"\1<wbr>", str(escape(name))))


_PARTS = re.compile(r"([_./-])(?=\w)")
ENVIRONMENT.globals["asks"] = get_caller
ENVIRONMENT.filters |= {"prose": prose, "named": named, "breakable": breakable}


@cache
def _script() -> tuple[Markup, str]:
    """Return the pages' script, and the policy that lets that text run and no other."""
    text = (files("atlas8k.server") / "templates" / "pages.js.j2").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    more = f"script-src 'sha256-{digest}'; connect-src 'self'; img-src 'self'"
    return Markup(text), f"{HEADERS['Content-Security-Policy']}; {more}"


def render(
    template: str, code: int = 200, *, script: bool = False, viewer: bool = False, **values: Any
) -> HTMLResponse:
    """Return a page; it loads nothing from elsewhere, and is not stored by the browser.

    Parameters
    ----------
    script
        The page has the pages' script and may show pictures of this server: without, none runs.
    viewer
        The same, and it may load scripts of this server; NiiVue has its letters as a picture
        within its own script.
    """
    headers = dict(HEADERS)
    if script or viewer:
        values["script"], policy = _script()
        if viewer:
            policy = policy.replace("script-src ", "script-src 'self' ")
            policy = policy.replace("img-src 'self'", "img-src 'self' data: blob:")
        headers["Content-Security-Policy"] = policy
    html = ENVIRONMENT.get_template(template).render(**values)
    return HTMLResponse(html, code, headers=headers)
