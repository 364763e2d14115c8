"""Compute descriptive figures, paired tests, and how stable a ranking is.

Conventions are Touchstone's: absent organs do not count, SD is the population's, the
average is the mean over cases of each case's mean over its organs, pairs are compared by
the one-sided Wilcoxon signed rank test with Holm's adjustment at 5 %.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from atlas8k.reports.results import Panel

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
WORST_QUANTILE = 0.1
BOOTSTRAP_SAMPLES = 1000


def mean_sd(values: Floats, axis: int = 0) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return mean, population SD and n over the values that are not NaN; NaN where n is 0."""
    n = np.sum(~np.isnan(values), axis=axis)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an all-NaN column is a NaN mean
        return np.nanmean(values, axis=axis), np.nanstd(values, axis=axis), n


def worst_case(values: Floats) -> float:
    """Return the mean of the values at or below the 10 % quantile (linear); NaN without any."""
    known = values[~np.isnan(values)]
    if not known.size:
        return math.nan
    return float(known[known <= np.quantile(known, WORST_QUANTILE)].mean())


def bootstrap_interval(
    values: Floats, samples: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean; NaN for fewer than two values."""
    known = values[~np.isnan(values)]
    if known.size < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    result = stats.bootstrap((known,), np.mean, n_resamples=samples, method="percentile", rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def holm(p_values: Floats) -> Floats:
    """Return Holm's adjusted p-values; NaN stays NaN and is not counted as a test."""
    return _adjusted(p_values, "holm")


def bonferroni(p_values: Floats) -> Floats:
    """Return Bonferroni's adjusted p-values; NaN stays NaN and is not counted as a test."""
    return _adjusted(p_values, "bonferroni")


def _adjusted(p_values: Floats, method: str) -> Floats:
    out = np.full(p_values.shape, np.nan)
    known = ~np.isnan(p_values)
    if known.any():
        out[known] = multipletests(p_values[known], alpha=ALPHA, method=method)[1]
    return out


def signed_rank(
    a: Floats, b: Floats, alternative: Literal["greater", "two-sided"] = "greater"
) -> float:
    """Return the p-value of the Wilcoxon signed rank test of paired values.

    Pairs with a NaN and pairs without a difference are left out. No pair left: NaN; no
    difference anywhere: 1.

    Parameters
    ----------
    alternative
        ``"greater"``: that ``a`` is greater than ``b``; ``"two-sided"``: that they differ.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    if not both.any():
        return math.nan
    difference = a[both] - b[both]
    if not difference.any():
        return 1.0
    return float(stats.wilcoxon(difference, alternative=alternative).pvalue)


@dataclass(frozen=True, eq=False)
class Significance:
    """Significance tests of every pair of networks, one column (an organ or the average).

    Attributes
    ----------
    p, adjusted
        ``(networks, networks)``: row better than column; NaN on the diagonal. ``adjusted``
        by Holm over all ordered pairs.
    winners
        Networks that no other is significantly better than.
    pairs
        ``(networks, networks)`` int: cases that both have.
    """

    p: Floats
    adjusted: Floats
    winners: tuple[str, ...]
    pairs: npt.NDArray[np.int64]


def pairwise(values: Floats, networks: Sequence[str]) -> Significance:
    """Compare all ordered pairs of networks on one column.

    Parameters
    ----------
    values
        ``(networks, cases)``; NaN where absent.
    """
    count = len(networks)
    known = ~np.isnan(values)
    pairs = known.astype(np.int64) @ known.T.astype(np.int64)
    p = np.full((count, count), np.nan)
    used = values[:, known.any(axis=0)]
    for i in range(count):
        difference = used[i] - used
        # Pairs without gaps and without equal values have tests that are alike: one call.
        alike = np.nan_to_num(difference).all(axis=1) & known.any()
        if alike.any():
            result = stats.wilcoxon(difference[alike], alternative="greater", axis=1)
            p[i, alike] = result.pvalue
        for j in np.flatnonzero(~alike):
            if i != j:
                p[i, j] = signed_rank(values[i], values[j])
    adjusted = holm(p)
    beaten = (adjusted < ALPHA).any(axis=0)
    tested = known.any(axis=1)
    winners = tuple(n for n, b, t in zip(networks, beaten, tested, strict=True) if t and not b)
    return Significance(p, adjusted, winners, pairs)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranks of networks by mean, one column, and their stability.

    Attributes
    ----------
    rank
        ``(networks,)`` 1 is best; ties share the mean rank.
    low, high
        ``(networks,)`` 95 % interval of the rank over the bootstrap samples.
    frequency
        ``(networks, networks)``: share of samples in which a network (row) had a rank
        (column + 1, ties rounded down).
    tau
        Mean Kendall tau-b between a sample's ranking and the full one.
    samples
        Bootstrap samples drawn.
    """

    rank: Floats
    low: Floats
    high: Floats
    frequency: Floats
    tau: float
    samples: int

    @property
    def order(self) -> list[int]:
        """Return the indices of the networks, the best ranked first, those without one last."""
        return [int(n) for n in np.argsort(np.nan_to_num(self.rank, nan=np.inf), kind="stable")]


def rank_means(means: Floats) -> Floats:
    """Return ranks along the last axis, the largest mean 1, ties their mean rank; NaN stays NaN."""
    ranks: Floats = stats.rankdata(-means, axis=-1, nan_policy="omit")
    return ranks


def bootstrap_ranks(values: Floats, samples: int = BOOTSTRAP_SAMPLES, seed: int = 0) -> Ranking:
    """Rank networks by mean and see how the ranks move when the cases are drawn anew.

    Parameters
    ----------
    values
        ``(networks, cases)``; NaN where absent. Cases in which no network has a value are
        not drawn; each sample draws as many cases as there are, with replacement.
    """
    used = values[:, ~np.isnan(values).all(axis=0)]
    count, cases = used.shape
    if not cases:
        none = np.full(count, np.nan)
        return Ranking(none, none, none, np.full((count, count), np.nan), math.nan, 0)
    known = ~np.isnan(used)
    filled = np.where(known, used, 0.0).T
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [np.bincount(rng.integers(0, cases, cases), minlength=cases) for _ in range(samples)]
    ).astype(np.float64)
    with np.errstate(invalid="ignore"):
        means = (drawn @ filled) / (drawn @ known.T.astype(np.float64))
    rank = rank_means(mean_sd(used, axis=1)[0])
    ranks = rank_means(means)
    tau = _mean_tau(rank, ranks) if count > 1 else math.nan
    frequency = np.stack(
        [(np.floor(ranks) == place + 1).mean(axis=0) for place in range(count)], axis=1
    )
    low, high = np.nanquantile(ranks, [0.025, 0.975], axis=0, method="inverted_cdf")
    return Ranking(rank, low, high, frequency, tau, samples)


def _mean_tau(rank: Floats, ranks: Floats) -> float:
    """Return the mean tau-b of ``rank`` with every row of ``ranks``; few rows are different."""
    rows, counts = np.unique(np.nan_to_num(ranks), axis=0, return_counts=True)
    known = ~np.isnan(rank)
    tau = [stats.kendalltau(rank[known], row[known]).statistic for row in rows]
    return float(np.average(tau, weights=counts))


@dataclass(frozen=True, eq=False)
class Summary:
    """Figures of a panel; arrays are ``(networks, columns)``, columns the panel's.

    Attributes
    ----------
    mean, sd, n
        Over the cases where the organ is present; ``average`` over the per-case means.
    worst
        Mean of the values at or below the 10 % quantile.
    by_class
        ``(networks,)`` mean of the organs' means (DSC^C); ``mean[:, -1]`` is by case (DSC^I).
    """

    mean: Floats
    sd: Floats
    n: npt.NDArray[np.int64]
    worst: Floats
    by_class: Floats


def summarise(panel: Panel) -> Summary:
    """Return mean, SD, n and worst case of every network and column."""
    stacked = panel.stacked
    mean, sd, n = mean_sd(stacked, axis=1)
    worst = np.array([[worst_case(column) for column in network.T] for network in stacked])
    by_class = mean_sd(mean[:, :-1], axis=1)[0]
    return Summary(mean, sd, n, worst, by_class)
