"""The time a training has, on a device that others may want too.

It computes only while it has the device, gives way before every step, and leaves it
altogether while it reads and prepares a volume, which takes seconds and needs none. Of a
training that has so many minutes, a share each is for volumes, steps and measuring; one that
goes by epochs has all the time it needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PREPARING = 0.25
"""Share of the time in which volumes are prepared; one is in any case."""
MEASURING = 0.2
"""Share that is kept for the measurement at the end, until one has shown what it takes."""


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
        """Do nothing: nobody comes."""

    def take(self) -> None:
        """Do nothing: it is there."""

    def give_way(self) -> None:
        """Do nothing: nobody waits."""


ALONE = Alone()


class TimeBudget:
    """Seconds that the training of a network takes, and what of its time is for what.

    Those in which it waits for its device do not count.

    Parameters
    ----------
    place
        The device.
    minutes
        That it has in all; ``None``: no bound.
    seconds
        What it has taken before.
    measured
        Whether there are cases to measure on at its end.
    """

    def __init__(
        self,
        place: Place = ALONE,
        minutes: float | None = None,
        *,
        seconds: float = 0.0,
        measured: bool = False,
    ) -> None:
        self._place = place
        self._began = time.monotonic() - seconds
        self._all = math.inf if minutes is None else 60 * minutes
        self._prepared = 0.0
        self._kept = MEASURING * self._all if minutes is not None and measured else 0.0

    def seconds(self) -> float:
        """Return what it has taken by now."""
        return time.monotonic() - self._began

    def give_way(self) -> None:
        """Let those more urgent compute first."""
        with self._stopped():
            self._place.give_way()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the device to others for a block, which counts; the wait after it does not."""
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

    def fraction(self) -> float:
        """Return how much of the time for steps is over, 0 to 1; 0 without a bound."""
        return min(1.0, self.seconds() / (self._all - self._kept))

    def over(self) -> bool:
        """Return whether all of it is over, measurement included."""
        return self.seconds() >= self._all

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Count the time of a block that prepares a volume; the device is others' meanwhile."""
        began = self.seconds()
        with self.aside():
            yield
        self._prepared += self.seconds() - began

    def prepared(self) -> bool:
        """Return whether volumes have had their share of the time.

        That is of half of it at the start, of what is over later: so that more volumes are
        met as a training goes on, where they do not all fit at the start.
        """
        return self._prepared >= PREPARING * max(self._all / 2, self.seconds())

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Note what a measurement takes: so much is kept for the last one, and no more."""
        began = self.seconds()
        yield
        self._kept = min(self._kept, self.seconds() - began)
