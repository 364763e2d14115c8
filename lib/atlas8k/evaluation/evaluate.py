"""Label maps against their truth: DSC and NSD of every case and organ."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atlas8k.errors import Atlas8kError
from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.folders import find_labels, onto_truth, read_case
from atlas8k.evaluation.overlap import counts
from atlas8k.evaluation.results import Results, listing
from atlas8k.evaluation.statistics import Floats, bootstrap_interval, mean_sd
from atlas8k.evaluation.surface import TOLERANCE_MM, nsd
from atlas8k.evaluation.tables import Table, exact, number, plus_minus
from atlas8k.organs import ORGAN_NAMES

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of one network over a folder.

    Attributes
    ----------
    dsc, nsd
        Per-case results in 0..1.
    spurious_ml
        ``(cases, organs)`` volume predicted of organs the truth lacks, ml.
    tolerance_mm
        Of NSD.
    failures
        Case to the reason why it could not be evaluated.
    notes
        What a reader must know.
    """

    dsc: Results
    nsd: Results
    spurious_ml: Floats
    tolerance_mm: float
    failures: dict[str, str]
    notes: tuple[str, ...]


def evaluate_case(
    pred: Path, truth: Path, tolerance_mm: float = TOLERANCE_MM, *, resampled: bool = False
) -> tuple[Floats, Floats, Floats]:
    """DSC, NSD and spurious volume (ml) of one case, each ``(organs,)`` float64.

    Raises
    ------
    EvaluationError, VolumeError
        Where a file cannot be read or the grids differ.
    """
    got, want = onto_truth(read_case(pred), read_case(truth), resampled=resampled)
    found = counts(got.array, want.array)
    surface = nsd(got.array, want.array, want.grid.spacing, tolerance_mm)
    return found.dsc, surface, found.spurious * want.grid.voxel_ml


def evaluate_folder(
    pred_dir: str | Path, truth_dir: str | Path, *, network: str | None = None,
    tolerance_mm: float = TOLERANCE_MM, missing_as_zero: bool = False, resampled: bool = False,
    workers: int | None = None, progress: Callable[[str], None] | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate every case of a folder of predictions that has a truth.

    Parameters
    ----------
    pred_dir, truth_dir
        Folders as :func:`atlas8k.evaluation.folders.find_labels` reads them.
    network
        Name in tables, by default the folder's.
    missing_as_zero
        A case with a truth and no prediction is 0 for every organ it has; otherwise it is
        left out. Either way it is told.
    resampled
        Allow predictions on another grid than their truth.
    progress
        Called with each case's name when it is done.

    Raises
    ------
    EvaluationError
        Where the folders share no case, or no case could be evaluated.
    """
    preds, truths = find_labels(pred_dir), find_labels(truth_dir)
    shared = [case for case in truths if case in preds]
    if not shared:
        raise EvaluationError(
            pred_dir, f"has no case in common with {truth_dir} (its first is {min(preds)}, "
            f"there {min(truths)}); are the case names the same?",
        )  # fmt: skip
    notes = []
    missing = [case for case in truths if case not in preds]
    if missing:
        how = "count as 0" if missing_as_zero else "are left out"
        notes.append(f"{len(missing)} cases have no prediction and {how}: {listing(missing)}")
    extra = [case for case in preds if case not in truths]
    if extra:
        notes.append(f"{len(extra)} predictions have no truth and are left out: {listing(extra)}")
    wanted = list(truths) if missing_as_zero else shared

    def one(case: str) -> tuple[Floats, Floats, Floats] | str:
        try:
            if case not in preds:
                label = read_case(truths[case]).array
                zero = np.where(np.isin(np.arange(1, len(ORGAN_NAMES) + 1), label), 0.0, np.nan)
                return zero, zero, np.zeros(len(ORGAN_NAMES))
            return evaluate_case(preds[case], truths[case], tolerance_mm, resampled=resampled)
        except Atlas8kError as err:
            return str(err)
        finally:
            if progress is not None:
                progress(case)

    with ThreadPoolExecutor(workers or min(4, len(os.sched_getaffinity(0)))) as pool:
        found = dict(zip(wanted, pool.map(one, wanted), strict=True))
    failures = {case: got for case, got in found.items() if isinstance(got, str)}
    good = {case: got for case, got in found.items() if not isinstance(got, str)}
    if not good:
        case, reason = next(iter(failures.items()))
        raise EvaluationError(pred_dir, f"no case could be evaluated; {case}: {reason}")
    if failures:
        notes.append(f"{len(failures)} cases could not be evaluated: {listing([*failures])}")
    for note in notes:
        log.warning("%s", note)
    name = network or Path(pred_dir).resolve().name
    cases = tuple(good)
    dsc, surface, spurious = (np.stack([got[n] for got in good.values()]) for n in range(3))
    told = tuple(notes)
    return Evaluation(
        Results(name, "dsc", cases, ORGAN_NAMES, dsc, None, told),
        Results(name, "nsd", cases, ORGAN_NAMES, surface, None, told),
        spurious, tolerance_mm, failures, told,
    )  # fmt: skip


def evaluation_table(evaluation: Evaluation, seed: int = 0) -> Table:
    """DSC and NSD per organ and on average: n, mean ± SD and 95 % bootstrap interval."""
    results = (evaluation.dsc, evaluation.nsd)
    per_case = [mean_sd(result.values, axis=1)[0] for result in results]
    spurious = np.append(
        np.count_nonzero(evaluation.spurious_ml, axis=0),
        np.count_nonzero(evaluation.spurious_ml.any(axis=1)),
    )
    rows: list[tuple[str, ...]] = []
    records: list[tuple[str, ...]] = [(
        "organ", "n", "dsc_mean", "dsc_sd", "dsc_low", "dsc_high",
        "nsd_mean", "nsd_sd", "nsd_low", "nsd_high", "cases_spurious",
    )]  # fmt: skip
    for m, organ in enumerate((*ORGAN_NAMES, "average")):
        shown, full, n = [], [], 0
        for result, means in zip(results, per_case, strict=True):
            column = result.values[:, m] if m < len(ORGAN_NAMES) else means
            mean, sd, count = (float(v) for v in mean_sd(column))
            low, high = bootstrap_interval(column, seed=seed)
            n = int(count)
            interval = "–" if np.isnan(low) else f"{number(low)} to {number(high)}"
            shown += [plus_minus(mean, sd), interval]
            full += [exact(v) for v in (mean, sd, low, high)]
        rows.append((organ, str(n), *shown, str(spurious[m])))
        records.append((organ, str(n), *full, str(spurious[m])))
    return Table(
        "evaluation",
        f"{evaluation.dsc.network} against the truth",
        f"{len(evaluation.dsc.cases)} cases. DSC and NSD (tolerance "
        f"{evaluation.tolerance_mm:g} mm) in %, mean±population SD over the n cases whose truth "
        "has the organ, 95 % percentile bootstrap interval of the mean (1,000 samples); average: "
        "over the per-case means. Spurious: cases in which an organ was predicted that the truth "
        "lacks.",
        ("organ", "n", "DSC", "95 % interval", "NSD", "95 % interval", "spurious"),
        tuple(rows), records=tuple(records),
    )  # fmt: skip
