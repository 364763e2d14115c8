"""Networks against each other on the cases they share: figures, tests, ranks, groups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from atlas8k.evaluation.groups import SMALLEST_GROUP, GroupTest, compare_panel
from atlas8k.evaluation.metadata import Grouping, combine
from atlas8k.evaluation.panel import Panel
from atlas8k.evaluation.statistics import (
    ALPHA,
    BOOTSTRAP_SAMPLES,
    Ranking,
    Significance,
    Summary,
    bootstrap_ranks,
    pairwise,
    summarise,
)

log = logging.getLogger(__name__)

MOST_COMBINED = 40
"""Groups two columns together may make; beyond that they are too many to read or test."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything said about a panel.

    Attributes
    ----------
    panel, summary
        The results and their figures.
    significance, ranking
        By column: an organ's name or ``"average"``.
    groupings
        The groupings tested, columns of two after the single ones.
    groups
        Grouping column to a test per network, on the per-case means.
    worst
        Indices of cases with the lowest mean over the networks, worst first.
    notes
        What a reader must know; what groups were too small to test is with their tests.
    """

    panel: Panel
    summary: Summary
    significance: Mapping[str, Significance]
    ranking: Mapping[str, Ranking]
    groupings: tuple[Grouping, ...]
    groups: Mapping[str, tuple[GroupTest, ...]]
    worst: tuple[int, ...]
    notes: tuple[str, ...]


def worst_cases(panel: Panel, count: int = 10) -> tuple[int, ...]:
    """Cases with the lowest mean over networks of the per-case means, worst first."""
    means = panel.case_means
    known = ~np.isnan(means)
    total = np.where(known, means, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    order = np.argsort(np.where(known.any(axis=0), total, np.inf), kind="stable")
    return tuple(int(n) for n in order[: min(count, int(known.any(axis=0).sum()))])


def _two_at_a_time(
    groupings: Sequence[Grouping], smallest: int
) -> tuple[list[Grouping], list[str]]:
    """Pairs of columns where at least two groups are large enough, and words on the others."""
    taken, notes = [], []
    for first, second in combinations(groupings, 2):
        both = combine(first, second)
        large = sum(len(both.members(group)) >= smallest for group in both.groups)
        if len(both.groups) > MOST_COMBINED:
            notes.append(f"{both.column}: {len(both.groups)} groups are too many, not tested")
        elif large < 2:
            notes.append(f"{both.column}: fewer than two groups have {smallest} cases, not tested")
        else:
            taken.append(both)
    return taken, notes


def compare(
    panel: Panel, groupings: Sequence[Grouping] = (), *, samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0, smallest: int = SMALLEST_GROUP, alpha: float = ALPHA, pairs: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Comparison:  # fmt: skip
    """Compare the networks of a panel.

    Parameters
    ----------
    groupings
        Metadata columns over the panel's cases.
    samples, seed
        Bootstrap samples of the ranking, and their seed.
    smallest
        Cases a group needs to be tested.
    pairs
        Also test every two columns together, where the groups are large enough.
    progress
        Called with the name of each part when it is done.

    Raises
    ------
    EvaluationError
        Where a grouping is of other cases or empty.
    """
    done = progress or (lambda _: None)
    summary = summarise(panel)
    done("figures")
    stacked = panel.stacked
    significance, ranking = {}, {}
    for m, column in enumerate(panel.columns):
        significance[column] = pairwise(stacked[:, :, m], panel.networks, alpha)
        ranking[column] = bootstrap_ranks(stacked[:, :, m], samples, seed)
        done(column)
    more, notes = _two_at_a_time(groupings, smallest) if pairs else ([], [])
    every = (*groupings, *more)
    groups = {}
    for grouping in every:
        tests = tuple(compare_panel(panel, grouping, smallest=smallest, alpha=alpha))
        groups[grouping.column] = tests
        notes += [note for note in grouping.notes if note not in notes]
        warned = dict.fromkeys(w for test in tests for w in test.warnings)
        for warning in warned:
            log.warning("%s", warning)
        done(grouping.column)
    for note in notes:
        log.warning("%s", note)
    return Comparison(
        panel, summary, significance, ranking, every, groups, worst_cases(panel),
        (*panel.notes, *notes),
    )  # fmt: skip
