"""HTML pages from the templates of this package; every value that goes into one is escaped."""

from __future__ import annotations

import re
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

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


ENVIRONMENT.filters["prose"] = prose


def render(template: str, code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; it loads nothing from elsewhere, and is not stored by the browser."""
    html = ENVIRONMENT.get_template(template).render(**values)
    return HTMLResponse(html, code, headers=HEADERS)
