"""Group cases by metadata, and test whether results differ between the groups."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from scipy import stats

from atlas8k.core.errors import EvaluationError
from atlas8k.core.structure_sets import normalise
from atlas8k.reports.results import Panel, listing
from atlas8k.reports.sheets import Sheet
from atlas8k.reports.statistics import ALPHA, Floats, bonferroni, mean_sd

log = logging.getLogger(__name__)

AGE_EDGES = (20.0, 40.0, 60.0, 80.0)
"""Years at which age is cut by default."""

USUAL_COLUMNS = (
    "age", "sex", "gender", "race", "ethnicity", "institute", "hospital", "site", "center",
    "centre", "manufacturer", "vendor", "phase", "pathology", "diagnosis",
)  # fmt: skip
"""Columns that cases are grouped by where none is named, as far as a file has them."""

_MANY_NUMBERS = 12
"""A column with more different numbers than this is cut into quarters of the cases."""

SMALLEST_GROUP = 10
"""Cases a group needs to be tested; smaller ones are shown and not tested."""


@dataclass(frozen=True)
class Grouping:
    """One metadata column over the cases of a panel.

    Attributes
    ----------
    column
        Name of the column, or two joined by `` x ``.
    labels
        Group of every case; ``None`` where the metadata has no value.
    groups
        Groups in the order to show.
    notes
        What a reader must know, one sentence each.
    combined
        Whether it is two columns together.
    """

    column: str
    labels: tuple[str | None, ...]
    groups: tuple[str, ...]
    notes: tuple[str, ...] = ()
    combined: bool = False

    def members(self, group: str) -> list[int]:
        """Return the indices of the cases of a group."""
        return [n for n, label in enumerate(self.labels) if label == group]


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _bins(values: list[float], edges: Sequence[float]) -> tuple[list[str], list[str]]:
    """Return the label of every number, and all labels: lower edge in, upper edge out."""
    names = [f"< {edges[0]:g}"]
    names += [f"{low:g} to < {high:g}" for low, high in pairwise(edges)]
    names.append(f">= {edges[-1]:g}")
    return [names[int(n)] for n in np.searchsorted(edges, values, side="right")], names


def find_column(metadata: Sheet, column: str) -> str:
    """Return the key of a metadata column, as :attr:`Sheet.texts` has it.

    Raises
    ------
    EvaluationError
        There is no such column.
    """
    name = normalise(column)
    if name not in metadata.texts:
        raise EvaluationError(
            metadata.path, f"has no column {column}; it has {listing([*metadata.texts], 20)}"
        )
    return name


def group_by(
    metadata: Sheet,
    column: str,
    cases: Sequence[str],
    edges: Sequence[float] | None = None,
) -> Grouping:
    """Group cases by a metadata column.

    Parameters
    ----------
    metadata
        A CSV with one row a case.
    column
        Any column. Numbers are cut at ``edges``; without them, age at
        :data:`AGE_EDGES`, another column of many different numbers at its quartiles.
    cases
        Cases to group, in order; those without a value are in no group, and noted.

    Raises
    ------
    EvaluationError
        Where there is no such column, none of the cases is in the metadata or has a value,
        or edges are asked for and not all values are numbers.
    """
    name = find_column(metadata, column)
    texts = metadata.texts[name]
    known = [case for case in cases if case in texts]
    if not known:
        raise EvaluationError(
            metadata.path,
            f"has none of the {len(cases)} cases (its first is {next(iter(metadata.rows))}, "
            f"theirs {cases[0]}); are the case names the same?",
        )
    notes = []
    valued = metadata.known(name, cases)
    if not valued:
        raise EvaluationError(
            metadata.path,
            f"column {name} is empty for all {len(cases)} cases (here {known[0]}); leave it out",
            metadata.rows[known[0]][0],
        )
    lacking = set(cases).difference(valued)
    without = [case for case in cases if case in lacking]
    if without:
        absent = [case for case in without if case not in texts]
        also = f", {len(absent)} of them are not in the file" if absent else ""
        have = "1 case has" if len(without) == 1 else f"{len(without)} cases have"
        notes.append(f"{name}: {have} no value{also}: {listing(without)}")
    numbers = [_number(texts[case]) for case in valued]
    numeric = bool(numbers) and not any(math.isnan(n) for n in numbers)
    if edges is None and numeric and len(set(numbers)) > _MANY_NUMBERS:
        if name == "age":
            edges = AGE_EDGES
        else:
            edges = sorted({float(q) for q in np.quantile(numbers, [0.25, 0.5, 0.75])})
            notes.append(f"{name}: many different numbers, cut at the quartiles of the cases")
    if edges is not None:
        if not numeric:
            bad = next(c for c, n in zip(valued, numbers, strict=True) if math.isnan(n))
            raise EvaluationError(
                metadata.path,
                f"column {name}, case {bad}: {texts[bad]!r} is no number to cut",
                metadata.rows[bad][0],
            )
        cut, order = _bins(numbers, sorted(edges))
        labels: dict[str, str] = dict(zip(valued, cut, strict=True))
    else:
        labels = {case: texts[case] for case in valued}
        distinct = set(labels.values())
        order = sorted(distinct, key=lambda t: (_number(t), t) if numeric else (0.0, t))
    used = set(labels.values())
    for note in notes:
        log.warning("%s: %s", metadata.path, note)
    return Grouping(
        name,
        tuple(labels.get(case) for case in cases),
        tuple(group for group in order if group in used),
        tuple(notes),
    )


def combine(first: Grouping, second: Grouping) -> Grouping:
    """Return the groups of two columns at a time: ``"f, 40 to < 60"``."""
    labels = tuple(
        None if a is None or b is None else f"{a}, {b}"
        for a, b in zip(first.labels, second.labels, strict=True)
    )
    used = set(labels)
    groups = tuple(f"{a}, {b}" for a in first.groups for b in second.groups if f"{a}, {b}" in used)
    return Grouping(f"{first.column} x {second.column}", labels, groups, combined=True)


class Pair(NamedTuple):
    """Two groups: two-sided Mann-Whitney p-value, raw and Bonferroni-adjusted."""

    first: str
    second: str
    p: float
    adjusted: float


class GroupRow(NamedTuple):
    """One group of cases: ``n`` with a result, mean and population SD, whether tested."""

    group: str
    n: int
    mean: float
    sd: float
    tested: bool


@dataclass(frozen=True)
class GroupTest:
    """One network's per-case means over the groups of one column.

    Attributes
    ----------
    network
        Whose results.
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
    rows: tuple[GroupRow, ...]
    kruskal_p: float
    pairs: tuple[Pair, ...]
    parity: float
    warnings: tuple[str, ...]


def _kruskal(samples: list[Floats]) -> float:
    if len(samples) < 2:
        return math.nan
    if np.unique(np.concatenate(samples)).size == 1:
        return 1.0  # every value is the same: nothing to rank
    return float(stats.kruskal(*samples).pvalue)


def compare_groups(
    values: Floats, grouping: Grouping, *, network: str, smallest: int = SMALLEST_GROUP
) -> GroupTest:
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
    name, least = grouping.column, max(2, smallest)
    if len(values) != len(grouping.labels):
        raise EvaluationError(name, f"{len(grouping.labels)} labels for {len(values)} cases")
    if not grouping.groups:
        raise EvaluationError(name, "no case has a value in this column; leave it out")
    rows, samples = [], {}
    for group in grouping.groups:
        known = values[grouping.members(group)]
        known = known[~np.isnan(known)]
        mean, sd, n = mean_sd(known)
        rows.append(GroupRow(group, int(n), float(mean), float(sd), len(known) >= least))
        if len(known) >= least:
            samples[group] = known
    small = [f"{row.group} (n = {row.n})" for row in rows if row.n and not row.tested]
    empty = [row.group for row in rows if not row.n]
    warnings = []
    if small:
        warnings.append(f"{name}: fewer than {least} cases, shown but not tested: {listing(small)}")
    if empty:
        warnings.append(f"{name}: groups without a result: {listing(empty)}")
    if len(samples) < 2:
        warnings.append(f"{name}: fewer than two groups are large enough to be tested")
    p = _kruskal(list(samples.values()))
    pairs: tuple[Pair, ...] = ()
    if p < ALPHA:
        names = list(combinations(samples, 2))
        raw = np.array([stats.mannwhitneyu(samples[a], samples[b]).pvalue for a, b in names])
        pairs = tuple(
            Pair(a, b, float(q), float(r))
            for (a, b), q, r in zip(names, raw, bonferroni(raw), strict=True)
        )
    means = [row.mean for row in rows if row.tested]
    parity = max(means) - min(means) if len(means) > 1 else math.nan
    return GroupTest(network, tuple(rows), p, pairs, parity, tuple(warnings))


def compare_panel(
    panel: Panel, grouping: Grouping, smallest: int = SMALLEST_GROUP
) -> list[GroupTest]:
    """Test every network's per-case means between groups."""
    return [
        compare_groups(means, grouping, network=network, smallest=smallest)
        for network, means in zip(panel.networks, panel.case_means, strict=True)
    ]
