"""Answer with a picture that the server draws, unless the browser still has it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from fastapi import Request, Response


def key_of(*parts: object) -> str:
    """Return what a picture is kept by, from all that it is drawn of."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def picture(request: Request, key: str, draw: Callable[[], bytes]) -> Response:
    """Return the JPEG that `draw` makes, or 304 where the browser has the one of this key."""
    headers = {
        "ETag": f'"{key}"',
        # The browser asks each time whether it changed: the next one may be signed in meanwhile.
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(draw(), media_type="image/jpeg", headers=headers)
