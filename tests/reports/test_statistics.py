import csv
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.results import Results, align, read_results
from atlas8k.reports.statistics import (
    bootstrap_interval,
    bootstrap_ranks,
    holm,
    pairwise,
    signed_rank,
    summarise,
    worst_case,
)


@pytest.fixture(scope="module")
def published(touchstone):
    with open(touchstone / "published_table3_dsc.csv", encoding="utf-8") as stream:
        return {row.pop("network"): row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def panel(touchstone, published):
    return align([read_results(touchstone / network) for network in published])


def test_touchstone_table_3_to_the_printed_digit(panel, published):
    summary = summarise(panel)
    ours = {
        network: {
            column: f"{100 * summary.mean[n, m]:.1f}±{100 * summary.sd[n, m]:.1f}"
            for m, column in enumerate(panel.columns)
        }
        for n, network in enumerate(panel.networks)
    }
    assert sum(len(row) for row in published.values()) == 90
    assert ours == published


def holm_by_hand(p):
    order = np.argsort(p)
    out, most = np.empty_like(p), 0.0
    for rank, at in enumerate(order):
        most = max(most, min(1.0, (len(p) - rank) * p[at]))
        out[at] = most
    return out


@pytest.mark.parametrize("column", ["aorta", "gall_bladder", "average"])
def test_touchstone_p_values_against_scipy(touchstone, panel, published, column):
    """From the CSV cells straight to scipy, apart from all of our reading and pairing."""
    series = {}
    for network in published:
        with open(touchstone / network / "dsc.csv", encoding="utf-8") as stream:
            rows = {row.pop("name"): row for row in csv.DictReader(stream)}
        series[network] = {
            case: float(row[column])
            if column != "average"
            else sum(map(float, filled)) / len(filled)
            for case, row in rows.items()
            if (filled := [v for v in row.values() if v]) and (column == "average" or row[column])
        }
    names = list(published)
    raw = []
    for a in names:
        for b in names:
            if a == b:
                continue
            cases = sorted(series[a].keys() & series[b].keys())
            x, y = ([series[n][case] for case in cases] for n in (a, b))
            raw.append(stats.wilcoxon(x, y, alternative="greater").pvalue)
    m = panel.columns.index(column)
    found = pairwise(panel.stacked[:, :, m], panel.networks)
    off = ~np.eye(len(names), dtype=bool)
    # Per-case means differ in the last bit from sums in another order, and with them ties.
    tolerance = 1e-9 if column != "average" else 1e-6
    np.testing.assert_allclose(found.p[off], raw, rtol=tolerance, atol=1e-300)
    np.testing.assert_allclose(found.adjusted[off], holm_by_hand(np.array(raw)), rtol=tolerance)
    assert np.isnan(np.diag(found.p)).all()


def test_pairwise_with_ties_zeros_and_gaps():
    rng = np.random.default_rng(0)
    values = np.round(rng.random((4, 60)), 1)
    values[:, 5] = np.nan
    values[3] = values[2]
    for gaps in (False, True):
        if gaps:
            values[1, 7:20] = np.nan
        found = pairwise(values, "abcd")
        for i in range(4):
            for j in range(4):
                if i != j:
                    assert found.p[i, j] == signed_rank(values[i], values[j])
        assert found.p[2, 3] == found.p[3, 2] == 1.0
        assert found.pairs[0, 1] == (46 if gaps else 59)


def test_winners_are_those_nobody_beats():
    rng = np.random.default_rng(1)
    base = rng.random(200) * 0.5
    values = np.stack([base + 0.3, base + 0.3 + rng.normal(0, 1e-3, 200), base, base * np.nan])
    found = pairwise(values, ["a", "b", "c", "empty"])
    assert set(found.winners) == {"a", "b"}
    assert found.adjusted[0, 2] < 0.05 < found.adjusted[2, 0]
    assert np.isnan(found.p[3, 0])


def test_holm_is_monotone_and_ignores_nan():
    p = np.array([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(holm(p), [0.03, np.nan, 0.06, 0.06])


def test_worst_case_of_known_values():
    values = np.append(np.arange(1, 101) / 100, np.nan)
    # The 10 % quantile by linear interpolation is 0.109: 0.01 to 0.10 lie below.
    assert worst_case(values) == pytest.approx(np.mean(np.arange(1, 11) / 100))
    assert np.isnan(worst_case(np.array([np.nan])))


def test_bootstrap_interval_covers_the_mean():
    rng = np.random.default_rng(2)
    inside = 0
    for seed in range(60):
        low, high = bootstrap_interval(rng.normal(0.8, 0.1, 40), 400, seed=seed)
        inside += low <= 0.8 <= high
    assert 50 <= inside <= 60
    assert np.isnan(bootstrap_interval(np.array([0.5]))).all()


def test_ranks_are_stable_where_networks_differ_and_not_where_they_do_not():
    rng = np.random.default_rng(3)
    values = np.stack([rng.normal(level, 0.05, 300) for level in (0.5, 0.9, 0.7)])
    values[:, ::7] = np.nan
    ranking = bootstrap_ranks(values)
    assert ranking.rank.tolist() == [3, 1, 2]
    np.testing.assert_array_equal(ranking.frequency, [[0, 0, 1], [1, 0, 0], [0, 1, 0]])
    assert ranking.tau == 1.0
    assert ranking.samples == 1000
    same = bootstrap_ranks(rng.normal(0.8, 0.05, (3, 50)))
    assert same.tau < 0.9
    np.testing.assert_allclose(same.frequency.sum(axis=1), 1.0)
    assert (same.low <= same.rank).all()
    assert (same.rank <= same.high).all()


def test_bootstrap_means_are_the_resampled_ones():
    values = np.array([[0.2, 0.4, 0.9], [0.31, 0.36, 0.67]])
    # Ranks change only with the drawn cases: 27 equally likely draws give the exact share.
    draws = np.array([[a, b, c] for a in range(3) for b in range(3) for c in range(3)])
    means = values[:, draws].mean(axis=2)
    share = np.mean(means[0] > means[1] + 1e-12)
    ranking = bootstrap_ranks(values, samples=20000)
    assert ranking.frequency[0, 0] == pytest.approx(share, abs=0.02)


def many(cases, networks=50):
    rng = np.random.default_rng(0)
    names = tuple(f"c{n}" for n in range(cases))
    truth = rng.random((cases, 9)) < 0.2
    out = []
    for n in range(networks):
        values = np.clip(rng.normal(0.8 + n / 1000, 0.1, (cases, 9)), 0, 1)
        values[truth] = np.nan
        out.append(Results(f"n{n}", "dsc", names, ORGAN_NAMES, values))
    return out


def test_memory_grows_linearly_with_cases():
    """50 networks: four times the cases take no more than five times the memory above base."""
    peaks = []
    for cases in (1000, 4000):
        results = many(cases)
        tracemalloc.start()
        panel = align(results)
        summarise(panel)
        bootstrap_ranks(panel.stacked[:, :, -1], samples=100)
        pairwise(panel.stacked[:4, :, 0], panel.networks[:4])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]
