"""How far networks and annotators agree, two by two: AbdomenAtlas-8K's Figure 8."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.errors import Atlas8kError
from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.folders import find_labels, onto_truth, read_case
from atlas8k.evaluation.overlap import counts
from atlas8k.evaluation.results import listing
from atlas8k.evaluation.statistics import Floats, mean_sd
from atlas8k.evaluation.tables import Table, exact, number
from atlas8k.organs import N_ORGANS, ORGAN_NAMES
from atlas8k.volume import Volume

log = logging.getLogger(__name__)

Reading = Callable[[], Volume]
"""Reads one rater's label map of one case."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """DSC of every pair among networks and annotators (Figure 8).

    Attributes
    ----------
    raters
        Names.
    cases
        Cases that two raters at least have.
    values
        ``(raters, raters, organs)`` mean over the cases of a pair, 0..1; symmetric, NaN
        where a pair has none. A case counts for an organ where at least one of the two
        has it: 0 where only one has.
    n
        ``(raters, raters, organs)`` cases counted.
    shared
        ``(raters, raters)`` cases that both have, whatever organs are in them.
    notes
        What a reader must know.
    """

    raters: tuple[str, ...]
    cases: tuple[str, ...]
    values: Floats
    n: npt.NDArray[np.int64]
    shared: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def agreement_of(
    readings: Iterable[tuple[str, Mapping[str, Reading]]],
    raters: Iterable[str],
    progress: Callable[[str], None] | None = None,
    notes: Iterable[str] = (),
) -> Agreement:
    """Compare what several raters say of each case; each pair on the cases that both have.

    Parameters
    ----------
    readings
        Case, and how to read the map of each rater who has it. One case's maps are in
        memory at a time.
    raters
        Names, in the order of the table.

    Raises
    ------
    EvaluationError
        No case with two raters; one that cannot be read, or lies on several grids, is left
        out and told.
    """
    names = tuple(raters)
    total = np.zeros((len(names), len(names), N_ORGANS))
    n = np.zeros(total.shape, np.int64)
    shared = np.zeros(total.shape[:2], np.int64)
    cases, told = [], list(notes)
    for case, of_case in readings:
        if len(of_case) >= 2:
            try:
                maps = _maps(names, of_case)
            except (Atlas8kError, OSError) as err:
                told.append(f"{case} is left out: {err}")
                log.warning("%s", told[-1])
            else:
                cases.append(case)
                _add(maps, total, n, shared)
        if progress is not None:
            progress(case)
    if not cases:
        reason = told[-1] if told else f"no case is of two of them ({listing(list(names))})"
        raise EvaluationError("raters", reason)
    values = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return Agreement(names, tuple(cases), values, n, shared, tuple(told))


def _maps(names: Sequence[str], readings: Mapping[str, Reading]) -> dict[int, Volume]:
    """Maps of one case by rater, turned to the first one's grid where they can be."""
    there = [k for k, name in enumerate(names) if name in readings]
    base = readings[names[there[0]]]()
    maps = {there[0]: base}
    for k in there[1:]:
        maps[k] = onto_truth(readings[names[k]](), base)[0]
    return maps


def _add(
    maps: Mapping[int, Volume],
    total: Floats,
    n: npt.NDArray[np.int64],
    shared: npt.NDArray[np.int64],
) -> None:
    for i, j in combinations(maps, 2):
        # A map that had to be turned lies on the canonical grid: turn its partner too.
        a, b = onto_truth(maps[i], maps[j])
        pair = counts(a.array, b.array)
        size = pair.truth + pair.prediction
        value = np.where(size > 0, 2.0 * pair.both / np.maximum(size, 1), 0.0)
        for at in ((i, j), (j, i)):
            total[at] += value
            n[at] += size > 0
            shared[at] += 1
    for i, volume in maps.items():
        own = np.isin(np.arange(1, N_ORGANS + 1), volume.array)
        total[i, i] += own
        n[i, i] += own
        shared[i, i] += 1


def agreement(
    folders: Mapping[str, str | Path], progress: Callable[[str], None] | None = None
) -> Agreement:
    """Compare label maps of several raters on the cases they all have.

    Raises
    ------
    EvaluationError
        Fewer than two raters, no common case, none that can be used.
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

    def reading(path: Path) -> Reading:
        return lambda: read_case(path)

    return agreement_of(
        ((case, {name: reading(labels[case]) for name, labels in found.items()}) for case in cases),
        found,
        progress,
        notes,
    )


def agreement_tables(found: Agreement) -> list[Table]:
    """A table for the mean over organs and one an organ, tinted from the least to the most."""
    tables = []
    count = len(found.raters)
    average = mean_sd(found.values, axis=2)[0]
    layers = [("average", average, found.shared)]
    layers += [(o, found.values[:, :, m], found.n[:, :, m]) for m, o in enumerate(ORGAN_NAMES)]
    records: list[tuple[str, ...]] = [("rater", "other", "organ", "n", "dsc")]
    records += [
        (a, b, organ, str(int(found.n[i, j, m])), exact(float(found.values[i, j, m])))
        for i, a in enumerate(found.raters)
        for j, b in enumerate(found.raters)
        for m, organ in enumerate(ORGAN_NAMES)
        if i != j
    ]
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    for organ, layer, n in layers:
        known = [float(layer[at]) for at in pairs if not np.isnan(layer[at])]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        tables.append(Table(
            f"agreement-{organ}",
            f"Agreement of every pair, {organ}",
            f"Mean DSC in % over the cases of a pair (n: {_spread([int(n[at]) for at in pairs])})"
            + (", then over the organs" if organ == "average" else "")
            + "; a case counts where one of the two has the organ.",
            ("", *found.raters),
            tuple(
                (a, *("" if i == j else number(float(layer[i, j])) for j in range(count)))
                for i, a in enumerate(found.raters)
            ),
            records=tuple(records) if organ == "average" else (),
            shade=tuple(
                ((i, j + 1), (float(layer[i, j]) - low) / max(high - low, 1e-9))
                for i, j in pairs
                if not np.isnan(layer[i, j])
            ),
        ))  # fmt: skip
    return tables


def _spread(n: list[int]) -> str:
    """``4`` or ``1–7``: cases of the pairs that have any."""
    known = sorted({one for one in n if one}) or [0]
    return "–".join(str(one) for one in dict.fromkeys((known[0], known[-1])))
