"""Who sent the request that is being answered."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """Sender of a request.

    ``user`` is the signed-in user, empty where sign-in is off; ``address`` and
    ``software`` are the network address and the program as they present themselves.
    """

    user: str = ""
    address: str = ""
    software: str = ""


CALLER: ContextVar[Caller] = ContextVar("CALLER", default=Caller())
