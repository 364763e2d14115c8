"""Do results differ between groups of cases: rank tests and the demographic parity gap."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.metadata import Grouping
from atlas8k.evaluation.panel import Panel
from atlas8k.evaluation.results import listing
from atlas8k.evaluation.statistics import ALPHA, Floats, bonferroni, mean_sd

SMALLEST_GROUP = 10
"""Cases a group needs to be tested; smaller ones are shown and not tested."""


@dataclass(frozen=True)
class Pair:
    """Two groups: two-sided Mann-Whitney p-value, raw and Bonferroni-adjusted."""

    first: str
    second: str
    p: float
    adjusted: float


@dataclass(frozen=True)
class GroupRow:
    """One group of cases: ``n`` with a result, mean and population SD, whether tested."""

    group: str
    n: int
    mean: float
    sd: float
    tested: bool


@dataclass(frozen=True)
class GroupTest:
    """One network's results over the groups of one column.

    Attributes
    ----------
    network, column, of
        Whose results, by what, and of which class (``"average"``: per-case means).
    rows
        Every group there is.
    kruskal_p
        Kruskal-Wallis over the tested groups; NaN with fewer than two.
    pairs
        Mann-Whitney of every two tested groups, adjusted over all of them; empty unless
        Kruskal-Wallis is significant.
    parity
        Demographic parity difference: largest gap of the mean between tested groups.
    warnings
        Plain words about what was not tested and why.
    """

    network: str
    column: str
    of: str
    rows: tuple[GroupRow, ...]
    kruskal_p: float
    pairs: tuple[Pair, ...]
    parity: float
    warnings: tuple[str, ...]


def _kruskal(samples: list[Floats]) -> float:
    if len(samples) < 2:
        return float("nan")
    if np.unique(np.concatenate(samples)).size == 1:
        return 1.0  # every value is the same: nothing to rank
    return float(stats.kruskal(*samples).pvalue)


def compare_groups(
    values: Floats, grouping: Grouping, *, network: str, of: str = "average",
    smallest: int = SMALLEST_GROUP, alpha: float = ALPHA,
) -> GroupTest:  # fmt: skip
    """Test one network's results between groups.

    Parameters
    ----------
    values
        ``(cases,)`` in the grouping's case order; NaN where the case has no result.
    smallest
        Cases a group needs to be tested, 2 at least.

    Raises
    ------
    EvaluationError
        Where the grouping is of other cases, or no case has a group.
    """
    if len(values) != len(grouping.labels):
        raise EvaluationError(
            grouping.column, f"{len(grouping.labels)} labels for {len(values)} cases"
        )
    if not grouping.groups:
        raise EvaluationError(grouping.column, "no case has a value in this column; leave it out")
    rows, samples, small, empty = [], {}, [], []
    for group in grouping.groups:
        known = values[grouping.members(group)]
        known = known[~np.isnan(known)]
        mean, sd, n = mean_sd(known)
        enough = len(known) >= max(2, smallest)
        rows.append(GroupRow(group, int(n), float(mean), float(sd), enough))
        if enough:
            samples[group] = known
        elif len(known):
            small.append(f"{group} (n = {len(known)})")
        else:
            empty.append(group)
    warnings = []
    if small:
        warnings.append(
            f"{grouping.column}: fewer than {max(2, smallest)} cases, shown but not tested: "
            f"{listing(small)}"
        )
    if empty:
        warnings.append(f"{grouping.column}: groups without a result: {listing(empty)}")
    if len(samples) < 2:
        warnings.append(f"{grouping.column}: fewer than two groups are large enough to be tested")
    p = _kruskal(list(samples.values()))
    pairs: tuple[Pair, ...] = ()
    if p < alpha:
        names = list(combinations(samples, 2))
        raw = np.array([stats.mannwhitneyu(samples[a], samples[b]).pvalue for a, b in names])
        adjusted = bonferroni(raw, alpha)
        pairs = tuple(
            Pair(a, b, float(q), float(r))
            for (a, b), q, r in zip(names, raw, adjusted, strict=True)
        )
    means = [row.mean for row in rows if row.tested]
    parity = max(means) - min(means) if len(means) > 1 else float("nan")
    return GroupTest(network, grouping.column, of, tuple(rows), p, pairs, parity, tuple(warnings))


def compare_panel(
    panel: Panel, grouping: Grouping, *, classes: bool = False, smallest: int = SMALLEST_GROUP,
    alpha: float = ALPHA,
) -> list[GroupTest]:  # fmt: skip
    """Every network's per-case means (and, with ``classes``, every organ) between groups."""
    stacked = panel.stacked
    chosen = range(len(panel.columns)) if classes else [len(panel.columns) - 1]
    return [
        compare_groups(
            stacked[n, :, m], grouping, network=network, of=panel.columns[m], smallest=smallest,
            alpha=alpha,
        )
        for n, network in enumerate(panel.networks)
        for m in chosen
    ]  # fmt: skip
