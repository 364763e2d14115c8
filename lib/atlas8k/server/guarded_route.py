"""A route that knows who asks and how much may come before it reads any of it.

FastAPI reads the whole body first and asks a route's dependencies afterwards. So whoever had no
token could fill memory and disk, and a JSON route took what only an upload may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, get_args

from fastapi import Request, Response, UploadFile
from fastapi.params import File
from fastapi.routing import APIRoute
from monailabel.interfaces.utils.app import app_instance
from pydantic import BaseModel

from atlas8k.server.access import Allowed
from atlas8k.server.limits import BoundedRequest

_SECTIONS = re.compile(r"\n+(?:Parameters|Returns|Raises)\n-{3,}\n.*", re.DOTALL)
_REFERENCE = re.compile(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`")


def readable(docstring: str) -> str:
    """Return a docstring as the page of the interface shows it, in Markdown, for who calls it.

    Sections of numpy style are for who reads the code.
    """
    text = _SECTIONS.sub("", docstring)
    return _REFERENCE.sub(r"`\1`", text).replace("``", "`")


class GuardedRoute(APIRoute):
    """Lets in whom its dependencies of type :class:`Allowed` let in, then reads a bounded body.

    Give it to a router as its ``route_class``.

    Attributes
    ----------
    body_mb
        Bound of a body that is a file, not a form or JSON, MiB; None: there is none.
    """

    body_mb: float | None = None

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        super().__init__(path, endpoint, **more)
        self.description = readable(self.description)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handler = super().get_route_handler()
        allowed = list(admissions(self.dependant))
        upload, body_mb = takes_upload(self.dependant), self.body_mb

        async def guarded(request: Request) -> Response:
            for one in allowed:
                await one.admit(request)
            most = upload_mb() if upload else None
            if body_mb is not None:
                most = min(body_mb, upload_mb())
            return await handler(BoundedRequest(request, most))

        return guarded


def upload_mb() -> float:
    """Return the bound of one upload in MiB, as the server is set."""
    return float(app_instance().settings.upload_mb)


def admissions(dependant: Any) -> Iterator[Allowed]:
    """Yield what decides who may use a route, of FastAPI's description of it."""
    for one in dependant.dependencies:
        if isinstance(one.call, Allowed):
            yield one.call
        yield from admissions(one)


def takes_upload(dependant: Any) -> bool:
    """Return whether a route takes a file, by itself or as a field of a form's model."""
    for parameter in dependant.body_params:
        if isinstance(parameter.field_info, File):
            return True
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            kinds = [field.annotation for field in model.model_fields.values()]
            if any(UploadFile in (kind, *get_args(kind)) for kind in kinds):
                return True
    return False
