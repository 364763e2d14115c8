"""MONAI Label's routes, run in threads, and our own in place of some.

The stock routes are ``async def`` around blocking work, so that one inference holds up
every other request. Each is registered anew as a plain function, which FastAPI runs in
its thread pool, with what it lacks around it: who is calling, JSON fields checked,
unknown names refused before a background process is started for them.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.endpoints import (
    activelearning,
    batch_infer,
    datastore,
    infer,
    info,
    login,
    logs,
    model,
    ohif,
    proxy,
    scoring,
    session,
    train,
    wsi_infer,
)
from monailabel.interfaces.utils.app import app_instance

from atlas8k.server.errors import NotFoundError, RequestError
from atlas8k.server.privacy import cleaned, hides
from atlas8k.server.web.caller import NAME_COOKIE, Caller, set_caller, typed_name
from atlas8k.server.web.faults import install_handlers

logger = logging.getLogger(__name__)

Endpoint = Callable[..., Any]
STOCK = (info, model, infer, batch_infer, train, activelearning, scoring, datastore, login)
CLOSED = (session, logs, ohif, proxy, wsi_infer)
"""Ours take the place of all of their routes. Whole-slide inference has none: it takes
paths from the request, and there is no model for it."""
UNWANTED = {("/model/{model}", "PUT"), ("/model/{model}", "DELETE"), ("/reload", "POST")}
"""Networks come from a training or from who runs the server, never from a request."""
OF_THE_APP = {"/reload", "/", "/docs"}
"""Of no router: the first is unwanted, the others load scripts from the internet."""
JSON_FIELDS = ("params", "info")
NAMED = {
    "/infer/{model}": ("model", "model", "infers"),
    "/model/{model}": ("model", "model", "infers"),
    "/model/info/{model}": ("model", "model", "infers"),
    "/batch/infer/{model}": ("model", "model", "infers"),
    "/train/{model}": ("model", "trainer", "trainers"),
    "/scoring/{method}": ("method", "scoring method", "scoring_methods"),
    "/activelearning/{strategy}": ("strategy", "strategy", "strategies"),
}
"""Route: its parameter, what that names, and the app's table of those names."""


def install(app: FastAPI, *own: APIRouter) -> None:
    """Bring the running server's routes into the form described above, once.

    Parameters
    ----------
    app
        MONAI Label's application.
    own
        Routes of ours; one with the path and method of a stock route takes its place.
    """
    if getattr(app.state, "atlas8k", False):
        return  # `/reload` makes a new app object and keeps the routes
    app.state.atlas8k = True
    taken = {
        (route.path, method)
        for router in own
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    } | UNWANTED
    for module in STOCK:
        _replace(module.router, taken)
    for module in CLOSED:
        module.router.routes.clear()
    app.router.routes[:] = [
        route for route in app.router.routes if getattr(route, "path", "") not in OF_THE_APP
    ]
    for router in own:
        app.include_router(router)
    install_handlers(app)


def _replace(router: APIRouter, taken: set[tuple[str, str]]) -> None:
    stock = [route for route in router.routes if isinstance(route, APIRoute)]
    router.routes[:] = [route for route in router.routes if not isinstance(route, APIRoute)]
    for route in stock:
        if all((route.path, method) in taken for method in route.methods or ()):
            continue
        router.add_api_route(
            route.path.removeprefix(router.prefix),
            threaded(route.endpoint, route.path),
            methods=sorted(route.methods or ()),
            summary=route.summary,
            deprecated=route.deprecated,
            include_in_schema=route.include_in_schema,
        )


def threaded(endpoint: Endpoint, path: str) -> Endpoint:
    """A plain function that does what the stock coroutine `endpoint` of route `path` does.

    Stock endpoints await nothing: they run to their end at the first step.
    """
    signature = inspect.signature(endpoint)
    request_name = "atlas8k_request"
    parameter = inspect.Parameter(request_name, inspect.Parameter.KEYWORD_ONLY, annotation=Request)

    def call(**values: Any) -> Any:
        request: Request = values.pop(request_name)
        user = values.get("user")
        with_caller(request, getattr(user, "username", ""), getattr(user, "roles", ()))
        check_json(values)
        check_name(path, values)
        take_out_names(path, values)
        if not inspect.iscoroutinefunction(endpoint):
            return shown(endpoint(**values))
        step = endpoint(**values)
        try:
            step.send(None)
        except StopIteration as end:
            return shown(end.value)
        step.close()
        raise RuntimeError(f"{path}: the stock endpoint waits for something; run it as it is")

    call.__name__, call.__doc__ = endpoint.__name__, endpoint.__doc__
    call.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), parameter]
    )
    return call


def with_caller(request: Request, user: str, roles: Iterable[str] = ()) -> None:
    """Remember who is calling for the code below, in this thread's context."""
    set_caller(
        Caller(
            # With sign-in off, MONAI Label calls everybody "admin".
            user=user if settings.MONAI_LABEL_AUTH_ENABLE else "",
            address=request.client.host if request.client else "",
            software=request.headers.get("user-agent", "")[:80],
            roles=frozenset(roles) if settings.MONAI_LABEL_AUTH_ENABLE else frozenset(),
            name=""
            if settings.MONAI_LABEL_AUTH_ENABLE
            else typed_name(unquote(request.cookies.get(NAME_COOKIE, ""))),
        )
    )


def check_json(values: dict[str, Any]) -> None:
    """Raise :class:`RequestError` where a form field that must be a JSON object is none."""
    for field in JSON_FIELDS:
        text = values.get(field)
        if isinstance(text, str):
            parse_object(field, text)


def parse_object(field: str, text: str) -> dict[str, Any]:
    """The JSON object in a form field, ``{}`` where it is empty.

    Raises
    ------
    RequestError
        Not JSON, or not an object.
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as err:
        raise RequestError(f"{field}: not JSON ({err})") from err
    if not isinstance(value, dict):
        raise RequestError(f"{field}: a JSON object is needed, not {type(value).__name__}")
    return value


def shown(result: Any) -> Any:
    """A reply without what names a patient, unless asked for."""
    return cleaned(result) if isinstance(result, dict) and hides() else result


def take_out_names(path: str, values: dict[str, Any]) -> None:
    """Leave out of ``params`` what the path says: MONAI Label lets the former win."""
    params = values.get("params")
    if path in NAMED and isinstance(params, dict):
        values["params"] = {k: v for k, v in params.items() if k != NAMED[path][0]}


def check_name(path: str, values: dict[str, Any]) -> None:
    """Raise :class:`NotFoundError` where the path names something the app does not have."""
    if path not in NAMED:
        return
    parameter, kind, table = NAMED[path]
    if parameter not in values:
        return
    known = getattr(app_instance(), f"_{table}")
    if values[parameter] not in known:
        raise NotFoundError(kind, values[parameter], known)
