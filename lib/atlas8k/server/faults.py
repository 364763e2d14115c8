"""Exceptions as HTTP replies: the caller's fault is 4xx with the reason, ours 5xx with an id."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from monailabel.interfaces.exception import (
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from starlette.exceptions import HTTPException

from atlas8k.core.disk import disk_fault
from atlas8k.core.errors import (
    Atlas8kError,
    AttentionError,
    DeviceLostError,
    TrainingError,
    VolumeError,
)
from atlas8k.services.errors import (
    ConflictError,
    NotFoundError,
    RequestError,
    TooLargeError,
    UpstreamError,
)
from atlas8k.store import NotMeasuredError, UnknownVolumeError

logger = logging.getLogger(__name__)
FULL = 507
LONGEST = 500
"""Characters in the log of what a client sent."""

STATUS: tuple[tuple[type[Exception], int], ...] = (
    (UpstreamError, 503),
    (DeviceLostError, 503),
    (AttentionError, 500),  # a volume error, but of probabilities that our own networks made
    (NotFoundError, 404),
    (UnknownVolumeError, 404),
    (ImageNotFoundException, 404),
    (LabelNotFoundException, 404),
    (ConflictError, 409),
    (NotMeasuredError, 409),
    (TrainingError, 409),
    (TooLargeError, 413),
    (RequestError, 422),
    (VolumeError, 422),
)
"""The first that fits; an error not listed is ours, however it is typed."""


TITLES = {
    401: "You are not signed in",
    403: "This is not for your role",
    404: "It is not there",
    409: "Not now",
    413: "Too much was sent",
    422: "This cannot be meant",
    503: "Something that this server needs does not answer",
    FULL: "The disk is full",
}
"""Of the page of an error, by HTTP status."""


def reason(error: Exception) -> str:
    """Return the text of an error; MONAI Label's keep theirs in an attribute."""
    return str(getattr(error, "msg", "") or error)


def status(error: Exception) -> int:
    """Return the HTTP status of an error, by :data:`STATUS`, 500 where it is not there.

    507 where a disk is full or cannot be written, whatever became of that on the way.
    """
    if isinstance(error, HTTPException):
        return int(error.status_code)
    if disk_fault(error) is not None:
        return FULL
    if isinstance(error, MONAILabelException) and error.error is MONAILabelError.INVALID_INPUT:
        return 422
    return next((code for kind, code in STATUS if isinstance(error, kind)), 500)


def reply(request: Request, error: Exception) -> Response:
    """Return JSON ``{"error", "detail"}``; where the fault is ours, the ``id`` in the log too.

    Who opens an address in a browser gets a page that says the same, or, not signed in, the page to
    sign in.
    """
    code = status(error)
    body = {"error": type(error).__name__, "detail": reason(error)}
    if code < 500:
        detail = body["detail"][:LONGEST]
        logger.info("%s %s: %d %s", request.method, request.url.path[:LONGEST], code, detail)
        return _answer(request, body, code)
    body["id"] = uuid.uuid4().hex[:12]
    logger.error(
        "%s %s: %d, id %s", request.method, request.url.path, code, body["id"], exc_info=error
    )
    if (why := disk_fault(error)) is not None:
        body = {
            **body,
            "error": "StorageError",
            "detail": f"{why}; nothing was kept, send it again",
        }
    elif not isinstance(error, Atlas8kError):
        # What other people's code raises may carry anything.
        body["detail"] = "an error inside the server; its log has more under this id"
    return _answer(request, body, code)


def reply_http(request: Request, error: Any) -> Response:
    """Return what a route or the framework refuses by itself in the same form."""
    if error.status_code >= 500:
        return reply(request, error)
    body = {"error": type(error).__name__, "detail": str(error.detail)}
    return _answer(request, body, error.status_code, error.headers)


def reply_invalid(request: Request, error: Any) -> Response:
    """Return a 422 with one line: which parts of the request are not as described, and why.

    What was sent is not repeated: it may be large, or nothing that JSON can carry.
    """
    found = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5]]
    detail = "; ".join(found).encode(errors="replace").decode()[:1000]
    return _answer(request, {"error": "RequestError", "detail": detail}, 422)


def _answer(
    request: Request, body: dict[str, str], code: int, headers: Mapping[str, str] | None = None
) -> Response:
    read = request.method == "GET"
    if "text/html" not in request.headers.get("accept", "") or not (read or code == 401):
        return JSONResponse(body, code, headers=headers)
    # Where a proxy brings a token, a sign-in here would change nothing.
    token = request.headers.get("authorization", "").lower().startswith("bearer")
    if code == 401 and read and not token:
        query = request.url.query
        to = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        return RedirectResponse(
            f"/atlas8k/sign-in?{urlencode({'to': to})}", 303, {"Cache-Control": "no-store"}
        )
    from atlas8k.server.page_templates import render  # which knows the workspace

    title = TITLES.get(code, "")
    page = render("error.html.j2", code, status=code, title=title, said=body, token=token)
    page.headers.update(headers or {})
    return page


def install_handlers(app: FastAPI) -> None:
    """Answer every exception of a route with :func:`reply`."""
    for kind in (Atlas8kError, MONAILabelException, Exception):
        app.add_exception_handler(kind, reply)
    app.add_exception_handler(HTTPException, reply_http)  # FastAPI's is one of Starlette's
    app.add_exception_handler(RequestValidationError, reply_invalid)
