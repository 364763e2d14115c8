"""Compare networks and annotators two by two: agreement, AbdomenAtlas-8K's Figure 8."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import Atlas8kError, EvaluationError
from atlas8k.core.structures import ORGAN_NAMES, ORGANS
from atlas8k.core.volume import Volume
from atlas8k.metrics.overlap import counts
from atlas8k.reports.folders import find_labels, onto_truth, read_case
from atlas8k.reports.results import listing
from atlas8k.reports.statistics import Floats, mean_sd
from atlas8k.reports.tables import Table, count_range, long_records, number

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
        Notes for the reader.
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
    progress: Callable[[str], object] | None = None,
    notes: Iterable[str] = (),
) -> Agreement:
    """Compare the label maps of several raters; each pair on the cases that both have.

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
        Where no case has two raters. A case that cannot be read, or lies on several grids,
        is left out and noted.
    """
    names = tuple(raters)
    total = np.zeros((len(names), len(names), len(ORGANS)))
    n = np.zeros(total.shape, np.int64)
    shared = np.zeros(total.shape[:2], np.int64)
    cases, reported = [], list(notes)
    for case, maps in readings:
        if len(maps) >= 2:
            try:
                pairs = list(_pairs(names, maps))
            except (Atlas8kError, OSError) as err:
                reported.append(f"{case} is left out: {err}")
                log.warning("%s", reported[-1])
            else:
                cases.append(case)
                for i, j, value, either in pairs:
                    for cell in {(i, j), (j, i)}:
                        total[cell] += value
                        n[cell] += either
                        shared[cell] += 1
        if progress is not None:
            progress(case)
    if not cases:
        reason = reported[-1] if reported else f"no case is of two of them ({listing(names)})"
        raise EvaluationError("raters", reason)
    values = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return Agreement(names, tuple(cases), values, n, shared, tuple(reported))


def _pairs(
    names: Sequence[str], readings: Mapping[str, Reading]
) -> Iterator[tuple[int, int, Floats, npt.NDArray[np.bool_]]]:
    """Yield the indices of two raters (or one twice), their DSC by organ, and if either has it."""
    present = [k for k, name in enumerate(names) if name in readings]
    base = readings[names[present[0]]]()
    # Turn each map to the first one's grid once, where that can be done.
    maps = {
        k: base if k == present[0] else onto_truth(readings[names[k]](), base)[0] for k in present
    }
    for i, j in combinations_with_replacement(present, 2):
        # A map that had to be turned lies on the canonical grid: turn its partner too.
        a, b = onto_truth(maps[i], maps[j])
        pair = counts(a.array, b.array)
        size = pair.truth + pair.prediction
        yield i, j, np.where(size > 0, 2.0 * pair.both / np.maximum(size, 1), 0.0), size > 0


def agreement(
    folders: Mapping[str, str | Path],
    progress: Callable[[str], object] | None = None,
    orientation: str | None = None,
) -> Agreement:
    """Compare label maps of several raters on the cases they all have.

    `orientation`, such as ``RAS``, is for files that do not state the direction of their axes.

    Raises
    ------
    EvaluationError
        Where there are fewer than two raters, or no common case that can be used.
    """
    if len(folders) < 2:
        raise EvaluationError("raters", "two folders at least are needed")
    labels_of = {name: find_labels(folder) for name, folder in folders.items()}
    first = next(iter(labels_of.values()))
    cases = [case for case in first if all(case in labels for labels in labels_of.values())]
    if not cases:
        each = ", ".join(f"{name}: {min(labels)}" for name, labels in labels_of.items())
        raise EvaluationError("raters", f"no case is in all folders (first cases: {each})")
    every = dict.fromkeys(case for labels in labels_of.values() for case in labels)
    incomplete = [case for case in every if case not in cases]
    notes = (
        (f"{len(incomplete)} cases are not in every folder: {listing(incomplete)}",)
        if incomplete
        else ()
    )

    def reading(path: Path) -> Reading:
        return lambda: read_case(path, orientation)

    return agreement_of(
        (
            (case, {name: reading(labels[case]) for name, labels in labels_of.items()})
            for case in cases
        ),
        labels_of,
        progress,
        notes,
    )


def agreement_tables(agreement: Agreement) -> list[Table]:
    """Return a table of the mean over organs and one for each organ, tinted from low to high."""
    raters = agreement.raters
    off = ~np.eye(len(raters), dtype=bool)
    records = long_records(
        {"rater": raters, "other": raters, "organ": ORGAN_NAMES},
        n=agreement.n,
        dsc=agreement.values,
    )
    layers = [("average", mean_sd(agreement.values, axis=2)[0], agreement.shared)]
    layers += [
        (o, agreement.values[:, :, m], agreement.n[:, :, m]) for m, o in enumerate(ORGAN_NAMES)
    ]
    tables = []
    for organ, layer, n in layers:
        known = np.argwhere(off & ~np.isnan(layer))
        values = layer[tuple(known.T)]
        counted = n[off & (n > 0)].tolist() or [0]
        low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        tables.append(Table(
            f"agreement-{organ}",
            f"Agreement of every pair, {organ}",
            f"Mean DSC in % over the cases of a pair (n: {count_range(counted)})"
            + (", then over the organs" if organ == "average" else "")
            + "; a case counts where one of the two has the organ.",
            ("", *raters),
            tuple(
                (a, *(number(v) if i != j else "" for j, v in enumerate(layer[i])))
                for i, a in enumerate(raters)
            ),
            records=records[records["rater"] != records["other"]] if organ == "average" else None,
            shade={
                (i, j + 1): float((layer[i, j] - low) / max(high - low, 1e-9))
                for i, j in known.tolist()
            },
        ))  # fmt: skip
    return tables
