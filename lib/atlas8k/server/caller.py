"""Who sent the request that is being answered."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """Sender of a request.

    ``user`` is the signed-in user, empty where sign-in is off; ``address`` and
    ``software`` are the network address and the program as they present themselves.
    ``roles`` are those of the signed-in user.
    """

    user: str = ""
    address: str = ""
    software: str = ""
    roles: frozenset[str] = frozenset()


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def set_caller(caller: Caller) -> None:
    """Remember who is calling, for the rest of this request."""
    _CALLER.set(caller)


def get_caller() -> Caller:
    """Who is calling; an empty one outside of requests."""
    return _CALLER.get() or Caller()
