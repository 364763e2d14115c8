"""How good labels and annotators are: AbdomenAtlas-8K's Tables 5 to 7 and Figure 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.folders import find_labels, onto_truth, read_case
from atlas8k.evaluation.overlap import counts
from atlas8k.evaluation.panel import Panel, align
from atlas8k.evaluation.results import Results, listing
from atlas8k.evaluation.statistics import Floats, holm, mean_sd, signed_rank
from atlas8k.evaluation.tables import Table, exact, number, p_text, plus_minus, stars
from atlas8k.organs import N_ORGANS, ORGAN_NAMES

_STARS = "ns p > 0.05, * p ≤ 0.05, ** p ≤ 0.01, *** p ≤ 0.001, **** p ≤ 0.0001"


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
        f"Wilcoxon signed rank test, Holm's adjustment over a row; {_STARS}. Change: last row "
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
        f"test, Holm's adjustment over the columns; {_STARS}. Bold: significantly better.",
        ("trained on", *panel.columns),
        tuple(rows),
        frozenset(strong),
        tuple(records),
    )


@dataclass(frozen=True, eq=False)
class Agreement:
    """DSC of every pair among networks and annotators (Figure 8).

    Attributes
    ----------
    raters
        Names.
    cases
        Cases all raters have.
    values
        ``(raters, raters, organs)`` mean over cases, 0..1; symmetric. A case counts for an
        organ where at least one of the two has it: 0 where only one has.
    n
        ``(raters, raters, organs)`` cases counted.
    notes
        What a reader must know.
    """

    raters: tuple[str, ...]
    cases: tuple[str, ...]
    values: Floats
    n: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    notes: tuple[str, ...]


def agreement(
    folders: Mapping[str, str | Path], progress: Callable[[str], None] | None = None
) -> Agreement:
    """Compare label maps of several raters on the cases they all have.

    Raises
    ------
    EvaluationError
        Fewer than two raters, no common case, grids that differ.
    VolumeError
        A file that cannot be read.
    """
    if len(folders) < 2:
        raise EvaluationError("raters", "two folders at least are needed")
    found = {name: find_labels(folder) for name, folder in folders.items()}
    first = next(iter(found.values()))
    cases = [case for case in first if all(case in labels for labels in found.values())]
    if not cases:
        each = ", ".join(f"{name}: {min(labels)}" for name, labels in found.items())
        raise EvaluationError("raters", f"no case is in all folders (first cases: {each})")
    every = dict.fromkeys(case for labels in found.values() for case in labels)
    left = [case for case in every if case not in cases]
    notes = (f"{len(left)} cases are not in every folder: {listing(left)}",) if left else ()
    names = tuple(found)
    total = np.zeros((len(names), len(names), N_ORGANS))
    n = np.zeros(total.shape, np.int64)
    for case in cases:
        base = read_case(found[names[0]][case])
        maps = [base] + [onto_truth(read_case(found[name][case]), base)[0] for name in names[1:]]
        for i, j in combinations(range(len(names)), 2):
            # A map that had to be turned lies on the canonical grid: turn its partner too.
            a, b = onto_truth(maps[i], maps[j])
            pair = counts(a.array, b.array)
            size = pair.truth + pair.prediction
            value = np.where(size > 0, 2.0 * pair.both / np.maximum(size, 1), 0.0)
            for at in ((i, j), (j, i)):
                total[at] += value
                n[at] += size > 0
        for i, volume in enumerate(maps):
            own = np.isin(np.arange(1, N_ORGANS + 1), volume.array)
            total[i, i] += own
            n[i, i] += own
        if progress is not None:
            progress(case)
    values = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return Agreement(names, tuple(cases), values, n, notes)


def agreement_tables(found: Agreement) -> list[Table]:
    """A table for the mean over organs and one an organ, tinted from the least to the most."""
    tables = []
    average = mean_sd(found.values, axis=2)[0]
    layers = [("average", average)]
    layers += [(organ, found.values[:, :, m]) for m, organ in enumerate(ORGAN_NAMES)]
    records: list[tuple[str, ...]] = [("rater", "other", "organ", "n", "dsc")]
    records += [
        (a, b, organ, str(int(found.n[i, j, m])), exact(float(found.values[i, j, m])))
        for i, a in enumerate(found.raters)
        for j, b in enumerate(found.raters)
        for m, organ in enumerate(ORGAN_NAMES)
        if i != j
    ]
    for organ, layer in layers:
        off = layer[~np.eye(len(found.raters), dtype=bool)]
        off = off[~np.isnan(off)]
        low, high = (float(off.min()), float(off.max())) if off.size else (0.0, 1.0)
        tables.append(Table(
            f"agreement-{organ}",
            f"Agreement of every pair, {organ}",
            f"Mean DSC in % over {len(found.cases)} cases"
            + (" and the organs" if organ == "average" else "")
            + "; a case counts where one of the two has the organ.",
            ("", *found.raters),
            tuple(
                (a, *("" if i == j else number(float(layer[i, j]))
                      for j in range(len(found.raters))))
                for i, a in enumerate(found.raters)
            ),
            records=tuple(records) if organ == "average" else (),
            shade=tuple(
                ((i, j + 1), (float(layer[i, j]) - low) / max(high - low, 1e-9))
                for i in range(len(found.raters))
                for j in range(len(found.raters))
                if i != j and not np.isnan(layer[i, j])
            ),
        ))  # fmt: skip
    return tables
