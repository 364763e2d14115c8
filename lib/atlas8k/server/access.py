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

from atlas8k.core.acting import Actor, act_as
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
    ``roles`` are those of the signed-in user. ``name`` is what the browser's user has typed
    on the page of cases, where sign-in is off: OHIF says no name of its own.
    """

    user: str = ""
    address: str = ""
    software: str = ""
    roles: frozenset[str] = frozenset()
    name: str = ""


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def set_caller(caller: Caller) -> None:
    """Remember who is calling, for the rest of this request."""
    _CALLER.set(caller)
    act_as(Actor(holder().key, caller.address, caller.software))


def get_caller() -> Caller:
    """Return who is calling; an empty one outside of requests."""
    return _CALLER.get() or Caller()


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

    A token is looked at once a request, in a thread: asking the realm for its keys must not hold
    up other requests.

    Raises
    ------
    HTTPException
        401 where there is no token, or one that is not good.
    """
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return DEFAULT_USER
    known = getattr(request.state, "user", None)
    if isinstance(known, User):
        return known
    if not token:
        raise refused("sign in first: a bearer token is needed")
    try:
        user = await run_in_threadpool(user_of, token)
    except jwt.PyJWTError as err:
        logger.warning("a token was refused: %s", err)
        raise refused(f"the token is not valid: {err}") from err
    request.state.user = user
    by = Actor(Holder.identify(user=user.username).key, *_from(request))
    sign_ins.used(token, by, user.roles)
    return user


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
        if signed_in and not set(self._roles) & set(user.roles):
            wanted = " or ".join(f'"{role}"' for role in self._roles)
            raise HTTPException(403, f"Role {wanted} is required to perform this action")
        name = "" if signed_in else typed_name(unquote(request.cookies.get(NAME_COOKIE, "")))
        address, software = _from(request)
        set_caller(
            Caller(
                user=user.username if signed_in else "",
                address=address,
                software=software,
                roles=frozenset(user.roles) if signed_in else frozenset(),
                name=name,
            )
        )
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
