"""Ranking quality: orders whose figures are known, and intervals that hold them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from tests.benchmarks._quality_ranking import (
    aurc,
    estimate,
    quantile_groups,
    ranking_quality,
    recall,
    spearman,
    within,
)

from atlas8k.core.errors import EvaluationError


def test_rho_is_scipys_ties_and_all():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 60).astype(float), rng.normal(size=60)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(b, np.exp(b)) == pytest.approx(1.0)
    assert spearman(b, -b) == pytest.approx(-1.0)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_recall_counts_the_worst_among_the_first():
    truth = np.arange(100.0)
    score = truth.copy()
    assert recall(score, truth, 0.05) == 1.0
    score[[99, 98]] = -1.0  # two of the five worst at the end of the list
    assert recall(score, truth, 0.05) == pytest.approx(0.6)
    assert recall(-truth, truth, 0.1) == 0.0


def test_a_share_of_a_few_cases_is_rounded_up():
    assert recall(np.arange(7.0), np.arange(7.0), 0.05) == 1.0
    with pytest.raises(EvaluationError):
        recall(np.arange(7.0), np.arange(7.0), 0.0)


def test_groups_are_equal_and_in_order():
    groups = quantile_groups(np.array([5.0, 1.0, 9.0, 7.0, 3.0, 11.0, 2.0, 8.0]), 4)
    np.testing.assert_array_equal(groups, [1, 0, 3, 2, 1, 3, 0, 2])
    assert quantile_groups(np.ones(8), 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_ranking_by_the_stratum_alone_has_nothing_left_within():
    rng = np.random.default_rng(3)
    strata = np.repeat(np.arange(4), 200)
    truth = 100.0 * strata + rng.normal(size=800)
    by_stratum = 100.0 * strata + rng.normal(size=800)
    assert spearman(by_stratum, truth) > 0.9
    assert abs(within(by_stratum, truth, strata)) < 0.1
    assert within(truth, truth, strata) == pytest.approx(1.0)


def test_the_interval_holds_the_true_value_and_narrows_with_cases():
    rng = np.random.default_rng(5)
    widths = []
    for n in (50, 800):
        x = rng.normal(size=n)
        y = x + rng.normal(size=n)

        def rho(i, x=x, y=y):
            return spearman(x[i], y[i])

        found = estimate(rho, n, samples=500)
        true = 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)  # Spearman's rho of this pair
        assert found.low < true < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2.5


def test_the_best_ranking_is_told_from_chance_but_not_from_itself():
    rng = np.random.default_rng(7)
    truth = rng.normal(size=150)
    scores = {"good": truth + 0.3 * rng.normal(size=150), "random": rng.normal(size=150)}
    found = ranking_quality(scores, truth, np.zeros(150, dtype=int), samples=300)
    assert list(found) == ["good", "random"]
    assert found["good"].less_than_best.value == 0.0
    assert found["random"].less_than_best.low > 0
    assert found["good"].rho.low > found["random"].rho.high


def test_a_score_that_is_no_number_names_its_ranking():
    with pytest.raises(EvaluationError, match="broken"):
        ranking_quality(
            {"broken": np.array([1.0, np.nan, 2.0])}, np.arange(3.0), np.zeros(3, dtype=int)
        )
    with pytest.raises(EvaluationError, match="one for each case"):
        spearman(np.arange(3.0), np.arange(4.0))


def test_the_area_under_the_risk_is_least_in_the_right_order():
    truth = np.array([1.0, 2.0, 3.0, 10.0])
    # Means of the first one, two, three and four that are left to themselves.
    assert aurc(truth, truth) == pytest.approx((1 + 1.5 + 2 + 4) / 4)
    assert aurc(-truth, truth) == pytest.approx((10 + 6.5 + 5 + 4) / 4)
    assert np.isnan(aurc(np.zeros(0), np.zeros(0)))
