"""How long a collection takes on how many workers: costs by size, and a run as simulated."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import SettingsError

Floats = npt.NDArray[np.float64]


FITTED = 400
"""Volumes that a fit rests on at the most; it compares each pair of them."""
UNLIKE = 1.3
"""The largest is so many times the smallest, and the cost of size can be told from the rest."""
PAPERS = 8_448
SLICES = 3_200_000 / PAPERS
"""Of a CT on average: the 8,448 volumes of AbdomenAtlas-8K have 3.2 million."""
SPREAD = 0.6
"""Of the logarithm; 5 % have less than 120 slices, 5 % more than 850. The paper gives none."""
LEAST_SLICES, MOST_SLICES = 40, 1_000
MOST_DEATHS = 3.0
"""Expected while a volume is predicted: one in twenty workers lives to the end of such a one."""
FULL, WAITING = 0.95, 0.5
"""The writer is the limit where it is so busy; the last volumes where workers are not even so."""


class Fit(NamedTuple):
    """Seconds of a volume on one worker.

    Attributes
    ----------
    seconds, seconds_per_million
        Of any volume, and for each million of its voxels.
    ratios
        Of volumes measured, their seconds over those of the line.
    by_size
        They differ in size, so that what size costs is known.
    """

    seconds: float
    seconds_per_million: float
    ratios: Floats
    by_size: bool = True

    @property
    def error(self) -> float:
        """Median distance of a volume from the line, as a share of it."""
        return float(np.median(np.abs(self.ratios - 1)))

    def draw(self, millions: Floats, rng: np.random.Generator) -> Floats:
        """Draw the seconds of volumes of so many million voxels, as far from the line as others."""
        line = self.seconds + self.seconds_per_million * millions
        return np.asarray(line * rng.choice(self.ratios, len(millions)))


def fit(seconds: Sequence[float], millions: Sequence[float] | None) -> Fit:
    """Fit a line through what volumes took; a few odd ones do not move it (Theil, Sen).

    Parameters
    ----------
    millions
        Of each its million voxels; ``None``: not known, all cost the same.
    """
    took = np.asarray(seconds, np.float64)
    if millions is None:
        return Fit(float(took.mean()), 0.0, took / took.mean())
    size = np.asarray(millions, np.float64)
    constant, slope = 0.0, float(np.median(took / size))
    if by_size := bool(size.max() > UNLIKE * size.min()):
        some = np.argsort(size, kind="stable")
        some = some[np.linspace(0, len(size) - 1, min(len(size), FITTED)).astype(int)]
        one, other = np.triu_indices(len(some), 1)
        apart = size[some][other] - size[some][one]
        rise = (took[some][other] - took[some][one])[apart != 0] / apart[apart != 0]
        found = float(np.median(rise))
        rest = float(np.median(took - found * size))
        if found <= 0:
            constant, slope = float(np.median(took)), 0.0
        elif rest >= 0:  # else the line through nothing, which never takes less than no time
            constant, slope = rest, found
    return Fit(constant, slope, took / (constant + slope * size), by_size)


def abdomenatlas_slices(volumes: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw the slices of so many CTs, of 512 x 512 voxels each, as the paper's have."""
    drawn = rng.lognormal(np.log(SLICES) - SPREAD**2 / 2, SPREAD, volumes)
    return drawn.clip(LEAST_SLICES, MOST_SLICES).astype(np.int64)


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
    limit
        What more of would make it faster: ``workers``, ``writer``, ``storage``, ``network``;
        ``volumes`` where most workers wait for the largest ones at the end.
    """

    workers: int
    hours: float
    workers_busy: float
    writer_busy: float
    repeated: int
    limit: str


def simulate(
    seconds: Floats,
    workers: int,
    *,
    write_s: float = 0.0,
    deaths_an_hour: float = 0.0,
    restart_s: float = 60.0,
    moved_mb: float = 0.0,
    storage_mb_s: float = np.inf,
    network_mb_s: float = np.inf,
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
    moved_mb
        Of all CTs and results.
    storage_mb_s, network_mb_s
        What of it these move in a second.

    Raises
    ------
    SettingsError
        Workers die so often that the largest volumes would never be done.
    """
    if deaths_an_hour * seconds.max() / 3600 > MOST_DEATHS:
        raise SettingsError(
            f"{deaths_an_hour:g} deaths an hour of a worker: the largest volume takes "
            f"{seconds.max():.0f} s, so that hardly any worker would live to its end"
        )
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
            busy += dies
            heapq.heappush(free, start + dies + restart_s)
        heapq.heappush(free, start + duration)
        finished.append(start + duration)
        busy += duration
    entered = 0.0
    for at in sorted(finished):
        entered = max(entered, at) + write_s
    moved = {"storage": moved_mb / storage_mb_s, "network": moved_mb / network_mb_s}
    slowest = max(moved, key=lambda one: moved[one])
    total = max(entered, moved[slowest], 1e-9)
    workers_busy, writer_busy = busy / (total * workers), write_s * len(finished) / total
    if moved[slowest] > entered:
        limit = slowest
    elif writer_busy > FULL:
        limit = "writer"
    else:
        limit = "volumes" if workers_busy < WAITING else "workers"
    return Schedule(workers, total / 3600, float(workers_busy), writer_busy, repeated, limit)
