"""Several networks' results on the cases they share."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.results import Results, listing
from atlas8k.organs import ORGAN_NAMES

log = logging.getLogger(__name__)


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
        What a reader must know, one sentence each.
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
        known = ~np.isnan(self.values)
        count = known.sum(axis=2)
        total = np.where(known, self.values, 0.0).sum(axis=2)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    @property
    def columns(self) -> tuple[str, ...]:
        """The organs and ``"average"``, as :attr:`stacked` has them."""
        return (*self.organs, "average")

    @property
    def stacked(self) -> npt.NDArray[np.float64]:
        """Values with the per-case means as a last column: ``(networks, cases, columns)``."""
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
    """Cases all have, the first one's order, and who lacks each of the others."""
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
    """Bring results onto the cases they all have; what is left out is told.

    Raises
    ------
    EvaluationError
        Two results of one name, metrics mixed, no common case.
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
        taken = result.values[[rows[case] for case in cases]]
        for m, organ in enumerate(result.organs):
            values[n, :, organs.index(organ)] = taken[:, m]
        if [case for case in result.cases if case not in lacking] != cases:
            notes.append(f"{result.network}: cases are in another order than {names[0]}'s")
    for who in dict.fromkeys(lacking.values()):
        missing = [case for case, lack in lacking.items() if lack == who]
        notes.append(
            f"{len(missing)} cases are not compared, missing in {listing(list(who))}: "
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
