"""Label maps in several states against one truth: before, after a round, of each network."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atlas8k.errors import Atlas8kError
from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.evaluate import evaluate_case
from atlas8k.evaluation.results import Results, listing
from atlas8k.evaluation.statistics import Floats
from atlas8k.evaluation.surface import TOLERANCE_MM
from atlas8k.organs import ORGAN_NAMES

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class States:
    """Results of every state.

    Attributes
    ----------
    dsc, nsd
        State to its per-case results; states without a case that could be measured are
        left out.
    notes
        What a reader must know.
    """

    dsc: dict[str, Results]
    nsd: dict[str, Results]
    notes: tuple[str, ...]

    def of(self, metric: str) -> dict[str, Results]:
        """Results of ``"dsc"`` or ``"nsd"``."""
        return self.nsd if metric == "nsd" else self.dsc


def measure_states(
    states: Mapping[str, Mapping[str, Path]],
    truths: Mapping[str, Path],
    tolerance_mm: float = TOLERANCE_MM,
    *,
    workers: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> States:
    """Measure label maps of several states; a file that is in two states is read once.

    Parameters
    ----------
    states
        Name of a state to case to label map, as :func:`~.folders.read_case` reads it.
    truths
        Case to its truth.
    tolerance_mm
        Of NSD.
    progress
        Called with a case's name for each file measured.

    Raises
    ------
    EvaluationError
        No file at all could be measured.
    """
    wanted = dict.fromkeys(
        (case, path)
        for labels in states.values()
        for case, path in labels.items()
        if case in truths
    )

    def one(key: tuple[str, Path]) -> tuple[Floats, Floats] | str:
        case, path = key
        try:
            measured = evaluate_case(path, truths[case], tolerance_mm)
            return measured.dsc, measured.nsd
        except (Atlas8kError, OSError) as err:  # a file may go while others are read
            return str(err)
        finally:
            if progress is not None:
                progress(case)

    with ThreadPoolExecutor(workers or min(4, len(os.sched_getaffinity(0)))) as pool:
        found = dict(zip(wanted, pool.map(one, wanted), strict=True))
    failed = {key: reason for key, reason in found.items() if isinstance(reason, str)}
    if len(failed) == len(found):
        reason = next(iter(failed.values()), "no case has a truth")
        raise EvaluationError("labels", f"none could be measured; {reason}")
    notes = [f"{case} is left out: {reason}" for (case, _), reason in failed.items()]
    dsc: dict[str, Results] = {}
    nsd: dict[str, Results] = {}
    for name, labels in states.items():
        rows = {c: got for c, p in labels.items() if isinstance(got := found.get((c, p)), tuple)}
        unknown = [case for case in labels if case not in truths]
        if unknown:
            notes.append(f"{name}: {len(unknown)} cases have no truth: {listing(unknown)}")
        if not rows:
            notes.append(f"{name}: no case could be measured")
            continue
        for n, (metric, results) in enumerate((("dsc", dsc), ("nsd", nsd))):
            values = np.stack([row[n] for row in rows.values()])
            results[name] = Results(name, metric, tuple(rows), ORGAN_NAMES, values)
    for note in notes:
        log.warning("%s", note)
    return States(dsc, nsd, tuple(dict.fromkeys(notes)))
