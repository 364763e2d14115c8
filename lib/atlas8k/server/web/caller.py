"""Who sent the request that is being answered."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


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


NAME_COOKIE = "atlas8k_name"
NAME_LENGTH = 80

_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def typed_name(text: str) -> str:
    """A name as it is kept: printable, without blanks around it, not longer than a client id."""
    return "".join(c for c in text if c.isprintable()).strip()[:NAME_LENGTH]


def set_caller(caller: Caller) -> None:
    """Remember who is calling, for the rest of this request."""
    _CALLER.set(caller)


def get_caller() -> Caller:
    """Who is calling; an empty one outside of requests."""
    return _CALLER.get() or Caller()
