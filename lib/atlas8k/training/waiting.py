"""A device that others want too: when a training leaves it to them, and what it waits for it.

It computes only while it has the device, gives way before every step, and leaves it
altogether while it reads and prepares a volume, which takes seconds and needs none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Place(Protocol):
    """A device that was taken, as the server's lock on it is."""

    def leave(self) -> None:
        """Let others compute."""

    def take(self) -> None:
        """Wait until nobody more urgent wants it, and have it again."""

    def give_way(self) -> None:
        """Leave and take it where somebody more urgent waits."""


class Alone:
    """The device of a training that nobody waits beside."""

    def leave(self) -> None:
        """Nobody comes."""

    def take(self) -> None:
        """At once."""

    def give_way(self) -> None:
        """To nobody."""


ALONE = Alone()


@contextmanager
def aside(place: Place) -> Iterator[None]:
    """Leave the device to others for a block that computes nothing on it."""
    place.leave()
    try:
        yield
    finally:
        place.take()


class Clock:
    """Seconds that a training takes, without those in which it waits for its device.

    Parameters
    ----------
    place
        The device.
    seconds
        What it has taken before.
    """

    def __init__(self, place: Place = ALONE, seconds: float = 0.0) -> None:
        self._place = place
        self._began = time.monotonic() - seconds

    def seconds(self) -> float:
        """Taken by now."""
        return time.monotonic() - self._began

    def give_way(self) -> None:
        """Let those more urgent compute first."""
        with self._stopped():
            self._place.give_way()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """As :func:`aside`; the block counts, the wait after it does not."""
        self._place.leave()
        try:
            yield
        finally:
            with self._stopped():
                self._place.take()

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        at = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - at
