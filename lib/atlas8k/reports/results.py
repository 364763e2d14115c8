"""Read, align and write per-case results of networks in Touchstone's CSV form."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.core.csv_text import frame_text
from atlas8k.core.errors import EvaluationError
from atlas8k.core.files import publish
from atlas8k.core.structures import ORGAN_NAMES, find_organ
from atlas8k.reports.sheets import MISSING, Sheet, read_sheet, sums_up

log = logging.getLogger(__name__)

METRICS = ("dsc", "nsd")
_ABSENT = {*MISSING, "-"}
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
        Organ names of the columns, organ id order.
    values
        ``(cases, organs)`` float64 in 0..1; NaN where the organ is absent.
    path
        The file, ``None`` where there is none.
    notes
        Notes on how the file was read, one sentence each.
    """

    network: str
    metric: str
    cases: tuple[str, ...]
    organs: tuple[str, ...]
    values: npt.NDArray[np.float64]
    path: Path | None = None
    notes: tuple[str, ...] = ()


def listing(names: Sequence[str], most: int = 8) -> str:
    """Return the names in one line; beyond `most`, the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def find_networks(path: str | Path) -> list[Path]:
    """Return the path itself, or the folders with results of a network that lie in it."""
    path = Path(path)
    if not path.is_dir() or _has_results(path):
        return [path]
    return sorted(
        folder for folder in path.iterdir() if folder.is_dir() and _has_results(folder)
    ) or [path]


def _has_results(folder: Path) -> bool:
    return any((folder / f"{metric}.csv").is_file() for metric in METRICS)


def find_file(path: str | Path, metric: str) -> Path:
    """Return the CSV of a metric: the path itself, or ``<metric>.csv`` in the folder.

    Raises
    ------
    EvaluationError
        Where it does not exist.
    """
    path = Path(path)
    file = path / f"{metric}.csv" if path.is_dir() else path
    if file.is_file():
        return file
    if file == path:
        raise EvaluationError(path, "no such file or folder")
    present = sorted(item.name for item in path.glob("*.csv"))
    raise EvaluationError(
        path, f"has no {metric}.csv (it has {listing(present) or 'no CSV at all'})"
    )


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
    """Refuse values outside 0..1; name percent where they look like it."""
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
        Where values are no numbers, outside 0..1 or percent, a case or an organ is there
        twice, or the file has no organs or cases; the message names file and row.
    """
    file = find_file(path, metric)
    sheet = read_sheet(file)
    columns: dict[str, int] = {}
    unknown: list[str] = []
    notes: list[str] = []
    for index, title in enumerate(sheet.columns):
        organ = find_organ(title)
        if organ is None:
            unknown.append(title or f"(column {index + 2}, without a name)")
            continue
        if organ.name in columns:
            other = sheet.columns[columns[organ.name]]
            raise EvaluationError(file, f"columns {other} and {title} are both {organ.name}", 1)
        columns[organ.name] = index
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
    summaries = [*sheet.summaries]
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


def write_results(path: str | Path, results: Results) -> Path:
    """Write Touchstone's form: ``name`` and the nine organs; empty where absent.

    Every digit is written: reading gives the same numbers back.
    """
    import pandas as pd

    frame = pd.DataFrame(results.values, pd.Index(results.cases, name="name"), results.organs)
    return write_text(path, frame_text(frame.reindex(columns=[*ORGAN_NAMES]), index=True))


@dataclass(frozen=True, eq=False)
class Panel:
    """Results of networks on one set of cases.

    Attributes
    ----------
    metric
        ``"dsc"`` or ``"nsd"``.
    networks
        Names, the order given.
    cases
        Cases every network has, the first network's order.
    organs
        Organs at least one network has, organ id order.
    values
        ``(networks, cases, organs)`` float64 in 0..1; NaN where absent.
    left_out
        Case to the networks that lack it: cases not compared.
    notes
        Notes for the reader, one sentence each.
    """

    metric: str
    networks: tuple[str, ...]
    cases: tuple[str, ...]
    organs: tuple[str, ...]
    values: npt.NDArray[np.float64]
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def case_means(self) -> npt.NDArray[np.float64]:
        """Mean over the organs present, ``(networks, cases)``; NaN where none is."""
        count = np.sum(~np.isnan(self.values), axis=2)
        return np.where(count > 0, np.nansum(self.values, axis=2) / np.maximum(count, 1), np.nan)

    @property
    def columns(self) -> tuple[str, ...]:
        """Organs and ``"average"``, as :attr:`stacked` has them."""
        return (*self.organs, "average")

    @property
    def stacked(self) -> npt.NDArray[np.float64]:
        """Values with per-case means as a last column: ``(networks, cases, columns)``."""
        return np.concatenate([self.values, self.case_means[:, :, None]], axis=2)


def _named(results: Sequence[Results]) -> list[str]:
    names = [result.network for result in results]
    for name, count in Counter(names).items():
        if count > 1:
            paths = listing([str(r.path or "given twice") for r in results if r.network == name])
            raise EvaluationError(
                paths, f"{count} results are named {name}; rename a folder to tell them apart"
            )
    return names


def _shared(results: Sequence[Results]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Return the shared cases, in the first's order, and the networks that lack each other case."""
    sets = [set(result.cases) for result in results]
    for n, (result, own) in enumerate(zip(results, sets, strict=True)):
        others = set().union(*(s for m, s in enumerate(sets) if m != n)) if len(sets) > 1 else own
        if not own & others:
            raise EvaluationError(
                result.path or result.network,
                f"{result.network} has no case in common with the others (its first is "
                f"{result.cases[0]}, theirs {sorted(others)[0]}); are the case names the same?",
            )
    everywhere = set.intersection(*sets)
    if not everywhere:
        counts = ", ".join(f"{r.network} {len(r.cases)}" for r in results)
        raise EvaluationError("results", f"no case is in all of them ({counts}); compare fewer")
    order = dict.fromkeys(case for result in results for case in result.cases)
    lacking = {
        case: tuple(r.network for r, own in zip(results, sets, strict=True) if case not in own)
        for case in order
        if case not in everywhere
    }
    return [case for case in order if case in everywhere], lacking


def align(results: Sequence[Results]) -> Panel:
    """Bring results onto the cases they all have; note what is left out.

    Raises
    ------
    EvaluationError
        Where two results have one name, metrics are mixed, or no case is shared.
    """
    if not results:
        raise EvaluationError("results", "none are given")
    names = _named(results)
    metrics = sorted({result.metric for result in results})
    if len(metrics) > 1:
        raise EvaluationError("results", f"of different metrics: {', '.join(metrics)}")
    cases, lacking = _shared(results)
    organs = tuple(o for o in ORGAN_NAMES if any(o in result.organs for result in results))
    values = np.full((len(results), len(cases), len(organs)), np.nan)
    notes: list[str] = []
    for n, result in enumerate(results):
        notes += [f"{result.network}: {note}" for note in result.notes]
        rows = {case: m for m, case in enumerate(result.cases)}
        columns = [organs.index(organ) for organ in result.organs]
        values[n][:, columns] = result.values[[rows[case] for case in cases]]
        if [case for case in result.cases if case not in lacking] != cases:
            notes.append(f"{result.network}: cases are in another order than {names[0]}'s")
    for networks in dict.fromkeys(lacking.values()):
        missing = [case for case, lack in lacking.items() if lack == networks]
        notes.append(
            f"{len(missing)} cases are not compared, missing in {listing(networks)}: "
            f"{listing(missing)}"
        )
    present = ~np.isnan(values)
    uneven = present.any(axis=0) & ~present.all(axis=0)
    for m, organ in enumerate(organs):
        if uneven[:, m].any():
            some = [cases[k] for k in np.flatnonzero(uneven[:, m])]
            notes.append(
                f"{organ}: {len(some)} cases have a value for some networks only: {listing(some)}; "
                "means use what each has, paired tests the cases that both have"
            )
    for note in notes:
        log.warning("%s", note)
    return Panel(metrics[0], tuple(names), tuple(cases), organs, values, lacking, tuple(notes))
