"""Divide the time of a training, on a device that others may want too.

A training computes only while it has the device, gives way before every step, and leaves the
device while it reads and prepares a volume, which takes seconds and needs none. Of a
training of so many minutes, a share each is for volumes, steps and measuring; one of so many
epochs has no bound.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PREPARING = 0.25
"""Share of the time in which volumes are prepared; one volume always is."""
MEASURING = 0.2
"""Share reserved for the measurement at the end, until a first one was timed."""


class SharedDevice(Protocol):
    """A device that others use too, held now: the server's lock on it."""

    def leave(self) -> None:
        """Let others compute."""

    def take(self) -> None:
        """Wait until nobody more urgent wants the device, and take it again."""

    def give_way(self) -> None:
        """Leave the device and take it again where somebody more urgent waits."""


class OwnDevice:
    """A device that nobody else uses."""

    def leave(self) -> None:
        """Do nothing: nobody else uses the device."""

    def take(self) -> None:
        """Do nothing: the device is held."""

    def give_way(self) -> None:
        """Do nothing: nobody waits."""


OWN_DEVICE = OwnDevice()


class TimeBudget:
    """The time of a network's training, and its shares for volumes, steps and measuring.

    Time in which it waits for its device does not count.

    Parameters
    ----------
    shared_device
        The device.
    minutes
        Time in all; ``None``: no bound.
    seconds
        Time used before.
    measured
        Whether there are cases to measure on at its end.
    """

    def __init__(
        self,
        shared_device: SharedDevice = OWN_DEVICE,
        minutes: float | None = None,
        *,
        seconds: float = 0.0,
        measured: bool = False,
    ) -> None:
        self._shared_device = shared_device
        self._began = time.monotonic() - seconds
        self._total = math.inf if minutes is None else 60 * minutes
        self._prepared = 0.0
        self._reserved = MEASURING * self._total if minutes is not None and measured else 0.0

    def seconds(self) -> float:
        """Return the time used by now, seconds."""
        return time.monotonic() - self._began

    def give_way(self) -> None:
        """Let more urgent computations go first."""
        with self._stopped():
            self._shared_device.give_way()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the device to others for a block; its time counts, the wait after it does not."""
        self._shared_device.leave()
        try:
            yield
        finally:
            with self._stopped():
                self._shared_device.take()

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        at = time.monotonic()
        try:
            yield
        finally:
            self._began += time.monotonic() - at

    def fraction(self) -> float:
        """Return the share of the time for steps that is used, 0 to 1; 0 without a bound."""
        return min(1.0, self.seconds() / (self._total - self._reserved))

    def over(self) -> bool:
        """Return whether all time is used, that for the measurement included."""
        return self.seconds() >= self._total

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Time a block that prepares a volume; others have the device meanwhile."""
        began = self.seconds()
        with self.aside():
            yield
        self._prepared += self.seconds() - began

    def prepared(self) -> bool:
        """Return whether preparing volumes has used up its share of the time.

        The share is of half of the time at the start, and of the time used later: more
        volumes are met as a training goes on, where they do not all fit at the start.
        """
        return self._prepared >= PREPARING * max(self._total / 2, self.seconds())

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Time a measurement: no more is reserved for the last one."""
        began = self.seconds()
        yield
        self._reserved = min(self._reserved, self.seconds() - began)
