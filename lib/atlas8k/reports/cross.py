"""Build A-Eval's matrix: networks trained on one dataset, tested on each of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atlas8k.core.errors import EvaluationError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.results import Results, find_file, listing, read_results
from atlas8k.reports.statistics import Floats, mean_sd
from atlas8k.reports.tables import Table, count_range, long_records, number, plus_minus


@dataclass(frozen=True, eq=False)
class Cross:
    """Mean results of every training set (row) on every test set (column).

    Attributes
    ----------
    metric
        ``"dsc"`` or ``"nsd"``.
    train, test
        Names of the datasets.
    classes
        Organs that every pair has results for; a cell is the mean of their means.
    values
        ``(train, test)`` float64, 0..1; NaN where nothing was run.
    cases
        ``(train, test)`` int: cases with a value.
    notes
        Notes for the reader.
    """

    metric: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: tuple[str, ...]
    values: Floats
    cases: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    notes: tuple[str, ...] = ()


def margins(
    values: Floats,
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], tuple[float, float]]:
    """Return mean and population SD of every row, of every column, and of all cells.

    Parameters
    ----------
    values
        ``(train, test)``; NaN cells do not count.
    """
    row = mean_sd(values, axis=1)
    column = mean_sd(values, axis=0)
    whole = mean_sd(values.ravel())
    return row[:2], column[:2], (float(whole[0]), float(whole[1]))


def cross(results: Mapping[tuple[str, str], Results]) -> Cross:
    """Build the matrix from the results of each (training set, test set).

    Only organs with a value in every pair enter, so that all cells are means over the same
    classes.

    Raises
    ------
    EvaluationError
        Where there are no results, metrics are mixed, or results share no class.
    """
    if not results:
        raise EvaluationError("results", "none are given; RESULTS/<train>/<test>/dsc.csv is read")
    metrics = {result.metric for result in results.values()}
    if len(metrics) > 1:
        raise EvaluationError("results", f"of different metrics: {listing(sorted(metrics))}")
    train = tuple(dict.fromkeys(pair[0] for pair in results))
    test = tuple(dict.fromkeys(pair[1] for pair in results))
    means: dict[tuple[str, str], dict[str, float]] = {}
    for pair, result in results.items():
        of_class = mean_sd(result.values)[0]
        means[pair] = {
            organ: float(value)
            for organ, value in zip(result.organs, of_class, strict=True)
            if not np.isnan(value)
        }
    classes = tuple(o for o in ORGAN_NAMES if all(o in organs for organs in means.values()))
    if not classes:
        each = "; ".join(f"{a} on {b}: {listing([*m], 9)}" for (a, b), m in means.items())
        raise EvaluationError("results", f"no class is in all of them ({each})")
    notes = [f"classes shared by all: {', '.join(classes)}"]
    not_shared = [
        o for o in ORGAN_NAMES if o not in classes and any(o in m for m in means.values())
    ]
    if not_shared:
        notes.append(f"classes not in all of them, left out: {', '.join(not_shared)}")
    values = np.full((len(train), len(test)), np.nan)
    cases = np.zeros((len(train), len(test)), np.int64)
    for (a, b), result in results.items():
        cell = train.index(a), test.index(b)
        values[cell] = np.mean([means[a, b][organ] for organ in classes])
        cases[cell] = int((~np.isnan(result.values)).any(axis=1).sum())
        notes += [f"{a} on {b}: {note}" for note in result.notes]
    empty = [f"{a} on {b}" for a in train for b in test if (a, b) not in results]
    if empty:
        notes.append(f"without results: {listing(empty, 20)}")
    return Cross(metrics.pop(), train, test, classes, values, cases, tuple(notes))


def read_cross(root: str | Path, metric: str = "dsc") -> Cross:
    """Read ``root/<train>/<test>/<metric>.csv`` (or ``root/<train>/<test>.csv``).

    Raises
    ------
    EvaluationError
        As :func:`cross`, and for files that cannot be used.
    """
    root = Path(root)
    if not root.is_dir():
        raise EvaluationError(root, "no such folder; RESULTS/<train>/<test>/dsc.csv is read")
    results: dict[tuple[str, str], Results] = {}
    for train in sorted(path for path in root.iterdir() if path.is_dir()):
        for item in sorted(train.iterdir()):
            if item.is_dir() and (item / f"{metric}.csv").is_file():
                file, test = find_file(item, metric), item.name
            elif item.suffix == ".csv" and item.stem not in ("dsc", "nsd") and metric == "dsc":
                file, test = item, item.stem
            else:
                continue
            if (train.name, test) in results:
                raise EvaluationError(train, f"has results on {test} twice, as file and folder")
            results[train.name, test] = read_results(file, metric, network=train.name)
    if not results:
        raise EvaluationError(root, f"has no <train>/<test>/{metric}.csv")
    return cross(results)


def cross_table(matrix: Cross, digits: int = 2) -> Table:
    """Return the matrix with mean ± SD (population) by row and column, in percent."""
    rows, columns, whole = margins(matrix.values)
    metric = matrix.metric.upper()
    body = [
        (name, *(number(v, digits) for v in values), plus_minus(mean, sd, digits))
        for name, values, mean, sd in zip(matrix.train, matrix.values, *rows, strict=True)
    ]
    foot = (plus_minus(mean, sd, digits) for mean, sd in zip(*columns, strict=True))
    cases = ", ".join(
        f"{name} {count_range(n for n in column if n)}"
        for name, column in zip(matrix.test, matrix.cases.T, strict=True)
    )
    return Table(
        f"cross-{matrix.metric}",
        f"{metric}, training set (rows) by test set (columns)",
        f"{metric} in %, mean over the {len(matrix.classes)} classes shared "
        f"({', '.join(matrix.classes)}) of the class means; mean±population SD by row and "
        f"column; cases by column: {cases}. Bold: best training set on a test set.",
        ("train", *matrix.test, "mean±SD"),
        (*body, ("mean±SD", *foot, plus_minus(*whole, digits))),
        frozenset(
            (int(np.nanargmax(column)), n + 1)
            for n, column in enumerate(matrix.values.T)
            if not np.isnan(column).all()
        ),
        long_records(
            {"train": matrix.train, "test": matrix.test},
            **{matrix.metric: matrix.values, "cases": matrix.cases},
        ),
    )
