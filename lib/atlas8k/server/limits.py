"""How much a request may carry: headers, JSON, uploads. What is larger is refused unread.

Sizes are counted while the body comes in: what a client says about its length, or leaves
unsaid, changes nothing. Uploads go to disk on their way, so that memory stays bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

MIB = 1 << 20
HEADER_BYTES = 16 << 10
JSON_BYTES = MIB
"""Of a body that is no upload; the server's own requests and clients' stay below 10 kB."""
FORM_BYTES = MIB
"""What an upload's form may hold beside the file."""


class BodyTooLargeError(Exception):
    """The body is larger than allowed; ends the reading of it."""


class Limits:
    """ASGI middleware that replies 413 to bodies and 431 to headers that are too large.

    Parameters
    ----------
    app
        What comes after it.
    upload_mb
        Gives the bound of one upload in MiB, asked for at every request.
    """

    def __init__(self, app: ASGIApp, upload_mb: Callable[[], float]) -> None:
        self._app, self._upload_mb = app, upload_mb

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        if sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES:
            reason = f"the headers are larger than {HEADER_BYTES >> 10} KiB"
            await refused(431, reason)(scope, receive, send)
            return
        fields = dict(headers)
        if fields.get(b"content-type", b"").lower().startswith(b"multipart/form-data"):
            limit = int(self._upload_mb() * MIB) + FORM_BYTES
            reason = f"the upload is larger than {self._upload_mb():g} MiB (--conf upload_mb)"
        else:
            limit = JSON_BYTES
            reason = f"the request's body is larger than {JSON_BYTES / MIB:g} MiB"
        length = fields.get(b"content-length", b"")
        if length.isdigit() and int(length[:30]) > limit:
            logger.info("%s refused: %s", scope["path"], reason)
            await refused(413, reason)(scope, receive, send)
            return
        seen, started = 0, False

        async def count() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise BodyTooLargeError(reason)
            return message

        async def pass_on(message: Message) -> None:
            # The web framework makes a 400 of any error while it reads a body.
            nonlocal started
            if seen <= limit or started:
                started = True
                await send(message)

        try:
            await self._app(scope, count, pass_on)
        except BodyTooLargeError:
            if started:
                raise
        if seen > limit and not started:
            await refused(413, reason)(scope, receive, send)


def refused(code: int, reason: str) -> JSONResponse:
    """Return a reply that has the connection closed: the body was not read."""
    body = {"error": "TooLargeError", "detail": reason}
    return JSONResponse(body, code, headers={"connection": "close"})
