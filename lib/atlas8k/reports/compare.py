"""Compare networks on the cases they share: figures, tests, ranks, groups, tables."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from atlas8k.reports.groups import SMALLEST_GROUP, Grouping, GroupTest, combine, compare_panel
from atlas8k.reports.results import Panel
from atlas8k.reports.statistics import (
    ALPHA,
    BOOTSTRAP_SAMPLES,
    Ranking,
    Significance,
    Summary,
    bootstrap_ranks,
    pairwise,
    summarise,
)
from atlas8k.reports.tables import (
    Table,
    count_range,
    long_records,
    number,
    p_text,
    plus_minus,
    slug,
)

log = logging.getLogger(__name__)

MOST_COMBINED = 40
"""Groups two columns together may make; beyond that they are too many to read or test."""

WILCOXON = "one-sided Wilcoxon signed rank test, Holm's adjustment over all ordered pairs, 5 %"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Figures and tests of a panel.

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
        Notes for the reader. Groups too small to test are noted with their tests.
    """

    panel: Panel
    summary: Summary
    significance: Mapping[str, Significance]
    ranking: Mapping[str, Ranking]
    groupings: tuple[Grouping, ...]
    groups: Mapping[str, list[GroupTest]]
    worst: tuple[int, ...]
    notes: tuple[str, ...]


def worst_cases(panel: Panel, count: int = 10) -> tuple[int, ...]:
    """Return the cases with the lowest mean over networks of the per-case means, worst first."""
    means = pd.DataFrame(panel.case_means).mean()
    return tuple(means.dropna().sort_values(kind="stable").index[:count].tolist())


def _two_at_a_time(
    groupings: Sequence[Grouping], smallest: int
) -> tuple[list[Grouping], list[str]]:
    """Return pairs of columns with two groups that are large enough, and notes on the others."""
    pairs, notes = [], []
    for first, second in combinations(groupings, 2):
        both = combine(first, second)
        large = sum(len(both.members(group)) >= smallest for group in both.groups)
        if len(both.groups) > MOST_COMBINED:
            notes.append(f"{both.column}: {len(both.groups)} groups are too many, not tested")
        elif large < 2:
            notes.append(f"{both.column}: fewer than two groups have {smallest} cases, not tested")
        else:
            pairs.append(both)
    return pairs, notes


def compare(
    panel: Panel, groupings: Sequence[Grouping] = (), *, samples: int = BOOTSTRAP_SAMPLES,
    seed: int = 0, smallest: int = SMALLEST_GROUP, progress: Callable[[str], None] | None = None,
) -> Comparison:  # fmt: skip
    """Compare the networks of a panel.

    Parameters
    ----------
    groupings
        Metadata columns over the panel's cases; every two are also tested together, where the
        groups are large enough.
    samples, seed
        Bootstrap samples of the ranking, and their seed.
    smallest
        Cases a group needs to be tested.
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
        significance[column] = pairwise(stacked[:, :, m], panel.networks)
        ranking[column] = bootstrap_ranks(stacked[:, :, m], samples, seed)
        done(column)
    more, notes = _two_at_a_time(groupings, smallest)
    every = (*groupings, *more)
    groups = {}
    for grouping in every:
        tests = groups[grouping.column] = compare_panel(panel, grouping, smallest)
        notes += [note for note in grouping.notes if note not in notes]
        for warning in dict.fromkeys(w for test in tests for w in test.warnings):
            log.warning("%s", warning)
        done(grouping.column)
    for note in notes:
        log.warning("%s", note)
    return Comparison(
        panel, summary, significance, ranking, every, groups, worst_cases(panel),
        (*panel.notes, *notes),
    )  # fmt: skip


class Tables(NamedTuple):
    """The tables of a comparison, in reading order; `groups` has those of each grouping."""

    summary: Table
    worst: Table
    ranks: Table
    significances: list[Table]
    frequencies: list[Table]
    groups: list[tuple[Table, Table | None]]
    worst_cases: Table
    left_out: Table | None


def comparison_tables(comparison: Comparison) -> Tables:
    """Return every table of a comparison."""
    panel = comparison.panel
    columns = ["average", *panel.organs] if len(panel.networks) > 1 else []
    return Tables(
        summary_table(comparison),
        _worst_table(comparison),
        _rank_table(comparison),
        [_significance_table(comparison, column) for column in columns],
        [_frequency_table(comparison, column) for column in columns],
        [
            (_group_table(comparison, grouping.column), _pair_table(comparison, grouping.column))
            for grouping in comparison.groupings
        ],
        _worst_cases_table(comparison),
        _left_out_table(panel) if panel.left_out else None,
    )


def all_tables(comparison: Comparison) -> list[Table]:
    """Return every table of a comparison as one list, in reading order."""
    tables = comparison_tables(comparison)
    of_groups = [table for pair in tables.groups for table in pair if table is not None]
    ordered = [
        *tables[:3],
        *tables.significances,
        *tables.frequencies,
        *of_groups,
        tables.worst_cases,
    ]
    return [*ordered, tables.left_out] if tables.left_out else ordered


def _unit(comparison: Comparison) -> str:
    return f"{comparison.panel.metric.upper()} in %"


def summary_table(comparison: Comparison) -> Table:
    """Return mean ± SD per class and on average, winners in bold."""
    panel, summary = comparison.panel, comparison.summary
    winner = np.array(
        [[n in comparison.significance[c].winners for c in panel.columns] for n in panel.networks]
    )
    counts = ", ".join(f"{c} {count_range(summary.n[:, m])}" for m, c in enumerate(panel.columns))
    return Table(
        f"{panel.metric}-summary",
        f"{panel.metric.upper()} by class",
        f"{_unit(comparison)}, mean±population SD over the cases where the organ is present; n: "
        f"{counts}. average: over cases of the mean over a case's organs; by class: mean of the "
        f"class means. Bold: no other network is significantly better ({WILCOXON}).",
        ("network", *panel.columns, "by class"),
        tuple(
            (name, *map(plus_minus, summary.mean[n], summary.sd[n]), number(summary.by_class[n]))
            for n, name in enumerate(panel.networks)
        ),
        frozenset((n, m + 1) for n, m in np.argwhere(winner).tolist()),
        long_records(
            {"network": panel.networks, "class": panel.columns}, n=summary.n, mean=summary.mean,
            sd=summary.sd, worst=summary.worst, winner=winner.astype(int),
        ),
    )  # fmt: skip


def _worst_table(comparison: Comparison) -> Table:
    panel = comparison.panel
    return Table(
        f"{panel.metric}-worst",
        f"Worst case of {panel.metric.upper()} by class",
        f"{_unit(comparison)}, mean of the values at or below the 10 % quantile of a network's "
        "cases in a class.",
        ("network", *panel.columns),
        tuple(
            (name, *map(number, row))
            for name, row in zip(panel.networks, comparison.summary.worst, strict=True)
        ),
    )


def _rank_table(comparison: Comparison) -> Table:
    """Return the rank by mean and its 95 % bootstrap interval, per class."""
    panel = comparison.panel
    rankings = [comparison.ranking[column] for column in panel.columns]

    def cell(ranking: Ranking, n: int) -> str:
        if math.isnan(ranking.rank[n]):
            return "–"
        return f"{ranking.rank[n]:g} ({ranking.low[n]:g}–{ranking.high[n]:g})"

    taus = ", ".join(f"{c} {r.tau:.2f}" for c, r in zip(panel.columns, rankings, strict=True))
    return Table(
        f"{panel.metric}-ranks",
        f"Ranks by mean {panel.metric.upper()}",
        f"Rank, 1 is best (95 % interval over {max(r.samples for r in rankings):,} bootstrap "
        "samples of the cases). Mean Kendall tau-b between the samples' rankings and this one: "
        f"{taus}.",
        ("network", *panel.columns),
        tuple((name, *(cell(r, n) for r in rankings)) for n, name in enumerate(panel.networks)),
        frozenset(
            (n, m + 1) for m, r in enumerate(rankings) for n in np.flatnonzero(r.rank == 1).tolist()
        ),
    )


def _frequency_table(comparison: Comparison, column: str) -> Table:
    """Return the share of bootstrap samples in which a network had a rank."""
    panel, ranking = comparison.panel, comparison.ranking[column]
    order = ranking.order
    shares = ranking.frequency[order]
    return Table(
        f"{panel.metric}-rank-frequency-{slug(column)}",
        f"How often each rank, {column}",
        f"Share (%) of {ranking.samples:,} bootstrap samples of the cases in which a network had "
        "the rank by mean.",
        ("network", *(str(n + 1) for n in range(len(panel.networks)))),
        tuple(
            (panel.networks[n], *(number(v, 0) if v > 0 else "" for v in row))
            for n, row in zip(order, shares, strict=True)
        ),
        shade={(r, c + 1): float(v) for (r, c), v in np.ndenumerate(shares) if v > 0},
    )


def _significance_table(comparison: Comparison, column: str) -> Table:
    """Return adjusted p-values: the row's network better than the column's."""
    panel, significance = comparison.panel, comparison.significance[column]
    networks = panel.networks
    off = ~np.eye(len(networks), dtype=bool)
    records = long_records(
        {"better": networks, "than": networks},
        cases=significance.pairs,
        p=significance.p,
        p_holm=significance.adjusted,
    )
    return Table(
        f"{panel.metric}-significance-{slug(column)}",
        f"Who is better than whom, {column}",
        f"Adjusted p that the network of the row is better than that of the column ({WILCOXON}; "
        f"paired cases: {count_range(significance.pairs[off])}). Winners, whom nobody beats: "
        f"{', '.join(significance.winners) or 'none'}.",
        ("better ↓ than →", *networks),
        tuple(
            (name, *(p_text(p) if i != j else "" for j, p in enumerate(significance.adjusted[i])))
            for i, name in enumerate(networks)
        ),
        records=records[off.ravel()],
        shade={(i, j + 1): 1.0 for i, j in np.argwhere(significance.adjusted < ALPHA).tolist()},
    )


def _group_table(comparison: Comparison, column: str) -> Table:
    """Return mean ± SD of every group, Kruskal-Wallis and the demographic parity difference."""
    tests = comparison.groups[column]
    records = pd.DataFrame([
        {
            "network": test.network, **row._asdict(), "tested": int(row.tested),
            "kruskal_p": test.kruskal_p, "parity_difference": test.parity,
        }
        for test in tests
        for row in test.rows
    ])  # fmt: skip
    small = any(not row.tested for row in tests[0].rows)
    few = " Groups in brackets have too few cases and are not tested." if small else ""
    rows = [
        (
            networks_rows[0].group if networks_rows[0].tested else f"({networks_rows[0].group})",
            count_range(row.n for row in networks_rows),
            *(plus_minus(row.mean, row.sd) for row in networks_rows),
        )
        for networks_rows in zip(*(test.rows for test in tests), strict=True)
    ]
    return Table(
        f"{comparison.panel.metric}-groups-{slug(column)}",
        f"By {column}",
        f"{_unit(comparison)}, per-case means, mean±population SD over n cases. p: "
        "Kruskal-Wallis between the tested groups, no adjustment over networks (bold below 5 %); "
        "parity difference: demographic parity difference, the largest gap between the tested "
        f"groups' means.{few}",
        ("group", "n", *(test.network for test in tests)),
        (
            *rows,
            ("p", "", *(p_text(test.kruskal_p) for test in tests)),
            ("parity difference", "", *(number(test.parity) for test in tests)),
        ),
        frozenset((len(rows), n + 2) for n, t in enumerate(tests) if t.kruskal_p < ALPHA),
        records,
    )


def _pair_table(comparison: Comparison, column: str) -> Table | None:
    """Return Mann-Whitney between groups, for networks with a significant Kruskal-Wallis."""
    tests = [test for test in comparison.groups[column] if test.pairs]
    if not tests:
        return None
    records = pd.DataFrame(
        [(test.network, *pair) for test in tests for pair in test.pairs],
        columns=["network", "first", "second", "p", "p_bonferroni"],
    )
    p_values = [{(p.first, p.second): p.adjusted for p in test.pairs} for test in tests]
    names = list(dict.fromkeys(pair for p_of in p_values for pair in p_of))
    return Table(
        f"{comparison.panel.metric}-group-pairs-{slug(column)}",
        f"Between groups of {column}",
        "Two-sided Mann-Whitney test on per-case means, p with Bonferroni's adjustment over the "
        "pairs of a network; only networks whose Kruskal-Wallis test is below 5 %.",
        ("groups", *(test.network for test in tests)),
        tuple(
            (f"{a} / {b}", *(p_text(p_of.get((a, b), math.nan)) for p_of in p_values))
            for a, b in names
        ),
        frozenset(
            (r, c + 1)
            for r, pair in enumerate(names)
            for c, p_of in enumerate(p_values)
            if p_of.get(pair, math.nan) < ALPHA
        ),
        records,
    )


def _worst_cases_table(comparison: Comparison) -> Table:
    """Return the cases with the lowest mean over networks, every network's per-case mean."""
    panel = comparison.panel
    means = panel.case_means
    return Table(
        f"{panel.metric}-worst-cases",
        f"The {len(comparison.worst)} worst cases",
        f"{_unit(comparison)}, a case's mean over its organs by network; cases in order of their "
        "mean over the networks.",
        ("case", *panel.networks),
        tuple((panel.cases[n], *map(number, means[:, n])) for n in comparison.worst),
    )


def _left_out_table(panel: Panel) -> Table:
    """Return every case that was not compared, and the networks that lack it."""
    return Table(
        f"{panel.metric}-left-out",
        f"The {len(panel.left_out)} cases not compared",
        "Cases that are not in every network's results.",
        ("case", "missing in"),
        tuple((case, ", ".join(networks)) for case, networks in panel.left_out.items()),
    )
