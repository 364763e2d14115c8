"""Answer with a picture that the server draws, unless the browser still has it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from fastapi import Request, Response

KEPT_S = 600
"""A browser shows a picture so long without asking again; then it asks whether it changed."""


def key_of(*parts: object) -> str:
    """Return what a picture is kept by, from all that it is drawn of."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def picture(request: Request, key: str, draw: Callable[[], bytes]) -> Response:
    """Return the JPEG that `draw` makes, or 304 where the browser has the one of this key."""
    headers = {
        "ETag": f'"{key}"',
        "Cache-Control": f"private, max-age={KEPT_S}",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(draw(), media_type="image/jpeg", headers=headers)
