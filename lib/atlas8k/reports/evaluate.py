"""Evaluate label maps against their truth: DSC and NSD of every case and organ."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlas8k.core.components import label_components
from atlas8k.core.errors import Atlas8kError, EvaluationError
from atlas8k.core.structures import ORGAN_NAMES, parts_of
from atlas8k.core.volume import Volume
from atlas8k.labels.datasets import Dataset
from atlas8k.metrics.overlap import counts
from atlas8k.metrics.surface import TOLERANCE_MM, described, nsd, tolerances
from atlas8k.reports.folders import (
    Truth,
    find_labels,
    onto_truth,
    read_case,
    read_masks,
    read_truth,
)
from atlas8k.reports.results import METRICS, Results, listing
from atlas8k.reports.statistics import Floats, bootstrap_interval, mean_sd
from atlas8k.reports.tables import Table, number, plus_minus

log = logging.getLogger(__name__)

Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of one network over a folder.

    Attributes
    ----------
    dsc, nsd
        Per-case results in 0..1.
    spurious_ml
        ``(cases, organs)`` volume predicted of organs the truth labels and lacks, ml.
    spurious_pieces
        ``(cases, organs)`` int: its connected pieces.
    labeled
        ``(cases, organs)`` bool, whether the truth labels the organ.
    tolerance_mm
        Of NSD.
    failures
        Case to the reason why it could not be evaluated.
    """

    dsc: Results
    nsd: Results
    spurious_ml: Floats
    spurious_pieces: npt.NDArray[np.intp]
    labeled: npt.NDArray[np.bool_]
    tolerance_mm: float
    failures: dict[str, str]

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader."""
        return self.dsc.notes


@dataclass(frozen=True, eq=False)
class CaseEvaluation:
    """One case; arrays are ``(organs,)``, organ id order.

    Attributes
    ----------
    dsc, nsd
        In 0..1; NaN where the truth lacks the organ or does not label it.
    spurious_ml
        Predicted of organs that the truth labels and lacks.
    spurious_pieces
        Its connected pieces (26 neighbours).
    labeled
        Whether the truth labels the organ.
    presumed
        Whether it is assumed that the truth labels all organs: nothing states which.
    without_file
        Organs of the truth that the prediction, masks of one organ a file, has no file of.
    """

    dsc: Floats
    nsd: Floats
    spurious_ml: Floats
    spurious_pieces: npt.NDArray[np.intp]
    labeled: npt.NDArray[np.bool_]
    presumed: bool
    without_file: tuple[str, ...] = ()


def evaluate_volumes(
    pred: Volume, truth: Truth, tolerance_mm: float = TOLERANCE_MM, *, resampled: bool = False
) -> CaseEvaluation:
    """Evaluate a label map, ``(X, Y, Z)`` uint8 organ ids.

    Raises
    ------
    EvaluationError, VolumeError
        Where the grids differ or values are no organ ids.
    """
    prediction, reference = onto_truth(pred, truth.volume, resampled=resampled)
    voxels = counts(prediction.array, reference.array)
    labeled = np.isin(ORGAN_NAMES, [*truth.labeled])
    surface = nsd(
        prediction.array, reference.array, reference.grid.spacing, tolerances(tolerance_mm)
    )
    spurious = np.where(labeled, voxels.spurious, 0)
    pieces = np.zeros(len(ORGAN_NAMES), dtype=np.intp)
    for organ in np.flatnonzero(spurious):
        mask = np.isin(prediction.array, parts_of(int(organ) + 1))
        pieces[organ] = label_components(mask).max()
    return CaseEvaluation(
        np.where(labeled, voxels.dsc, np.nan),
        np.where(labeled, surface, np.nan),
        spurious * reference.grid.voxel_ml,
        pieces,
        labeled,
        truth.presumed,
    )


def evaluate_case(
    pred: Path, truth: Truth, tolerance_mm: float = TOLERANCE_MM, *,
    resampled: bool = False, orientation: str | None = None,
) -> CaseEvaluation:  # fmt: skip
    """Evaluate the label map, or the folder of organ masks, at a path.

    Raises
    ------
    EvaluationError, VolumeError
        Where a file cannot be read or the grids differ.
    """
    if not pred.is_dir():
        label = read_case(pred, orientation)
        return evaluate_volumes(label, truth, tolerance_mm, resampled=resampled)
    label, without = read_masks(pred, orientation)
    evaluation = evaluate_volumes(label, truth, tolerance_mm, resampled=resampled)
    in_truth = ~np.isnan(evaluation.dsc[[ORGAN_NAMES.index(organ) for organ in without]])
    return replace(
        evaluation, without_file=tuple(o for o, has in zip(without, in_truth, strict=True) if has)
    )


def _not_predicted(truth: Truth) -> CaseEvaluation:
    """Return 0 for every organ that the truth has."""
    present = np.isin(np.arange(1, len(ORGAN_NAMES) + 1), truth.volume.array)
    labeled = np.isin(ORGAN_NAMES, [*truth.labeled])
    zero = np.where(present & labeled, 0.0, np.nan)
    none = np.zeros(len(ORGAN_NAMES))
    return CaseEvaluation(zero, zero, none, none.astype(np.intp), labeled, truth.presumed)


def _measure(
    keys: Collection[Key],
    evaluate: Callable[[Key], CaseEvaluation],
    workers: int | None,
    progress: Callable[[Key], object] | None,
) -> tuple[dict[Key, CaseEvaluation], dict[Key, str]]:
    """Evaluate cases on several threads; return the results, and the reasons of failures."""

    def evaluate_or_reason(key: Key) -> CaseEvaluation | str:
        try:
            return evaluate(key)
        except (Atlas8kError, OSError) as err:  # a file may go while others are read
            return str(err)
        finally:
            if progress is not None:
                progress(key)

    with ThreadPoolExecutor(workers or min(4, len(os.sched_getaffinity(0)))) as pool:
        outcomes = dict(zip(keys, pool.map(evaluate_or_reason, keys), strict=True))
    measured = {key: outcome for key, outcome in outcomes.items() if not isinstance(outcome, str)}
    return measured, {key: outcome for key, outcome in outcomes.items() if isinstance(outcome, str)}


def results_of(
    network: str, cases: Mapping[str, CaseEvaluation], notes: tuple[str, ...] = ()
) -> tuple[Results, Results]:
    """Return the DSC and NSD of a network's cases, one at least."""
    dsc, surface = (
        Results(
            network, metric, tuple(cases), tuple(ORGAN_NAMES),
            np.stack([getattr(case, metric) for case in cases.values()]), notes=notes,
        )
        for metric in METRICS
    )  # fmt: skip
    return dsc, surface


def evaluate_folder(
    pred_dir: str | Path, truth_dir: str | Path, *, network: str | None = None,
    tolerance_mm: float = TOLERANCE_MM, missing_as_zero: bool = False, resampled: bool = False,
    organs: Collection[str] | None = None, dataset: Dataset | None = None,
    orientation: str | None = None, workers: int | None = None,
    progress: Callable[[str], object] | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate every case of a folder of predictions that has a truth.

    Parameters
    ----------
    pred_dir, truth_dir
        Folders as :func:`atlas8k.reports.folders.find_labels` reads them.
    network
        Name in tables, by default the folder's.
    missing_as_zero
        A case with a truth and no prediction is 0 for every organ it has; otherwise it is
        left out. Either way it is noted.
    resampled
        Allow predictions on another grid than their truth.
    organs
        Those that the truth labels. ``None``: those of the dataset, or those that any case
        of the truth has; a prediction of another one is not spurious.
    dataset
        Whose values the truth's maps have; ``None``: our organ ids.
    orientation
        Direction of the axes of files, on both sides, that do not state it, such as ``RAS``.
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

    def evaluate_one(case: str) -> CaseEvaluation:
        truth = read_truth(truths[case], organs, dataset, orientation)
        if case not in preds:
            return _not_predicted(truth)
        return evaluate_case(
            preds[case], truth, tolerance_mm, resampled=resampled, orientation=orientation
        )

    selected = [*truths] if missing_as_zero else shared
    measured, failures = _measure(selected, evaluate_one, workers, progress)
    if not measured:
        case, reason = next(iter(failures.items()))
        raise EvaluationError(pred_dir, f"no case could be evaluated; {case}: {reason}")
    if failures:
        notes.append(f"{len(failures)} cases could not be evaluated: {listing([*failures])}")
    notes += _without_files(measured)
    spurious, pieces, labeled = (
        np.stack([getattr(result, name) for result in measured.values()])
        for name in ("spurious_ml", "spurious_pieces", "labeled")
    )
    present = ~np.isnan([result.dsc for result in measured.values()]).all(axis=0)
    known = np.any([result.labeled for result in measured.values() if not result.presumed], axis=0)
    nowhere = ~(present | known)
    notes += _never_labeled(nowhere, spurious)
    for note in notes:
        log.warning("%s", note)
    dsc, surface = results_of(network or Path(pred_dir).resolve().name, measured, tuple(notes))
    return Evaluation(
        dsc,
        surface,
        np.where(nowhere, 0.0, spurious),
        np.where(nowhere, 0, pieces),
        labeled & ~nowhere,
        tolerance_mm,
        failures,
    )


def _without_files(measured: Mapping[str, CaseEvaluation]) -> list[str]:
    """Return notes on predictions that have no file of an organ that the truth has."""
    lacking = {
        o: [c for c, result in measured.items() if o in result.without_file] for o in ORGAN_NAMES
    }
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
    """Return DSC and NSD per organ and on average: n, mean ± SD, 95 % bootstrap interval."""
    spurious = evaluation.spurious_ml > 0
    spurious = np.column_stack([spurious, spurious.any(axis=1)]).sum(axis=0)
    labeled = [*evaluation.labeled.any(axis=0), True]
    rows, records = [], []
    for m, organ in enumerate((*ORGAN_NAMES, "average")):
        cells: list[str] = []
        full: dict[str, float] = {}
        for result in (evaluation.dsc, evaluation.nsd):
            column = (
                result.values[:, m] if m < len(ORGAN_NAMES) else mean_sd(result.values, axis=1)[0]
            )
            mean, sd, n = (float(figure) for figure in mean_sd(column))
            low, high = bootstrap_interval(column, seed=seed)
            interval = "–" if np.isnan(low) else f"{number(low)} to {number(high)}"
            cells += [plus_minus(mean, sd), interval]
            figures = {"mean": mean, "sd": sd, "low": low, "high": high}
            full |= {f"{result.metric}_{name}": v for name, v in figures.items()}
        false_alarms = str(spurious[m]) if labeled[m] else ""
        rows.append((organ, str(int(n)), *cells, false_alarms or "–"))
        records.append({"organ": organ, "n": int(n), **full, "cases_spurious": false_alarms})
    return Table(
        "evaluation",
        f"{evaluation.dsc.network} against the truth",
        f"{len(evaluation.dsc.cases)} cases. DSC and NSD (tolerance "
        f"{described(evaluation.tolerance_mm)}) in %, mean±population SD over the n cases whose "
        "truth has the organ, 95 % percentile bootstrap interval of the mean (1,000 samples); "
        "average: over the per-case means. Spurious: cases in which an organ was predicted that "
        "the truth labels and lacks (– where it labels the organ in no case).",
        ("organ", "n", "DSC", "95 % interval", "NSD", "95 % interval", "spurious"),
        tuple(rows), records=pd.DataFrame(records),
    )  # fmt: skip


def measure_states(
    states: Mapping[str, Mapping[str, Path]],
    truths: Mapping[str, Path],
    tolerance_mm: float = TOLERANCE_MM,
    *,
    orientation: str | None = None,
    progress: Callable[[tuple[str, Path]], object] | None = None,
) -> tuple[dict[str, dict[str, Results]], list[str]]:
    """Measure label maps of several states; a file that is in two states is read once.

    Parameters
    ----------
    states
        Name of a state (before, after a round, a network's) to case to label map, as
        :func:`~.folders.read_case` reads it.
    truths
        Case to its truth.
    tolerance_mm
        Of NSD.
    orientation
        Direction of the axes of files that do not state it, such as ``RAS``.
    progress
        Called for each file measured.

    Returns
    -------
    results, notes
        ``"dsc"`` and ``"nsd"`` to state to its per-case results, without states of which no
        case could be measured; and notes for the reader.

    Raises
    ------
    EvaluationError
        Where no file could be measured.
    """
    every = (key for labels in states.values() for key in labels.items())
    keys = dict.fromkeys(key for key in every if key[0] in truths)

    def evaluate_one(key: tuple[str, Path]) -> CaseEvaluation:
        case, path = key
        truth = read_truth(truths[case], orientation=orientation)
        return evaluate_case(path, truth, tolerance_mm, orientation=orientation)

    measured, failures = _measure(keys, evaluate_one, None, progress)
    if not measured:
        reason = next(iter(failures.values()), "no case has a truth")
        raise EvaluationError("labels", f"none could be measured; {reason}")
    notes = [f"{case} is left out: {reason}" for (case, _), reason in failures.items()]
    results: dict[str, dict[str, Results]] = {metric: {} for metric in METRICS}
    for name, labels in states.items():
        unknown = [case for case in labels if case not in truths]
        if unknown:
            notes.append(f"{name}: {len(unknown)} cases have no truth: {listing(unknown)}")
        cases = {
            case: measured[case, path] for case, path in labels.items() if (case, path) in measured
        }
        if not cases:
            notes.append(f"{name}: no case could be measured")
            continue
        for metric, result in zip(METRICS, results_of(name, cases), strict=True):
            results[metric][name] = result
    notes = [*dict.fromkeys(notes)]
    for note in notes:
        log.warning("%s", note)
    return results, notes
