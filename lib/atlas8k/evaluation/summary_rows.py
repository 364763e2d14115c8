"""Rows of a results table that sum up its cases: ``mean``, ``std``, ``Average DSC``, ``50%``.

Spreadsheets and evaluation scripts end their tables with such rows. Counted as cases they
shift every figure.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

import numpy as np
import numpy.typing as npt

Kind = Literal["case", "summary", "either"]

_STATISTICS = frozenset(
    {"mean", "means", "average", "averages", "avg", "median", "std", "stdev", "stddev", "sem"}
    | {"variance", "var", "quartile", "percentile", "quantile", "iqr", "overall", "summary"}
    | {"mittelwert", "durchschnitt", "moyenne", "media", "mediana", "maximum", "minimum"}
)
"""Words that no case is named after."""

_EITHER = frozenset({"sd", "min", "max", "all", "total", "sum", "count", "n", "range", "ci", "se"})
"""Words that may as well be a case's id, or initials."""

_FILLERS = frozenset(
    {"of", "over", "the", "all", "cases", "case", "volumes", "patients", "classes", "class"}
    | {"organs", "organ", "dsc", "nsd", "dice", "score", "scores", "value", "values", "per"}
    | {"and", "standard", "deviation", "dev", "error", "confidence", "interval", "95", "ci"}
    | {"total", "mean", "std", "sd", "n", "population", "sample", "average"}
)
_PERCENT = re.compile(r"\d{1,2}(?:\.\d+)?\s?%(?:\s*ci)?")
_ROUNDED = 5e-3
"""How far a statistic written with few digits may be off."""


def kind_of_row(name: str, others: Collection[str]) -> Kind:
    """Judge a row by its name.

    Parameters
    ----------
    others
        Names of the other rows: where every case has a number in its name, a row named
        ``max`` is none of them.

    Returns
    -------
    str
        ``"either"`` where the name does not settle it.
    """
    plain = name.strip().casefold().strip(".:*-– ")
    if _PERCENT.fullmatch(plain):
        return "summary"
    words = re.findall(r"[^\W_]+", plain)
    known = _STATISTICS | _EITHER | _FILLERS
    if not words or not all(word in known for word in words):
        return "case"
    if _STATISTICS.intersection(words) or {"standard", "deviation"} <= set(words):
        return "summary"
    if not _EITHER.intersection(words):
        return "case"
    cases = [other for other in others if not _is_word(other)]
    numbered = bool(cases) and all(any(c.isdigit() for c in other) for other in cases)
    return "summary" if numbered else "either"


def _is_word(name: str) -> bool:
    words = re.findall(r"[^\W_]+", name.casefold())
    return all(word in _STATISTICS | _EITHER | _FILLERS for word in words)


def sums_up(row: npt.NDArray[np.float64], cases: npt.NDArray[np.float64]) -> bool:
    """Whether values are one statistic of the cases in every column.

    Parameters
    ----------
    row
        ``(columns,)`` float64; NaN where empty.
    cases
        ``(cases, columns)`` float64; NaN where empty.
    """
    known = ~np.isnan(row) & ~np.isnan(cases).all(axis=0)
    if not known.any() or len(cases) < 2:
        return False
    values, row = cases[:, known], row[known]
    zeroed = np.nan_to_num(values)  # some scripts count an empty cell as 0
    statistics = [
        np.nanmean(values, axis=0), np.nanmedian(values, axis=0), np.nanmin(values, axis=0),
        np.nanmax(values, axis=0), np.nanstd(values, axis=0), zeroed.mean(axis=0),
        zeroed.std(axis=0), np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0),
        np.nanstd(values, axis=0) * np.sqrt(len(values) / (len(values) - 1)),
    ]  # fmt: skip
    return any(np.abs(statistic - row).max() <= _ROUNDED for statistic in statistics)
