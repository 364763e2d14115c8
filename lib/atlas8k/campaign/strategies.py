"""Compare orders of review by what they do to the quality of labels.

A pool of volumes is known whole: how good each pseudo label is, and how good it is once an oracle
has corrected it. Then every strategy's list can be drawn, round by round as a campaign draws it,
and what is known after each revision follows. Where networks are fine-tuned between rounds
(:mod:`atlas8k.campaign.tuned_strategies`), the pseudo labels of the rest change with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from atlas8k.campaign.effort import MINUTES_A_VOLUME, MINUTES_AN_ORGAN
from atlas8k.core.selection import Candidate, Selection, drawn

Floats = npt.NDArray[np.float64]

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


@dataclass(frozen=True, eq=False)
class Later:
    """What networks predict that were fine-tuned after so many revisions.

    Attributes
    ----------
    revisions
        In all, by then.
    before
        ``(volumes, organs)`` DSC of their pseudo labels, as :attr:`Pool.before`.
    removed_ml
        ``(volumes,)``: wrong ml less than in the first networks' pseudo label.
    """

    revisions: int
    before: Floats
    removed_ml: Floats


def course(pool: Pool, order: Sequence[int], later: Sequence[Later] = ()) -> Course:
    """Return what is known after each revision of an order.

    Parameters
    ----------
    order
        Rows of the pool.
    later
        Networks that take the place of the first ones, where any were fine-tuned; what they
        predict counts from the last revision before their training on.
    """
    before, removed_ml = pool.before, np.zeros_like(pool.removed_ml)
    changes = {one.revisions: one for one in later}
    seen = np.zeros(len(before), dtype=bool)
    dsc, unseen, removed = [], [], []
    for revisions in range(len(order) + 1):
        if revisions:
            seen[order[revisions - 1]] = True
        if revisions in changes:
            before, removed_ml = changes[revisions].before, changes[revisions].removed_ml
        dsc.append(_mean(np.where(seen[:, None], pool.after, before)))
        unseen.append(_mean(before[~seen]))
        removed.append(float(np.where(seen, pool.removed_ml, removed_ml).sum()))
    minutes = np.concatenate([[0.0], np.cumsum(pool.minutes[np.asarray(order, dtype=np.intp)])])
    return Course(
        np.array(dsc), np.array(unseen), minutes, np.array(removed) / pool.removed_ml.sum()
    )


def _mean(values: Floats) -> float:
    """Return the mean over organs of means over volumes, of ``(volumes, organs)``; NaN: none."""
    known = values[:, np.isfinite(values).any(axis=0)]
    return float(np.nanmean(known, axis=0).mean()) if known.size else float("nan")


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
    """Compare strategies side by side, without fine-tuning.

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
        rows = part_of(len(pool.before), size, seed)
        part = pool.part(rows)
        budget = max(1, round(share * len(rows)))
        for name, strategy in strategies.items():
            order = order_of(part, strategy, f"{seed}", rounds, budget)
            courses[name].append(course(part, order))
    return compared(courses)


def part_of(volumes: int, size: int, seed: int) -> npt.NDArray[np.intp]:
    """Return the rows of a pool that a seed draws, the same for all strategies."""
    return np.random.default_rng(seed).permutation(volumes)[:size]


def compared(courses: Mapping[str, Sequence[Course]]) -> dict[str, Compared]:
    """Compare strategies, each with a course for every seed, with :data:`REFERENCE`."""
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
        gain_half=half_width(gains),
        revisions=float(np.mean(revisions)),
        revisions_half=half_width(revisions),
        minutes=float(np.mean(minutes)),
        reached=reached,
        removed=float(np.mean([one.removed[-1] for one in own])),
        removed_half=half_width([float(one.removed[-1]) for one in own]),
    )


def half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of a mean, by Student's t."""
    n = len(values)
    if n < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
