"""How good labels are, before and after: AbdomenAtlas-8K's Tables 5 to 7."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.panel import Panel, align
from atlas8k.evaluation.results import Results
from atlas8k.evaluation.statistics import holm, mean_sd, signed_rank
from atlas8k.evaluation.tables import Table, exact, number, p_text, plus_minus, stars

STARS = "ns p > 0.05, * p ≤ 0.05, ** p ≤ 0.01, *** p ≤ 0.001, **** p ≤ 0.0001"


def _counts(panel: Panel) -> str:
    known = ~np.isnan(panel.stacked)
    return ", ".join(
        f"{column} {int(known[:, :, m].all(axis=0).sum())}"
        for m, column in enumerate(panel.columns)
    )


def rounds_table(results: Sequence[Results]) -> Table:
    """Label quality before and after rounds of revision (Table 5).

    Parameters
    ----------
    results
        Per-case results of the labels against the truth, in the order of the rounds; the
        first is before.

    Raises
    ------
    EvaluationError
        As :func:`atlas8k.evaluation.panel.align`, and for fewer than two.
    """
    if len(results) < 2:
        raise EvaluationError("rounds", "results before and after one round at least are needed")
    panel = align(results)
    stacked = panel.stacked
    means, sds, n = mean_sd(stacked, axis=1)
    p = np.full(means.shape, np.nan)
    for r in range(1, len(results)):
        raw = [signed_rank(a, b) for a, b in zip(stacked[r].T, stacked[r - 1].T, strict=True)]
        p[r] = holm(np.array(raw))
    rows = [
        (
            name,
            *(
                number(float(means[r, m])) + ("" if r == 0 else f" {stars(float(p[r, m]))}")
                for m in range(len(panel.columns))
            ),
        )
        for r, name in enumerate(panel.networks)
    ]
    gain = means[-1] - means[0]
    rows.append(("change", *("–" if np.isnan(g) else f"{100 * g:+.1f}" for g in gain)))
    records: list[tuple[str, ...]] = [("round", "class", "n", "mean", "sd", "p_holm")]
    records += [
        (name, column, str(int(n[r, m])), exact(float(means[r, m])), exact(float(sds[r, m])),
         exact(float(p[r, m])))
        for r, name in enumerate(panel.networks)
        for m, column in enumerate(panel.columns)
    ]  # fmt: skip
    metric = panel.metric.upper()
    return Table(
        f"rounds-{panel.metric}",
        f"Label quality over rounds, {metric}",
        f"Mean {metric} in % over the cases where the organ is present, average over per-case "
        f"means; paired cases: {_counts(panel)}. Stars: better than the row before, one-sided "
        f"Wilcoxon signed rank test, Holm's adjustment over a row; {STARS}. Change: last row "
        "less first, percentage points.",
        ("labels", *panel.columns),
        tuple(rows),
        records=tuple(records),
    )


def training_sets_table(first: Results, second: Results) -> Table:
    """Networks trained on two sets, tested on one (Tables 6 and 7).

    Raises
    ------
    EvaluationError
        As :func:`atlas8k.evaluation.panel.align`.
    """
    panel = align([first, second])
    stacked = panel.stacked
    raw = np.array(
        [signed_rank(a, b, "two-sided") for a, b in zip(*(s.T for s in stacked), strict=True)]
    )
    adjusted = holm(raw)
    means, sds, n = mean_sd(stacked, axis=1)
    rows = [
        (
            name,
            *(plus_minus(float(m), float(s)) for m, s in zip(means[r], sds[r], strict=True)),
        )
        for r, name in enumerate(panel.networks)
    ]
    rows.append(("p", *(p_text(float(q)) for q in adjusted)))
    rows.append(("", *(stars(float(q)) for q in adjusted)))
    better = np.nan_to_num(means[1], nan=-1) > np.nan_to_num(means[0], nan=-1)
    strong = {(int(better[m]), m + 1) for m in range(len(panel.columns)) if adjusted[m] <= 0.05}
    records: list[tuple[str, ...]] = [("training_set", "class", "n", "mean", "sd", "p", "p_holm")]
    records += [
        (name, column, str(int(n[r, m])), exact(float(means[r, m])), exact(float(sds[r, m])),
         exact(float(raw[m])), exact(float(adjusted[m])))
        for r, name in enumerate(panel.networks)
        for m, column in enumerate(panel.columns)
    ]  # fmt: skip
    metric = panel.metric.upper()
    return Table(
        f"training-sets-{panel.metric}",
        f"{panel.networks[0]} against {panel.networks[1]}, {metric}",
        f"{metric} in %, mean±population SD over the cases where the organ is present, average "
        f"over per-case means; paired cases: {_counts(panel)}. p: two-sided Wilcoxon signed rank "
        f"test, Holm's adjustment over the columns; {STARS}. Bold: significantly better.",
        ("trained on", *panel.columns),
        tuple(rows),
        frozenset(strong),
        tuple(records),
    )
