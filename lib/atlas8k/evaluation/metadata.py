"""Who the cases are: metadata columns, cut into groups."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.results import listing
from atlas8k.evaluation.sheets import read_sheet
from atlas8k.organs import normalise

log = logging.getLogger(__name__)

AGE_EDGES = (20.0, 40.0, 60.0, 80.0)
"""Years at which age is cut where nothing else is asked for."""

USUAL_COLUMNS = (
    "age", "sex", "gender", "race", "ethnicity", "institute", "hospital", "site", "center",
    "centre", "manufacturer", "vendor", "phase", "pathology", "diagnosis",
)  # fmt: skip
"""Columns groups are made of where none is asked for, as far as a file has them."""

_MANY_NUMBERS = 12
"""A column with more different numbers than this is cut into quarters of the cases."""

_MISSING = {"", "nan", "na", "n/a", "none", "null"}


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
        """Indices of the cases of a group."""
        return [n for n, label in enumerate(self.labels) if label == group]


@dataclass(frozen=True)
class Metadata:
    """A table of cases.

    Attributes
    ----------
    columns
        Column's name to case to text.
    lines
        Case to line of the file, the header being line 1.
    """

    path: Path
    columns: Mapping[str, Mapping[str, str]]
    cases: tuple[str, ...]
    lines: Mapping[str, int] = field(default_factory=dict)

    def told(self, column: str, cases: Sequence[str]) -> list[str]:
        """Those of the cases that have a value in a column."""
        texts = self.columns[column]
        return [case for case in cases if texts.get(case, "").lower() not in _MISSING]


def read_metadata(path: str | Path) -> Metadata:
    """Read a CSV with one row a case; column names are normalised (lower case, underscores).

    Raises
    ------
    EvaluationError
        As :func:`atlas8k.evaluation.sheets.read_sheet`.
    """
    sheet = read_sheet(path)
    columns = {
        normalise(title): {case: fields[n] for case, (_, fields) in sheet.rows.items()}
        for n, title in enumerate(sheet.columns)
        if title
    }
    lines = {case: line for case, (line, _) in sheet.rows.items()}
    return Metadata(Path(path), columns, tuple(sheet.rows), lines)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def _bins(values: list[float], edges: Sequence[float]) -> tuple[list[str], list[str]]:
    """Label of every number and the labels in order: lower edge in, upper edge out."""
    names = [f"< {edges[0]:g}"]
    names += [f"{low:g} to < {high:g}" for low, high in pairwise(edges)]
    names.append(f">= {edges[-1]:g}")
    return [names[int(n)] for n in np.searchsorted(edges, values, side="right")], names


def group_by(
    metadata: Metadata,
    column: str,
    cases: Sequence[str],
    edges: Sequence[float] | None = None,
) -> Grouping:
    """Group cases by a metadata column.

    Parameters
    ----------
    column
        Any column. Numbers are cut at ``edges``; without them, age at
        :data:`AGE_EDGES`, another column of many different numbers at its quartiles.
    cases
        Cases to group, in order; those without a value are in no group, and told.

    Raises
    ------
    EvaluationError
        Where there is no such column, none of the cases is in the metadata or has a value,
        or edges are asked for and not all values are numbers.
    """
    name = normalise(column)
    if name not in metadata.columns:
        raise EvaluationError(
            metadata.path, f"has no column {column}; it has {listing([*metadata.columns], 20)}"
        )
    texts = metadata.columns[name]
    known = [case for case in cases if case in texts]
    if not known:
        raise EvaluationError(
            metadata.path,
            f"has none of the {len(cases)} cases (its first is {metadata.cases[0]}, theirs "
            f"{cases[0]}); are the case names the same?",
        )
    notes = []
    told = metadata.told(name, cases)
    if not told:
        raise EvaluationError(
            metadata.path,
            f"column {name} is empty for all {len(cases)} cases (here {known[0]}); leave it out",
            metadata.lines.get(known[0]),
        )
    lacking = set(cases) - set(told)
    without = [case for case in cases if case in lacking]
    if without:
        absent = [case for case in without if case not in texts]
        also = f", {len(absent)} of them are not in the file" if absent else ""
        have = "1 case has" if len(without) == 1 else f"{len(without)} cases have"
        notes.append(f"{name}: {have} no value{also}: {listing(without)}")
    numbers = [_number(texts[case]) for case in told]
    numeric = bool(numbers) and not any(math.isnan(n) for n in numbers)
    if edges is None and numeric and len(set(numbers)) > _MANY_NUMBERS:
        if name == "age":
            edges = AGE_EDGES
        else:
            edges = sorted({float(q) for q in np.quantile(numbers, [0.25, 0.5, 0.75])})
            notes.append(f"{name}: many different numbers, cut at the quartiles of the cases")
    if edges is not None:
        if not numeric:
            bad = next(c for c, n in zip(told, numbers, strict=True) if math.isnan(n))
            raise EvaluationError(
                metadata.path,
                f"column {name}, case {bad}: {texts[bad]!r} is no number to cut",
                metadata.lines.get(bad),
            )
        cut, order = _bins(numbers, sorted(edges))
        labels: dict[str, str] = dict(zip(told, cut, strict=True))
    else:
        labels = {case: texts[case] for case in told}
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
    """Groups of two columns at a time: ``"f, 40 to < 60"``."""
    labels = tuple(
        None if a is None or b is None else f"{a}, {b}"
        for a, b in zip(first.labels, second.labels, strict=True)
    )
    used = set(labels)
    groups = tuple(f"{a}, {b}" for a in first.groups for b in second.groups if f"{a}, {b}" in used)
    return Grouping(f"{first.column} x {second.column}", labels, groups, combined=True)
