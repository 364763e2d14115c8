"""What one submission passes, as drawn in lib/atlas8k/README.md: traced, not read."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from tests.services.labels.test_label_service import (
    ANNA,
    Work,
    label_service,  # noqa: F401
    slabs,
    studies,  # noqa: F401
    work,  # noqa: F401
)

from atlas8k.store.database import Database

ROOMS = ("services.labels", "services.studies", "labels", "store")
"""From the top; `core`, `formats` and `metrics` lie below and are not counted."""

Call = tuple[str, str]


def module_of(frame: FrameType) -> str | None:
    """The module of our own that a frame is in, without the package's name."""
    name = frame.f_globals.get("__name__", "")
    return name.removeprefix("atlas8k.") if name.startswith("atlas8k.") else None


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if module.startswith(f"{room}.")), None)


@contextmanager
def traced(calls: Counter[Call]) -> Iterator[None]:
    """Count calls from one module to another; of a function that was given, not of its giver."""

    def look(frame: FrameType, event: str, _: Any) -> None:
        to = module_of(frame) if event == "call" else None
        if to is None or room_of(to) is None or "<locals>" in frame.f_code.co_qualname:
            return
        above = frame.f_back
        while above is not None and module_of(above) is None:
            above = above.f_back
        caller = None if above is None else module_of(above)
        if caller is not None and caller != to:
            calls[caller, to] += 1

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_it_goes_down_only_and_is_one_transaction(
    work: Work,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[bool] = []
    write = Database.write

    @contextmanager
    def counted(database: Database, **how: bool) -> Iterator[sqlite3.Connection]:
        kept.append(how.get("keep", True))
        with write(database, **how) as connection:
            yield connection

    monkeypatch.setattr(Database, "write", counted)
    assert work.give(ANNA) == "a"
    kept.clear()
    calls: Counter[Call] = Counter()
    with traced(calls):
        receipt = work.send(ANNA, slabs(liver=(1, 5), spleen=(6, 8), stomach=(9, 10)))
    assert receipt.is_current
    assert kept == [False, True]  # looked at once and rolled back, then written

    for caller, to in calls:
        above, below = room_of(caller), room_of(to)
        if above is not None and below is not None:
            assert ROOMS.index(above) <= ROOMS.index(below), f"{caller} calls up to {to}"
    # Within a room nothing comes back to where it came from either.
    graph = {caller: {to for one, to in calls if one == caller} for caller, _ in calls}
    for start, first in graph.items():
        seen, todo = set(), list(first)
        while todo:
            module = todo.pop()
            assert module != start, f"{start} is called by what it calls"
            if module not in seen:
                seen.add(module)
                todo.extend(graph.get(module, ()))
    modules = {to for _, to in calls}
    by_room = Counter(room_of(module) for module in modules)
    assert by_room["services.labels"] <= 4
    assert by_room["labels"] <= 6
    assert by_room["services.studies"] <= 7
    # The last two: what was drawn and is submitted now, and what helped to draw it.
    assert by_room["store"] <= 19
