"""How well a ranking of volumes finds the volumes with the largest errors.

Scores and truth are ``(cases,)`` float64, larger is more to look at and more that is
wrong. Intervals are 95 % percentile bootstrap intervals over cases; the same cases are
drawn for every ranking, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt
from scipy import stats

from atlas8k.core.errors import EvaluationError

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

SAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; all NaN where it cannot be told."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def spearman(score: Floats, truth: Floats) -> float:
    """Spearman's rank correlation; NaN for fewer than three cases or without any spread."""
    _check(score, truth)
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(truth) == 0:
        return float("nan")
    ranks = np.stack([stats.rankdata(score), stats.rankdata(truth)])
    return float(np.corrcoef(ranks)[0, 1])


def recall(score: Floats, truth: Floats, share: float) -> float:
    """Part of the worst ``share`` of cases that is among the first ``share`` of the ranking.

    Both are ``ceil(share * cases)`` cases. By chance it is about ``share``.

    Parameters
    ----------
    share
        In 0..1, such as 0.05 for the 5 % that an annotator revises in a round.
    """
    _check(score, truth)
    if not 0 < share <= 1:
        raise EvaluationError("ranking", f"a share of {share}; give one above 0, up to 1")
    if not len(score):
        return float("nan")
    count = ceil(share * len(score) - 1e-9)
    first = np.argsort(-score, kind="stable")[:count]
    worst = np.argsort(-truth, kind="stable")[:count]
    return float(np.isin(worst, first).mean())


def aurc(score: Floats, truth: Floats) -> float:
    """Area under the risk-coverage curve: mean error of what is left unseen, over all shares.

    Cases are left to themselves from the smallest score on; the risk at a coverage is their mean
    truth (Zenk et al., *Comparative Benchmarking of Failure Detection Methods in Medical Image
    Segmentation*, 2025). Smaller is better; of scores that are equal the order is as given.
    """
    _check(score, truth)
    if not len(score):
        return float("nan")
    ordered = truth[np.argsort(score, kind="stable")]
    return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1)).mean())


def quantile_groups(values: Floats, groups: int) -> Groups:
    """Strata of about equal count by a quantity: ``(cases,)``, 0 for the smallest."""
    ranks = stats.rankdata(values, method="ordinal") - 1
    strata: Groups = (ranks * groups // max(1, len(values))).astype(np.int64)
    return strata


def within(score: Floats, truth: Floats, strata: Groups) -> float:
    """Mean of Spearman's rho within each stratum, weighted by its cases.

    A ranking that only follows what the strata are made of has none left.
    """
    rho, weight = [], []
    for stratum in np.unique(strata):
        inside = strata == stratum
        value = spearman(score[inside], truth[inside])
        if not np.isnan(value):
            rho.append(value)
            weight.append(inside.sum())
    return float(np.average(rho, weights=weight)) if rho else float("nan")


def estimate(
    figure: Callable[[Groups], float], cases: int, samples: int = SAMPLES, seed: int = 0
) -> Estimate:
    """A figure with its bootstrap interval.

    Parameters
    ----------
    figure
        Takes the indices of the cases to use, with repeats.
    cases
        How many there are.
    """
    index = np.arange(cases)
    if cases < 3:
        return Estimate(figure(index) if cases else float("nan"), float("nan"), float("nan"))
    result = stats.bootstrap(
        (index,), figure, n_resamples=samples, vectorized=False, method="percentile",
        confidence_level=LEVEL, rng=np.random.default_rng(seed),
    )  # fmt: skip
    interval = result.confidence_interval
    return Estimate(figure(index), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class RankingQuality:
    """What one ranking is worth, see :func:`ranking_quality`."""

    rho: Estimate
    recall5: Estimate
    recall10: Estimate
    rho_within: Estimate
    less_than_best: Estimate


def ranking_quality(
    scores: dict[str, Floats], truth: Floats, strata: Groups, samples: int = SAMPLES
) -> dict[str, RankingQuality]:
    """Every ranking's figures, in the order given.

    Parameters
    ----------
    scores
        By name of the ranking, ``(cases,)``.
    truth
        ``(cases,)`` what is wrong, ml.
    strata
        ``(cases,)`` such as quarters by field of view, for ``rho_within``.

    Returns
    -------
    dict
        ``less_than_best`` is the best rho less this one's: an interval that does not hold
        0 tells them apart.

    Raises
    ------
    EvaluationError
        Lengths that differ, or a value that is no number.
    """
    for name, score in scores.items():
        _check(score, truth, name)
    n = len(truth)
    best = max(scores, key=lambda name: np.nan_to_num(spearman(scores[name], truth), nan=-2.0))

    def one(score: Floats) -> RankingQuality:
        def rho(i: Groups) -> float:
            return spearman(score[i], truth[i])

        return RankingQuality(
            rho=estimate(rho, n, samples),
            recall5=estimate(lambda i: recall(score[i], truth[i], 0.05), n, samples),
            recall10=estimate(lambda i: recall(score[i], truth[i], 0.10), n, samples),
            rho_within=estimate(lambda i: within(score[i], truth[i], strata[i]), n, samples),
            less_than_best=estimate(
                lambda i: spearman(scores[best][i], truth[i]) - rho(i), n, samples
            ),
        )

    return {name: one(score) for name, score in scores.items()}


def _check(score: Floats, truth: Floats, name: str = "ranking") -> None:
    if score.shape != truth.shape or score.ndim != 1:
        raise EvaluationError(
            name, f"{score.shape} scores for {truth.shape} cases; give one for each case"
        )
    if not (np.isfinite(score).all() and np.isfinite(truth).all()):
        raise EvaluationError(name, "a score or an error volume is no number; score anew")
