"""Who is calling, and whether they may: MONAI Label's roles; tokens are read in `tokens`."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import unquote

import jwt
from fastapi import Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import OAuth2PasswordBearer
from monailabel.config import settings
from monailabel.endpoints.user.auth import DEFAULT_USER, User
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atlas8k.core.acting import Actor, act_as
from atlas8k.server.browser_sessions import browser_sessions, cookie_name
from atlas8k.server.hosts import OWN_PAGE, READING
from atlas8k.server.sign_ins import sign_ins
from atlas8k.server.tokens import user_of
from atlas8k.store import Holder

logger = logging.getLogger(__name__)

NAME_COOKIE = "atlas8k_name"
NAME_LENGTH = 80


@dataclass(frozen=True)
class Caller:
    """Sender of a request.

    ``user`` is the signed-in user, empty where sign-in is off; ``address`` and
    ``software`` are the network address and the program as they present themselves.
    ``roles`` are those of the signed-in user; ``by_page``: the browser has signed in on our page,
    and can sign out there. ``name`` is what the browser's user has typed on the page of cases,
    where sign-in is off: OHIF says no name of its own.
    """

    user: str = ""
    address: str = ""
    software: str = ""
    roles: frozenset[str] = frozenset()
    name: str = ""
    by_page: bool = False


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def set_caller(caller: Caller) -> None:
    """Remember who is calling, for the rest of this request."""
    _CALLER.set(caller)
    act_as(Actor(holder().key, caller.address, caller.software))


def get_caller() -> Caller:
    """Return who is calling; an empty one outside of requests."""
    return _CALLER.get() or Caller()


class Requests:
    """ASGI middleware: a request begins with no caller, and no cache keeps what a cookie opened.

    uvicorn may run a request in the context of the one before on the same connection, which may be
    somebody else's behind a proxy (CPython issue 140947).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _CALLER.set(None)
        act_as(None)
        state = scope.setdefault("state", {})  # `by_page` is set by `current_user`

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and state.get("by_page"):
                MutableHeaders(scope=message).setdefault("Cache-Control", "private, no-cache")
            await send(message)

        await self._app(scope, receive, answer)


def typed_name(text: str) -> str:
    """Return a typed name as it is stored: printable, no blanks around it, of bounded length."""
    return "".join(c for c in text if c.isprintable()).strip()[:NAME_LENGTH]


def may_review() -> bool:
    """Return whether who is calling is a reviewer; everybody is where sign-in is off."""
    reviews = not get_caller().roles.isdisjoint((REVIEWER, ADMIN))
    return reviews or not settings.MONAI_LABEL_AUTH_ENABLE


def holder(client_id: object = None) -> Holder:
    """Return who asks: the signed-in user, else the client id or typed name, else the address."""
    caller = get_caller()
    client = client_id or caller.name
    return Holder.identify(
        user=caller.user or None,
        client_id=str(client)[:80] if client else None,
        address=caller.address,
        software=caller.software,
    )


class Who(BaseModel):
    """``client_id``: who asks, where sign-in is off."""

    model_config = ConfigDict(extra="forbid")
    client_id: str | None = Field(None, max_length=200)

    @property
    def holder(self) -> Holder:
        """Who asks, see :func:`holder`."""
        return holder(self.client_id)


def refused(reason: str) -> HTTPException:
    """Return a 401 with the header that tells a client how to sign in."""
    return HTTPException(401, reason, headers={"WWW-Authenticate": "Bearer"})


bearer = OAuth2PasswordBearer(tokenUrl="/auth/token", auto_error=False)


async def current_user(request: Request, token: Annotated[str | None, Depends(bearer)]) -> User:
    """Return who is signed in; MONAI Label's user of every role where sign-in is off.

    A bearer token counts before the cookie of a browser that has signed in on our page. It is
    looked at once a request, in a thread: asking the realm must not hold up other requests.

    Raises
    ------
    HTTPException
        401 where there is neither, or it is not good; 403 where the browser does not say that a
        page of this server sends what changes something, as cookies go with every page's requests.
    """
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return DEFAULT_USER
    known = getattr(request.state, "user", None)
    if isinstance(known, User):
        return known
    session = "" if token else request.cookies.get(cookie_name(), "")
    if not token and not session:
        raise refused("sign in first: a bearer token is needed")
    if session and request.method not in READING and not request.scope.get(OWN_PAGE):
        raise HTTPException(403, "sent by no page of this server; a program needs a bearer token")
    try:
        user = await run_in_threadpool(_signed_in, token or "", session)
    except jwt.PyJWTError as err:
        logger.warning("a token was refused: %s", err)
        raise refused(f"the token is not valid: {err}") from err
    request.state.user, request.state.by_page = user, bool(session)
    by = Actor(Holder.identify(user=user.username).key, *_from(request))
    # The tokens of a session follow each other; it is one sign-in.
    sign_ins.used(token or session, by, user.roles)
    return user


def _signed_in(token: str, session: str) -> User:
    found = token or browser_sessions.token(session)
    if found is None:
        raise refused("you are not signed in any more; sign in again")
    return user_of(found)


def _from(request: Request) -> tuple[str, str]:
    """Return network address and software of who asks, as they present themselves."""
    address = request.client.host if request.client else ""
    return address, request.headers.get("user-agent", "")[:80]


class Allowed:
    """Dependency of a route: lets in users of one of some roles, and notes who is calling.

    It is a coroutine, so that what it notes holds for the route, whatever thread runs that.
    """

    def __init__(self, *roles: str) -> None:
        self._roles = ALL_ROLES if "*" in roles else roles

    async def admit(self, request: Request) -> User:
        """Return the user before anything of the request's body is read; raise 401 or 403."""
        return await self(request, await current_user(request, await bearer(request)))

    async def __call__(
        self, request: Request, user: Annotated[User, Depends(current_user)]
    ) -> User:
        """Return the user, or raise 403."""
        signed_in = bool(settings.MONAI_LABEL_AUTH_ENABLE)
        name = "" if signed_in else typed_name(unquote(request.cookies.get(NAME_COOKIE, "")))
        address, software = _from(request)
        set_caller(
            Caller(
                user=user.username if signed_in else "",
                address=address,
                software=software,
                roles=frozenset(user.roles) if signed_in else frozenset(),
                name=name,
                by_page=getattr(request.state, "by_page", False),
            )
        )
        if signed_in and not set(self._roles) & set(user.roles):
            wanted = " or ".join(f'"{role}"' for role in self._roles)
            raise HTTPException(403, f"Role {wanted} is required to perform this action")
        return user


USER = str(settings.MONAI_LABEL_AUTH_ROLE_USER)
ANNOTATOR = str(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)
REVIEWER = str(settings.MONAI_LABEL_AUTH_ROLE_REVIEWER)
ADMIN = str(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)
ALL_ROLES = (ADMIN, REVIEWER, ANNOTATOR, USER)

USERS = Depends(Allowed(USER))
ANNOTATORS = Depends(Allowed(ANNOTATOR))
ANNOTATORS_OR_REVIEWERS = Depends(Allowed(ANNOTATOR, REVIEWER))
REVIEWERS = Depends(Allowed(REVIEWER, ADMIN))
LABELERS = Depends(Allowed(ANNOTATOR, REVIEWER, ADMIN))
ADMINS = Depends(Allowed(ADMIN))
