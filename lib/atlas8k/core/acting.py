"""Who acts, and from where: what records of the audit trail say of it."""

from __future__ import annotations

import getpass
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """Who does something.

    Parameters
    ----------
    who
        Key of a :class:`~atlas8k.store.Holder`; empty where nobody is known.
    address
        Network address; empty: this computer.
    software
        The program as it presents itself.
    """

    who: str = ""
    address: str = ""
    software: str = ""


_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)
_process = Actor()


def act_as(actor: Actor | None) -> None:
    """Have what this context does from now on recorded as this actor's; None: as the process's."""
    _actor.set(actor)


def act_as_program(name: str) -> None:
    """Have what this process does recorded as this program's, where no context says another."""
    global _process  # noqa: PLW0603 - a thread begins without the context of another
    try:
        who = f"user:{getpass.getuser()}"
    except (OSError, KeyError):  # a container may know no names
        who = ""
    _process = Actor(who, software=name)


def actor() -> Actor:
    """Return who acts."""
    return _actor.get() or _process
