"""Per-case results of a network in Touchstone's CSV form: read from anyone, written by us."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.sheets import Sheet, read_sheet
from atlas8k.evaluation.summary_rows import sums_up
from atlas8k.organs import ORGAN_NAMES, find_organ
from atlas8k.volume import publish

log = logging.getLogger(__name__)

METRICS = ("dsc", "nsd")
_ABSENT = {"", "nan", "na", "n/a", "none", "null", "-"}
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Results:
    """One network's results for one metric.

    Attributes
    ----------
    network
        Name shown in tables.
    metric
        ``"dsc"`` or ``"nsd"``.
    cases
        Case names, file order.
    organs
        Organ names of the columns there are, organ id order.
    values
        ``(cases, organs)`` float64 in 0..1; NaN where the organ is absent.
    path
        The file, ``None`` where there is none.
    notes
        What a reader must know about how the file was taken, one sentence each.
    """

    network: str
    metric: str
    cases: tuple[str, ...]
    organs: tuple[str, ...]
    values: npt.NDArray[np.float64]
    path: Path | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.cases), len(self.organs)):
            raise EvaluationError(
                self.path or self.network,
                f"values {self.values.shape} for {len(self.cases)} cases and "
                f"{len(self.organs)} organs",
            )


def listing(names: list[str], most: int = 8) -> str:
    """The names in one line; how many more there are, where they are many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def find_networks(path: str | Path) -> list[Path]:
    """Return the path itself, or the folders with results of a network that lie in it."""
    path = Path(path)
    if not path.is_dir() or _has_results(path):
        return [path]
    return sorted(one for one in path.iterdir() if one.is_dir() and _has_results(one)) or [path]


def _has_results(folder: Path) -> bool:
    return any((folder / f"{metric}.csv").is_file() for metric in METRICS)


def find_file(path: str | Path, metric: str) -> Path:
    """The CSV of a metric: the path itself, or ``<metric>.csv`` in the folder.

    Raises
    ------
    EvaluationError
        Where there is none.
    """
    path = Path(path)
    if path.is_dir():
        file = path / f"{metric}.csv"
        if not file.is_file():
            there = sorted(item.name for item in path.glob("*.csv"))
            raise EvaluationError(
                path, f"has no {metric}.csv (it has {listing(there) or 'no CSV at all'})"
            )
        return file
    if not path.is_file():
        raise EvaluationError(path, "no such file or folder")
    return path


def _number(sheet: Sheet, text: str, line: int, column: str) -> float:
    if text.lower() in _ABSENT:
        return math.nan
    try:
        value = float(text.replace(",", ".") if sheet.decimal_comma else text)
    except ValueError:
        raise EvaluationError(
            sheet.path, f"column {column}: {text!r} is no number; leave an absent organ empty", line
        ) from None
    if math.isinf(value):
        raise EvaluationError(sheet.path, f"column {column}: {text!r} is not finite", line)
    return value


def _check_range(
    sheet: Sheet, values: npt.NDArray[np.float64], organs: tuple[str, ...], lines: list[int]
) -> None:
    """Refuse values outside 0..1; say so where they look like percent."""
    bad = np.argwhere((values < -_ROUNDING) | (values > 1 + _ROUNDING))
    if not len(bad):
        return
    row, column = (int(n) for n in bad[0])
    value, known = values[row, column], values[~np.isnan(values)]
    percent = known.min() >= 0 and known.max() <= 100 and float(np.median(known)) > 1
    reason = (
        f"column {organs[column]}: {value:g} looks like percent; divide the values by 100"
        if percent
        else f"column {organs[column]}: {value:g} is outside 0..1"
    )
    raise EvaluationError(sheet.path, f"{reason} ({len(bad)} such values)", lines[row])


def read_results(path: str | Path, metric: str = "dsc", network: str | None = None) -> Results:
    """Read one network's per-case results.

    Parameters
    ----------
    path
        A CSV, or a folder with ``dsc.csv`` and ``nsd.csv`` named after its network.
    metric
        ``"dsc"`` or ``"nsd"``.
    network
        Name to show; by default the folder's name, or the file's.

    Returns
    -------
    Results
        Columns under any alias of an organ in any order; ``notes`` names the columns that
        are no organ of ours, the organs without a column, and rows that are no cases.

    Raises
    ------
    EvaluationError
        Names file and row: values that are no numbers or outside 0..1, percent, a case or
        an organ twice, a file without organs or cases.
    """
    file = find_file(path, metric)
    sheet = read_sheet(file)
    columns: dict[str, int] = {}
    unknown: list[str] = []
    notes: list[str] = []
    for at, title in enumerate(sheet.columns):
        organ = find_organ(title)
        if organ is None:
            unknown.append(title or f"(column {at + 2}, without a name)")
            continue
        if organ.name in columns:
            other = sheet.columns[columns[organ.name]]
            raise EvaluationError(file, f"columns {other} and {title} are both {organ.name}", 1)
        columns[organ.name] = at
        if title != organ.name:
            notes.append(f"column {title} is read as {organ.name}")
    if not columns:
        raise EvaluationError(
            file,
            f"has no organ column among {listing(unknown)}; ours are {listing([*ORGAN_NAMES], 9)}",
        )
    if unknown:
        notes.append(f"columns that are no organ of ours, not read: {listing(unknown, 20)}")
    organs = tuple(name for name in ORGAN_NAMES if name in columns)
    missing = [name for name in ORGAN_NAMES if name not in columns]
    if missing:
        notes.append(f"organs without a column: {listing(missing, 9)}")
    rows = {
        case: [_number(sheet, fields[columns[organ]], line, organ) for organ in organs]
        for case, (line, fields) in sheet.rows.items()
    }
    summaries = [name for _, name in sheet.summaries]
    for name in sheet.doubtful:
        row = np.array(rows[name])
        others = np.array([rows[case] for case in rows if case not in sheet.doubtful])
        if len(others) and sums_up(row, others):
            summaries.append(name)
            del rows[name]
        else:
            notes.append(f"row {name} is read as a case: its values do not sum up the others")
    if summaries:
        notes.append(
            f"rows that sum up the cases, left out: {listing(summaries)} "
            f"({len(rows)} cases are read)"
        )
    if not rows:
        raise EvaluationError(file, "has rows that sum up cases and no case")
    values = np.array(list(rows.values()))
    _check_range(sheet, values, organs, [sheet.rows[case][0] for case in rows])
    if network is None:
        network = file.parent.resolve().name if file.stem.lower() in METRICS else file.stem
    for note in notes:
        log.warning("%s: %s", file, note)
    return Results(
        network, metric, tuple(rows), organs, np.clip(values, 0.0, 1.0), file, tuple(notes)
    )


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text: complete under its name or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def csv_text(header: list[str], rows: list[list[str]]) -> str:
    """Comma-separated text with one header line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def write_results(path: str | Path, results: Results) -> Path:
    """Write Touchstone's form: ``name`` and the nine organs; empty where absent.

    Every digit is written: reading gives the same numbers back.
    """
    at = {organ: n for n, organ in enumerate(results.organs)}
    rows = [
        [case]
        + [
            "" if organ not in at or math.isnan(row[at[organ]]) else repr(float(row[at[organ]]))
            for organ in ORGAN_NAMES
        ]
        for case, row in zip(results.cases, results.values, strict=True)
    ]
    return write_text(path, csv_text(["name", *ORGAN_NAMES], rows))
