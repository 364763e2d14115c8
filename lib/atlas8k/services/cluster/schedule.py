"""How long a collection takes on how many workers, from what volumes have cost so far."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Schedule(NamedTuple):
    """A run as simulated.

    Attributes
    ----------
    hours
        From the first volume handed out to the last result entered.
    workers_busy, writer_busy
        Shares of that time.
    repeated
        Volumes that were predicted again since their worker had died.
    """

    workers: int
    hours: float
    workers_busy: float
    writer_busy: float
    repeated: int

    @property
    def limit(self) -> str:
        """What more of would make it faster: ``workers``, or ``writer`` where it is full."""
        return "writer" if self.writer_busy > 0.95 else "workers"


def drawn(seconds: Sequence[float], volumes: int, rng: np.random.Generator) -> Floats:
    """Draw the seconds of so many volumes from those measured, with replacement."""
    return rng.choice(np.asarray(seconds, np.float64), volumes)


def simulate(
    seconds: Floats,
    workers: int,
    *,
    write_s: float = 0.0,
    deaths_an_hour: float = 0.0,
    restart_s: float = 60.0,
    rng: np.random.Generator,
) -> Schedule:
    """Simulate a run: the largest volumes first, each to the worker that is free first.

    Parameters
    ----------
    seconds
        ``(N,)``, of each volume on one worker.
    write_s
        Seconds that the one writer takes for a result.
    deaths_an_hour
        Of a worker, at random; the volume it was at is predicted anew.
    restart_s
        Until a worker that died has loaded its networks again.
    """
    free = [0.0] * workers
    heapq.heapify(free)
    finished, repeated, busy = [], 0, 0.0
    rate = deaths_an_hour / 3600
    for duration in np.sort(seconds)[::-1]:
        while True:
            start = heapq.heappop(free)
            dies = rng.exponential(1 / rate) if rate else np.inf
            if dies >= duration:
                break
            repeated += 1
            heapq.heappush(free, start + dies + restart_s)
        heapq.heappush(free, start + duration)
        finished.append(start + duration)
        busy += duration
    entered = 0.0
    for at in sorted(finished):
        entered = max(entered, at) + write_s
    total = max(entered, 1e-9)
    return Schedule(
        workers,
        total / 3600,
        float(busy / (total * workers)),
        write_s * len(finished) / total,
        repeated,
    )
