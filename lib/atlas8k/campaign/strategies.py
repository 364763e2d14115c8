"""Compare orders of review by what they do to the quality of labels, without training.

A pool of volumes is known whole: how good each pseudo label is, and how good it is once an oracle
has corrected it. Then every strategy's list can be drawn, round by round as a campaign draws it,
and what is known after each revision follows by adding up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from atlas8k.core.selection import Candidate, Selection, drawn

Floats = npt.NDArray[np.float64]

MINUTES_A_VOLUME, MINUTES_AN_ORGAN = 3.0, 4.0
"""To open and look through a volume, and to correct an organ: the paper's 15 minutes a volume for
three organs. An assumption; only ratios of minutes are worth reading."""
REFERENCE = "random_foreground"


class Strategy(NamedTuple):
    """An order of review: a ranking, and how lists are drawn by it."""

    ranking: str
    selection: Selection


@dataclass(frozen=True, eq=False)
class Pool:
    """Volumes that may be reviewed.

    Attributes
    ----------
    candidates
        By ranking, of every volume in the same order.
    before, after
        ``(volumes, organs)`` DSC of pseudo and corrected label; NaN where an organ is in neither
        label nor truth.
    organs_touched
        ``(volumes,)``: organs that the oracle changes.
    removed_ml
        ``(volumes,)``: wrong ml that it takes away; NaN where not measured.
    """

    candidates: Mapping[str, Sequence[Candidate]]
    before: Floats
    after: Floats
    organs_touched: Floats
    removed_ml: Floats

    def part(self, rows: npt.NDArray[np.intp]) -> Pool:
        """Return some of its volumes."""
        candidates = {name: [own[i] for i in rows] for name, own in self.candidates.items()}
        arrays = (self.before, self.after, self.organs_touched, self.removed_ml)
        return Pool(candidates, *(array[rows] for array in arrays))

    @property
    def minutes(self) -> Floats:
        """Of an annotator for each volume."""
        return MINUTES_A_VOLUME + MINUTES_AN_ORGAN * self.organs_touched


@dataclass(frozen=True, eq=False)
class Course:
    """What is known after 0, 1, 2 and so on revisions, arrays of one length.

    Attributes
    ----------
    dsc
        Mean over organs of their means over all volumes.
    dsc_unseen
        The same over volumes that nobody has seen; NaN once all were.
    minutes
        Spent until then.
    removed
        Share of the ml that the oracle can take away.
    """

    dsc: Floats
    dsc_unseen: Floats
    minutes: Floats
    removed: Floats

    @property
    def area(self) -> float:
        """Mean DSC over the revisions: the area under the curve, by its width."""
        return float(self.dsc.mean())

    def reaches(self, dsc: float) -> int | None:
        """Return after how many revisions a quality is reached; ``None``: not within these."""
        there = np.flatnonzero(self.dsc >= dsc - 1e-12)
        return int(there[0]) if len(there) else None


def order_of(pool: Pool, strategy: Strategy, seed: str, rounds: int, budget: int) -> list[int]:
    """Return the rows of a pool that are reviewed, in order, over rounds of one budget each."""
    candidates = pool.candidates[strategy.ranking]
    row = {one.volume: index for index, one in enumerate(candidates)}
    left, order = list(candidates), list[int]()
    for number in range(1, rounds + 1):
        names = drawn(strategy.selection, left, budget, seed, number)[:budget]
        order += [row[name] for name in names]
        taken = {*names}
        left = [one for one in left if one.volume not in taken]
    return order


def course(pool: Pool, order: Sequence[int]) -> Course:
    """Return what is known after each revision of an order."""
    reviewed = np.asarray(order, dtype=np.intp)
    zero = np.zeros((1, pool.before.shape[1]))

    def summed(values: Floats) -> Floats:
        return np.concatenate([zero, np.cumsum(values[reviewed], axis=0)])

    def filled(values: Floats) -> tuple[Floats, Floats]:
        return np.nan_to_num(values), np.isfinite(values).astype(np.float64)

    (before, has_before), (after, has_after) = filled(pool.before), filled(pool.after)
    unseen, n_unseen = before.sum(axis=0) - summed(before), has_before.sum(axis=0) - summed(
        has_before
    )  # fmt: skip
    minutes = np.concatenate([[0.0], np.cumsum(pool.minutes[reviewed])])
    return Course(
        _mean(unseen + summed(after), n_unseen + summed(has_after)),
        _mean(unseen, n_unseen),
        minutes,
        np.concatenate([[0.0], np.cumsum(pool.removed_ml[reviewed])]) / pool.removed_ml.sum(),
    )


def _mean(total: Floats, count: Floats) -> Floats:
    """Return the mean over organs of means over volumes, ``(n, organs)`` to ``(n,)``."""
    means = np.full(total.shape, np.nan)
    np.divide(total, count, out=means, where=count > 0.5)
    out = np.full(len(means), np.nan)
    known = np.isfinite(means).any(axis=1)
    out[known] = np.nanmean(means[known], axis=1)
    return out


class Compared(NamedTuple):
    """A strategy over several seeds: means, and half widths of 95 % intervals over the seeds.

    Attributes
    ----------
    area, final, final_unseen
        DSC: under the curve, at its end, and of what nobody saw then.
    gain, gain_half
        Area less the reference's, paired by seed.
    revisions, revisions_half
        Until the reference's final quality, as a share of the reference's; those that do not
        reach it count as all.
    minutes
        Until then, as a share of the reference's.
    reached
        Seeds in which it was reached.
    removed, removed_half
        Share of the wrong ml that is taken away at the end.
    """

    area: float
    final: float
    final_unseen: float
    gain: float
    gain_half: float
    revisions: float
    revisions_half: float
    minutes: float
    reached: int
    removed: float
    removed_half: float


def compare(
    pool: Pool,
    strategies: Mapping[str, Strategy],
    *,
    seeds: int,
    rounds: int,
    share: float,
    size: int,
) -> dict[str, Compared]:
    """Compare strategies side by side.

    Parameters
    ----------
    strategies
        By name, among them :data:`REFERENCE`.
    seeds
        In each, another part of the pool is drawn, the same for all strategies.
    share
        Of the volumes, reviewed in each round.
    size
        Volumes of a part.
    """
    courses: dict[str, list[Course]] = {name: [] for name in strategies}
    for seed in range(seeds):
        rows = np.random.default_rng(seed).permutation(len(pool.before))[:size]
        part = pool.part(rows)
        budget = max(1, round(share * len(rows)))
        for name, strategy in strategies.items():
            order = order_of(part, strategy, f"{seed}", rounds, budget)
            courses[name].append(course(part, order))
    reference = courses[REFERENCE]
    return {name: _compared(own, reference) for name, own in courses.items()}


def _compared(own: Sequence[Course], reference: Sequence[Course]) -> Compared:
    gains, revisions, minutes, reached = [], [], [], 0
    for one, other in zip(own, reference, strict=True):
        gains.append(one.area - other.area)
        at = one.reaches(float(other.dsc[-1]))
        reached += at is not None
        needed = len(one.dsc) - 1 if at is None else at
        first = other.reaches(float(other.dsc[-1])) or 1
        revisions.append(needed / first)
        minutes.append(one.minutes[needed] / other.minutes[first])
    return Compared(
        area=float(np.mean([one.area for one in own])),
        final=float(np.mean([one.dsc[-1] for one in own])),
        final_unseen=float(np.mean([one.dsc_unseen[-1] for one in own])),
        gain=float(np.mean(gains)),
        gain_half=_half_width(gains),
        revisions=float(np.mean(revisions)),
        revisions_half=_half_width(revisions),
        minutes=float(np.mean(minutes)),
        reached=reached,
        removed=float(np.mean([one.removed[-1] for one in own])),
        removed_half=_half_width([float(one.removed[-1]) for one in own]),
    )


def _half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of a mean, by Student's t."""
    n = len(values)
    if n < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
