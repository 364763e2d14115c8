"""HTML pages from the templates of this package; every value that goes into one is escaped."""

from __future__ import annotations

from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

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


def render(template: str, code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; it loads nothing from elsewhere, and is not stored by the browser."""
    html = ENVIRONMENT.get_template(template).render(**values)
    return HTMLResponse(html, code, headers=HEADERS)
