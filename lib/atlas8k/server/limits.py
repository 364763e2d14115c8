"""How much a request may carry: headers, JSON, uploads. What is larger is refused unread.

Sizes are counted while the body comes in: what a client says about its length, or leaves
unsaid, changes nothing. Uploads go to disk on their way, so that memory stays bounded.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import HTTPException, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from atlas8k.core.disk import disk_fault

logger = logging.getLogger(__name__)

MIB = 1 << 20
HEADER_BYTES = 16 << 10
JSON_BYTES = MIB
"""Of a body that is no upload; the server's own requests and clients' stay below 10 kB."""
FORM_BYTES = MIB
"""What an upload's form may hold beside the file."""


class HeaderLimit:
    """ASGI middleware that replies 431 to headers that are too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            size = sum(len(name) + len(value) for name, value in scope["headers"])
            if size > HEADER_BYTES:
                reason = f"the headers are larger than {HEADER_BYTES >> 10} KiB"
                reply = JSONResponse({"error": "TooLargeError", "detail": reason}, 431)
                await reply(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BoundedRequest(Request):
    """A request whose body ends in a 413 where it is larger than its route takes.

    Parameters
    ----------
    request
        As it came, nothing of it read.
    upload_mb
        Bound of an upload in MiB; ``None`` where the route takes none.
    """

    def __init__(self, request: Request, upload_mb: float | None) -> None:
        super().__init__(request.scope, request.receive)
        if upload_mb is None:
            self._limit = JSON_BYTES
            self._reason = f"the request's body is larger than {JSON_BYTES / MIB:g} MiB"
        else:
            self._limit = int(upload_mb * MIB) + FORM_BYTES
            self._reason = f"the upload is larger than {upload_mb:g} MiB (--conf upload_mb)"
        length = self.headers.get("content-length", "")
        if length.isdigit() and int(length[:30]) > self._limit:
            raise self._too_large()
        kind = self.headers.get("content-type", "").lower()
        if kind.startswith("multipart/") and "charset" in kind and "utf-8" not in kind:
            # Others, such as Python's unicode_escape, make text that nothing can store.
            raise HTTPException(422, "forms are read as UTF-8")

    def _too_large(self) -> HTTPException:
        logger.info("%s refused: %s", self.url.path[:200], self._reason)
        return HTTPException(413, self._reason)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body piece by piece; raise 413 where it is more than may come."""
        seen = 0
        async for piece in super().stream():
            seen += len(piece)
            if seen > self._limit:
                raise self._too_large()
            yield piece

    async def _get_form(self, **bounds: Any) -> Any:
        """Return the form; raise 507 where a file of it cannot be held on disk.

        FastAPI says of every other exception that the form is broken.
        """
        try:
            return await super()._get_form(**bounds)
        except OSError as err:
            if disk_fault(err) is None:
                raise
            raise HTTPException(507, "the upload cannot be held on disk") from err

    async def json(self) -> Any:
        """Return the body's JSON; raise 422 where a text in it is no Unicode."""
        value = await super().json()
        if not is_text(value):
            raise HTTPException(422, NO_TEXT)
        return value


NO_TEXT = "a text holds half of a character (a lone surrogate), which nothing can store"


def is_text(value: object) -> bool:
    """Return whether every text in a JSON value, names of fields as well, can be written down."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            try:
                one.encode()
            except UnicodeEncodeError:
                return False
        elif isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            left += one
    return True
