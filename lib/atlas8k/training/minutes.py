"""A training that has so many minutes: what of them is for volumes, steps and measuring.

A training that goes by epochs has all the time it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from atlas8k.training.waiting import Clock

PREPARING = 0.25
"""Share of the time in which volumes are prepared; one is in any case."""
MEASURING = 0.2
"""Share that is kept for the measurement at the end, until one has shown what it takes."""


class Minutes:
    """The time of one network, by its clock.

    Parameters
    ----------
    clock
        Seconds that it has taken.
    minutes
        That it has in all; ``None``: no bound.
    measured
        Whether there are cases to measure on at its end.
    """

    def __init__(self, clock: Clock, minutes: float | None, *, measured: bool) -> None:
        self._clock = clock
        self._all = None if minutes is None else 60 * minutes
        self._prepared = 0.0
        self._kept = MEASURING * self._all if self._all is not None and measured else 0.0

    def fraction(self) -> float:
        """Return how much of the time for steps is over, 0 to 1; 0 without a bound."""
        if self._all is None:
            return 0.0
        return min(1.0, self._clock.seconds() / (self._all - self._kept))

    def left(self) -> float:
        """Return the seconds until the end, measurement included; infinity without a bound."""
        return float("inf") if self._all is None else max(0.0, self._all - self._clock.seconds())

    def over(self) -> bool:
        """Return whether all of it is over."""
        return self.left() <= 0

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Count the time of a block that prepares a volume; the device is others' meanwhile."""
        began = self._clock.seconds()
        with self._clock.aside():
            yield
        self._prepared += self._clock.seconds() - began

    def prepared(self) -> bool:
        """Return whether volumes have had their share of the time.

        That is of half of it at the start, of what is over later: so that more volumes are
        met as a training goes on, where they do not all fit at the start.
        """
        if self._all is None:
            return False
        return self._prepared >= PREPARING * max(self._all / 2, self._clock.seconds())

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Note what a measurement takes: so much is kept for the last one, and no more."""
        began = self._clock.seconds()
        yield
        if self._all is not None:
            self._kept = min(self._kept, self._clock.seconds() - began)
