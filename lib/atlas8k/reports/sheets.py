"""Read CSV from anyone: detect delimiter and byte-order mark, number rows, refuse doubles.

Spreadsheets and evaluation scripts end their tables with rows that sum up the cases: ``mean``,
``std``, ``Average DSC``, ``50%``. Counted as cases they shift every figure.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.csv_text import plain
from atlas8k.core.errors import EvaluationError
from atlas8k.core.structure_sets import normalise

CASE_COLUMNS = (
    "name", "case", "case_id", "image_id", "image", "id", "volume", "volume_id", "subject",
    "subject_id", "patient", "patient_id", "bdmap_id", "filename", "file",
)  # fmt: skip
"""Headers under which the case is looked for, normalised, in this order."""

MISSING = {"", "nan", "na", "n/a", "none", "null"}
"""Texts of a field without a value, lower case."""

_DELIMITERS = ",;\t|"
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")

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
_WORDS = _STATISTICS | _EITHER | _FILLERS
_PERCENT = re.compile(r"\d{1,2}(?:\.\d+)?\s?%(?:\s*ci)?")
_ROUNDED = 5e-3
"""Most that a statistic written with few digits may be off."""


@dataclass(frozen=True)
class Sheet:
    """A CSV with one row a case.

    Attributes
    ----------
    path
        The file.
    columns
        Headers without the case's, as written.
    rows
        Case name to ``(line of the file, fields in column order)``; file order.
    case_column
        Header of the case's column, as written.
    decimal_comma
        Whether a comma inside a field is a decimal sign (the delimiter is another).
    summaries
        Names of the rows that sum up the others (``mean``, ``std``): no cases.
    doubtful
        Names among `rows` that may be a case or sum up the others (``max``).
    """

    path: Path
    columns: tuple[str, ...]
    rows: dict[str, tuple[int, tuple[str, ...]]]
    case_column: str
    decimal_comma: bool
    summaries: tuple[str, ...]
    doubtful: tuple[str, ...]

    @cached_property
    def texts(self) -> dict[str, dict[str, str]]:
        """Fields by normalised header (lower case, underscores), then by case."""
        return {
            normalise(header): {case: fields[n] for case, (_, fields) in self.rows.items()}
            for n, header in enumerate(self.columns)
            if header
        }

    def known(self, column: str, cases: Iterable[str]) -> list[str]:
        """Return those of the cases that have a value in a column, named as in :attr:`texts`."""
        texts = self.texts[column]
        return [case for case in cases if texts.get(case, "").lower() not in MISSING]


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise EvaluationError(path, f"cannot be read ({err.strerror})") from err
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as err:
        raise EvaluationError(path, "is not UTF-8 text; save it as CSV in UTF-8") from err


def case_name(text: str) -> str:
    """Return a case's name without blanks around it and without an image file's suffix."""
    name = text.strip()
    for suffix in _SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def read_sheet(path: str | Path) -> Sheet:
    """Read a CSV whose rows are cases.

    The delimiter is the one of ``, ; tab |`` that the header has most of. Empty lines are
    skipped, and rows that sum up the others are no cases. The case is the first column named
    as in :data:`CASE_COLUMNS`.

    Raises
    ------
    EvaluationError
        Where the file cannot be read or is empty, has no case column, names a column or a
        case twice, or a row has more or fewer fields than the header.
    """
    path = Path(path)
    lines = _text(path).splitlines()
    if not any(line.strip() for line in lines):
        raise EvaluationError(path, "is empty; a header and one row a case are needed")
    start = next(n for n, line in enumerate(lines) if line.strip())
    delimiter = max(_DELIMITERS, key=lines[start].count)
    reader = csv.reader(lines[start:], delimiter=delimiter)
    try:
        read = [
            (start + reader.line_num, [plain(field) for field in fields])
            for fields in reader
            if any(field.strip() for field in fields)
        ]
    except csv.Error as err:
        raise EvaluationError(path, f"is not CSV ({err})", start + reader.line_num) from err
    header = [field.strip() for field in read.pop(0)[1]]
    names = [normalise(field) for field in header]
    for name in names:
        if name and names.count(name) > 1:
            raise EvaluationError(path, f"has two columns named {name!r}", start + 1)
    case_columns = [name for name in CASE_COLUMNS if name in names]
    if not case_columns:
        raise EvaluationError(
            path,
            f"has no column for the case among {', '.join(header[:12])}; name it 'name'",
            start + 1,
        )
    case_index = names.index(case_columns[0])
    cases = [
        case_name(fields[case_index]) if len(fields) > case_index else "" for _, fields in read
    ]
    rows: dict[str, tuple[int, tuple[str, ...]]] = {}
    summaries, doubtful = [], []
    for (line, fields), case in zip(read, cases, strict=True):
        kind = kind_of_row(case, cases)
        if kind == "summary":
            summaries.append(case)
            continue
        if len(fields) != len(header):
            raise EvaluationError(
                path, f"has {len(fields)} fields where the header has {len(header)}", line
            )
        if not case:
            raise EvaluationError(path, "has no case name", line)
        if case in rows:
            raise EvaluationError(
                path, f"case {case} is already in row {rows[case][0]}; keep one", line
            )
        if kind == "either":
            doubtful.append(case)
        rows[case] = (
            line,
            tuple(field.strip() for n, field in enumerate(fields) if n != case_index),
        )
    if not rows:
        what = "rows that sum up cases" if summaries else "a header"
        raise EvaluationError(path, f"has {what} and no case")
    columns = tuple(field for n, field in enumerate(header) if n != case_index)
    return Sheet(
        path, columns, rows, header[case_index], delimiter != ",", tuple(summaries), tuple(doubtful)
    )


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
    words = set(re.findall(r"[^\W_]+", plain))
    if not words or not words <= _WORDS:
        return "case"
    if words & _STATISTICS or {"standard", "deviation"} <= words:
        return "summary"
    if not words & _EITHER:
        return "case"
    cases = [o for o in others if not set(re.findall(r"[^\W_]+", o.casefold())) <= _WORDS]
    numbered = bool(cases) and all(any(c.isdigit() for c in other) for other in cases)
    return "summary" if numbered else "either"


def sums_up(row: npt.NDArray[np.float64], cases: npt.NDArray[np.float64]) -> bool:
    """Return whether values are one statistic of the cases in every column.

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
