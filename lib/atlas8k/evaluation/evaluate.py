"""Label maps against their truth: DSC and NSD of every case and organ."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.errors import Atlas8kError
from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.folders import find_labels, onto_truth, read_case, read_masks
from atlas8k.evaluation.overlap import counts
from atlas8k.evaluation.results import Results, listing
from atlas8k.evaluation.statistics import Floats, bootstrap_interval, mean_sd
from atlas8k.evaluation.surface import TOLERANCE_MM, nsd
from atlas8k.evaluation.tables import Table, exact, number, plus_minus
from atlas8k.evaluation.truth import Truth, read_truth
from atlas8k.labels.datasets import Dataset
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
        ``(cases, organs)`` volume predicted of organs the truth labels and lacks, ml.
    labeled
        ``(cases, organs)`` bool, whether the truth labels the organ.
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
    labeled: npt.NDArray[np.bool_]
    tolerance_mm: float
    failures: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class CaseEvaluation:
    """One case; arrays are ``(organs,)``, organ id order.

    Attributes
    ----------
    dsc, nsd
        In 0..1; NaN where the truth lacks the organ or does not label it.
    spurious_ml
        Predicted of organs that the truth labels and lacks.
    labeled
        Whether the truth labels the organ.
    presumed
        Nothing says which organs the truth labels.
    without_file
        Organs of the truth that a prediction of one file an organ has none of.
    """

    dsc: Floats
    nsd: Floats
    spurious_ml: Floats
    labeled: npt.NDArray[np.bool_]
    presumed: bool
    without_file: tuple[str, ...] = ()


def evaluate_case(
    pred: Path, truth: Path | Truth, tolerance_mm: float = TOLERANCE_MM, *,
    resampled: bool = False, stated: str | None = None,
) -> CaseEvaluation:  # fmt: skip
    """Evaluate one case.

    Raises
    ------
    EvaluationError, VolumeError
        Where a file cannot be read or the grids differ.
    """
    known = truth if isinstance(truth, Truth) else read_truth(truth, stated=stated)
    label, without = read_masks(pred, stated) if pred.is_dir() else (read_case(pred, stated), ())
    got, want = onto_truth(label, known.volume, resampled=resampled)
    found = counts(got.array, want.array)
    labeled = np.isin(ORGAN_NAMES, [*known.labeled])
    surface = nsd(got.array, want.array, want.grid.spacing, tolerance_mm)
    there = found.truth[[ORGAN_NAMES.index(organ) for organ in without]] > 0
    return CaseEvaluation(
        np.where(labeled, found.dsc, np.nan),
        np.where(labeled, surface, np.nan),
        np.where(labeled, found.spurious * want.grid.voxel_ml, 0.0),
        labeled,
        known.presumed,
        tuple(o for o, has in zip(without, there, strict=True) if has and o in known.labeled),
    )


def _not_predicted(truth: Truth) -> CaseEvaluation:
    """0 for every organ that the truth has."""
    there = np.isin(np.arange(1, len(ORGAN_NAMES) + 1), truth.volume.array)
    labeled = np.isin(ORGAN_NAMES, [*truth.labeled])
    zero = np.where(there & labeled, 0.0, np.nan)
    return CaseEvaluation(zero, zero, np.zeros(len(ORGAN_NAMES)), labeled, truth.presumed)


def evaluate_folder(
    pred_dir: str | Path, truth_dir: str | Path, *, network: str | None = None,
    tolerance_mm: float = TOLERANCE_MM, missing_as_zero: bool = False, resampled: bool = False,
    organs: Collection[str] | None = None, dataset: Dataset | None = None,
    stated: str | None = None, workers: int | None = None,
    progress: Callable[[str], None] | None = None,
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
    organs
        Those that the truth labels. ``None``: those of the dataset, or those that any case
        of the truth has; a prediction of another one is not spurious.
    dataset
        Whose values the truth's maps have; ``None``: our organ ids.
    stated
        How the axes of files run, on both sides, that do not say it, such as ``RAS``.
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

    def one(case: str) -> CaseEvaluation | str:
        try:
            truth = read_truth(truths[case], organs, dataset, stated)
            if case not in preds:
                return _not_predicted(truth)
            return evaluate_case(
                preds[case], truth, tolerance_mm, resampled=resampled, stated=stated
            )
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
    dsc, surface, spurious = (
        np.stack([getattr(got, name) for got in good.values()])
        for name in ("dsc", "nsd", "spurious_ml")
    )
    labeled = np.stack([got.labeled for got in good.values()])
    notes += _without_files(good)
    presumed = np.array([got.presumed for got in good.values()])
    nowhere = np.isnan(dsc).all(axis=0) & ~labeled[~presumed].any(axis=0)
    notes += _never_labeled(nowhere, spurious)
    labeled, spurious = labeled & ~nowhere, np.where(nowhere, 0.0, spurious)
    for note in notes:
        log.warning("%s", note)
    name = network or Path(pred_dir).resolve().name
    cases, told = tuple(good), tuple(notes)
    return Evaluation(
        Results(name, "dsc", cases, ORGAN_NAMES, dsc, None, told),
        Results(name, "nsd", cases, ORGAN_NAMES, surface, None, told),
        spurious, labeled, tolerance_mm, failures, told,
    )  # fmt: skip


def _without_files(good: Mapping[str, CaseEvaluation]) -> list[str]:
    """Say which predictions have no file of an organ that the truth has."""
    lacking = {o: [c for c, got in good.items() if o in got.without_file] for o in ORGAN_NAMES}
    return [
        f"{organ}: {len(cases)} predictions have no file of it and count as 0: {listing(cases)}; "
        "leave the organ out with --organs if the network has none"
        for organ, cases in lacking.items()
        if cases
    ]


def _never_labeled(nowhere: npt.NDArray[np.bool_], spurious: Floats) -> list[str]:
    predicted = nowhere & spurious.any(axis=0)
    names = [name for name, never in zip(ORGAN_NAMES, predicted, strict=True) if never]
    if not names:
        return []
    return [
        f"no case of the truth has {', '.join(names)}: taken as not labeled, and predictions of "
        "them are not counted; name all organs that the truth labels with --organs to count them"
    ]


def evaluation_table(evaluation: Evaluation, seed: int = 0) -> Table:
    """DSC and NSD per organ and on average: n, mean ± SD and 95 % bootstrap interval."""
    results = (evaluation.dsc, evaluation.nsd)
    per_case = [mean_sd(result.values, axis=1)[0] for result in results]
    spurious = np.append(
        np.count_nonzero(evaluation.spurious_ml, axis=0),
        np.count_nonzero(evaluation.spurious_ml.any(axis=1)),
    )
    labeled = [*evaluation.labeled.any(axis=0), True]
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
        false_alarms = str(spurious[m]) if labeled[m] else ""
        rows.append((organ, str(n), *shown, false_alarms or "–"))
        records.append((organ, str(n), *full, false_alarms))
    return Table(
        "evaluation",
        f"{evaluation.dsc.network} against the truth",
        f"{len(evaluation.dsc.cases)} cases. DSC and NSD (tolerance "
        f"{evaluation.tolerance_mm:g} mm) in %, mean±population SD over the n cases whose truth "
        "has the organ, 95 % percentile bootstrap interval of the mean (1,000 samples); average: "
        "over the per-case means. Spurious: cases in which an organ was predicted that the truth "
        "labels and lacks (– where it labels the organ in no case).",
        ("organ", "n", "DSC", "95 % interval", "NSD", "95 % interval", "spurious"),
        tuple(rows), records=tuple(records),
    )  # fmt: skip
