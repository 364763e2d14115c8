"""A comparison as tables: figures, ranks, who beats whom, groups, worst cases."""

from __future__ import annotations

import math

import numpy as np

from atlas8k.evaluation.compare import Comparison
from atlas8k.evaluation.statistics import ALPHA
from atlas8k.evaluation.tables import Table, exact, number, p_text, plus_minus, slug

WILCOXON = "one-sided Wilcoxon signed rank test, Holm's adjustment over all ordered pairs, 5 %"


def _unit(comparison: Comparison) -> str:
    return f"{comparison.panel.metric.upper()} in %"


def _n_range(values: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}–{high}"


def summary_table(comparison: Comparison) -> Table:
    """Mean ± SD per class and on average, winners in bold."""
    panel, summary = comparison.panel, comparison.summary
    best = [
        [name in comparison.significance[column].winners for column in panel.columns]
        for name in panel.networks
    ]
    rows = tuple(
        (
            name,
            *(plus_minus(float(m), float(s)) for m, s in
              zip(summary.mean[n], summary.sd[n], strict=True)),
            number(float(summary.by_class[n])),
        )
        for n, name in enumerate(panel.networks)
    )  # fmt: skip
    records: list[tuple[str, ...]] = [("network", "class", "n", "mean", "sd", "worst", "winner")]
    for n, name in enumerate(panel.networks):
        for m, column in enumerate(panel.columns):
            figures = (summary.mean[n, m], summary.sd[n, m], summary.worst[n, m])
            records.append((
                name, column, str(int(summary.n[n, m])), *(exact(float(v)) for v in figures),
                str(int(best[n][m])),
            ))  # fmt: skip
    counts = ", ".join(
        f"{column} {_n_range(summary.n[:, m])}" for m, column in enumerate(panel.columns)
    )
    return Table(
        f"{panel.metric}-summary",
        f"{panel.metric.upper()} by class",
        f"{_unit(comparison)}, mean±population SD over the cases where the organ is present; n: "
        f"{counts}. average: over cases of the mean over a case's organs; by class: mean of the "
        f"class means. Bold: no other network is significantly better ({WILCOXON}).",
        ("network", *panel.columns, "by class"),
        rows,
        frozenset(
            (n, m + 1) for n, row in enumerate(best) for m, winner in enumerate(row) if winner
        ),
        tuple(records),
    )


def worst_table(comparison: Comparison) -> Table:
    """Worst-case figure per class."""
    panel, summary = comparison.panel, comparison.summary
    return Table(
        f"{panel.metric}-worst",
        f"Worst case of {panel.metric.upper()} by class",
        f"{_unit(comparison)}, mean of the values at or below the 10 % quantile of a network's "
        "cases in a class.",
        ("network", *panel.columns),
        tuple(
            (name, *(number(float(v)) for v in summary.worst[n]))
            for n, name in enumerate(panel.networks)
        ),
    )


def rank_table(comparison: Comparison) -> Table:
    """Rank by mean and its 95 % bootstrap interval, per class."""
    panel = comparison.panel

    def cell(column: str, n: int) -> str:
        ranking = comparison.ranking[column]
        if math.isnan(ranking.rank[n]):
            return "–"
        return f"{ranking.rank[n]:g} ({ranking.low[n]:g}–{ranking.high[n]:g})"

    taus = ", ".join(f"{c} {comparison.ranking[c].tau:.2f}" for c in panel.columns)
    samples = max(r.samples for r in comparison.ranking.values())
    return Table(
        f"{panel.metric}-ranks",
        f"Ranks by mean {panel.metric.upper()}",
        f"Rank, 1 is best (95 % interval over {samples:,} bootstrap samples of the cases). Mean "
        f"Kendall tau-b between the samples' rankings and this one: {taus}.",
        ("network", *panel.columns),
        tuple(
            (name, *(cell(column, n) for column in panel.columns))
            for n, name in enumerate(panel.networks)
        ),
        frozenset(
            (n, m + 1)
            for m, c in enumerate(panel.columns)
            for n in np.flatnonzero(comparison.ranking[c].rank == 1).tolist()
        ),
    )


def frequency_table(comparison: Comparison, column: str) -> Table:
    """Share of bootstrap samples in which a network had a rank."""
    panel, ranking = comparison.panel, comparison.ranking[column]
    order = np.argsort(np.nan_to_num(ranking.rank, nan=np.inf), kind="stable").tolist()
    shares = ranking.frequency[order]
    return Table(
        f"{panel.metric}-rank-frequency-{slug(column)}",
        f"How often each rank, {column}",
        f"Share (%) of {ranking.samples:,} bootstrap samples of the cases in which a network had "
        "the rank by mean.",
        ("network", *(str(n + 1) for n in range(len(panel.networks)))),
        tuple(
            (panel.networks[n], *(number(float(v), 0) if v > 0 else "" for v in row))
            for n, row in zip(order, shares, strict=True)
        ),
        shade=tuple(
            ((r, c + 1), float(v))
            for r, row in enumerate(shares)
            for c, v in enumerate(row)
            if v > 0
        ),
    )


def significance_table(comparison: Comparison, column: str) -> Table:
    """Adjusted p-values: the row's network better than the column's."""
    panel, found = comparison.panel, comparison.significance[column]
    records: list[tuple[str, ...]] = [("better", "than", "cases", "p", "p_holm")]
    records += [
        (a, b, str(int(found.pairs[i, j])), exact(found.p[i, j]), exact(found.adjusted[i, j]))
        for i, a in enumerate(panel.networks)
        for j, b in enumerate(panel.networks)
        if i != j
    ]
    off = found.pairs[~np.eye(len(panel.networks), dtype=bool)]
    return Table(
        f"{panel.metric}-significance-{slug(column)}",
        f"Who is better than whom, {column}",
        f"Adjusted p that the network of the row is better than that of the column ({WILCOXON}; "
        f"paired cases: {_n_range(off) if off.size else 'none'}). Winners, whom nobody beats: "
        f"{', '.join(found.winners) or 'none'}.",
        ("better ↓ than →", *panel.networks),
        tuple(
            (name, *("" if i == j else p_text(float(found.adjusted[i, j]))
                     for j in range(len(panel.networks))))
            for i, name in enumerate(panel.networks)
        ),
        records=tuple(records),
        shade=tuple(
            ((i, j + 1), 1.0)
            for i, j in np.argwhere(np.nan_to_num(found.adjusted, nan=1.0) < ALPHA).tolist()
        ),
    )  # fmt: skip


def group_table(comparison: Comparison, column: str) -> Table:
    """Mean ± SD of every group, Kruskal-Wallis and the demographic parity difference."""
    tests = comparison.groups[column]
    groups = [row.group for row in tests[0].rows]
    records: list[tuple[str, ...]] = [
        ("network", "group", "n", "mean", "sd", "tested", "kruskal_p", "parity_difference")
    ]
    for test in tests:
        records += [
            (test.network, row.group, str(row.n), exact(row.mean), exact(row.sd),
             str(int(row.tested)), exact(test.kruskal_p), exact(test.parity))
            for row in test.rows
        ]  # fmt: skip
    few = " Groups in brackets have too few cases and are not tested."
    small = [not row.tested for row in tests[0].rows]
    rows: list[tuple[str, ...]] = []
    for g, group in enumerate(groups):
        found = [test.rows[g] for test in tests]
        rows.append((
            f"({group})" if small[g] else group,
            _n_range(np.array([row.n for row in found])),
            *(plus_minus(row.mean, row.sd) for row in found),
        ))  # fmt: skip
    rows.append(("p", "", *(p_text(test.kruskal_p) for test in tests)))
    rows.append(("parity difference", "", *(number(test.parity) for test in tests)))
    return Table(
        f"{comparison.panel.metric}-groups-{slug(column)}",
        f"By {column}",
        f"{_unit(comparison)}, per-case means, mean±population SD over n cases. p: "
        "Kruskal-Wallis between the tested groups, no adjustment over networks (bold below 5 %); "
        "parity difference: demographic parity difference, the largest gap between the tested "
        f"groups' means.{few if any(small) else ''}",
        ("group", "n", *(test.network for test in tests)),
        tuple(rows),
        frozenset((len(groups), n + 2) for n, t in enumerate(tests) if t.kruskal_p < ALPHA),
        tuple(records),
    )


def pair_table(comparison: Comparison, column: str) -> Table | None:
    """Mann-Whitney between groups, for networks with a significant Kruskal-Wallis."""
    tests = [test for test in comparison.groups[column] if test.pairs]
    if not tests:
        return None
    names = list(dict.fromkeys((p.first, p.second) for test in tests for p in test.pairs))
    found = [{(p.first, p.second): p for p in test.pairs} for test in tests]
    records: list[tuple[str, ...]] = [("network", "first", "second", "p", "p_bonferroni")]
    records += [
        (test.network, p.first, p.second, exact(p.p), exact(p.adjusted))
        for test in tests
        for p in test.pairs
    ]
    return Table(
        f"{comparison.panel.metric}-group-pairs-{slug(column)}",
        f"Between groups of {column}",
        "Two-sided Mann-Whitney test on per-case means, p with Bonferroni's adjustment over the "
        "pairs of a network; only networks whose Kruskal-Wallis test is below 5 %.",
        ("groups", *(test.network for test in tests)),
        tuple(
            (f"{a} / {b}", *(p_text(f[a, b].adjusted) if (a, b) in f else "–" for f in found))
            for a, b in names
        ),
        frozenset(
            (r, c + 1)
            for r, pair in enumerate(names)
            for c, f in enumerate(found)
            if pair in f and f[pair].adjusted < ALPHA
        ),
        tuple(records),
    )


def worst_cases_table(comparison: Comparison) -> Table:
    """The cases with the lowest mean over networks, every network's per-case mean."""
    panel = comparison.panel
    means = panel.case_means
    return Table(
        f"{panel.metric}-worst-cases",
        f"The {len(comparison.worst)} worst cases",
        f"{_unit(comparison)}, a case's mean over its organs by network; cases in order of their "
        "mean over the networks.",
        ("case", *panel.networks),
        tuple((panel.cases[n], *(number(float(v)) for v in means[:, n])) for n in comparison.worst),
    )


def left_out_table(comparison: Comparison) -> Table:
    """Every case that was not compared, and who lacks it."""
    left = comparison.panel.left_out
    return Table(
        f"{comparison.panel.metric}-left-out",
        f"The {len(left)} cases not compared",
        "Cases that are not in every network's results.",
        ("case", "missing in"),
        tuple((case, ", ".join(networks)) for case, networks in left.items()),
    )


def all_tables(comparison: Comparison) -> list[Table]:
    """Every table of a comparison, in reading order."""
    columns = ["average", *comparison.panel.organs]
    tables = [summary_table(comparison), worst_table(comparison), rank_table(comparison)]
    if len(comparison.panel.networks) > 1:
        tables += [significance_table(comparison, column) for column in columns]
        tables += [frequency_table(comparison, column) for column in columns]
    for grouping in comparison.groupings:
        tables.append(group_table(comparison, grouping.column))
        pairs = pair_table(comparison, grouping.column)
        tables += [pairs] if pairs else []
    tables.append(worst_cases_table(comparison))
    if comparison.panel.left_out:
        tables.append(left_out_table(comparison))
    return tables
