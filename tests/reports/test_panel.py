import numpy as np
import pytest

from atlas8k.core.errors import EvaluationError
from atlas8k.reports.results import Results, align


def part(results, keep, network=None):
    return Results(
        network or results.network, results.metric, tuple(results.cases[n] for n in keep),
        results.organs, results.values[list(keep)],
    )  # fmt: skip


def test_order_and_missing_cases_are_told_and_change_nothing(make_results):
    a, b = make_results("a", seed=1, cases=10), make_results("b", seed=2, cases=10)
    panel = align([a, part(b, [7, 3, 5, 1])])
    assert panel.cases == ("c0001", "c0003", "c0005", "c0007")
    np.testing.assert_array_equal(panel.values[0], a.values[[1, 3, 5, 7]])
    np.testing.assert_array_equal(panel.values[1], b.values[[1, 3, 5, 7]])
    assert panel.left_out["c0000"] == ("b",)
    assert len(panel.left_out) == 6
    told = " ".join(panel.notes)
    assert "another order" in told
    assert "6 cases are not compared, missing in b" in told


def test_network_without_a_common_case_is_refused(make_results):
    with pytest.raises(EvaluationError, match=r"z has no case in common.*x0000.*c0000"):
        align([make_results("a"), make_results("b"), make_results("z", prefix="x")])


def test_only_pairwise_overlap_is_refused(make_results):
    a = make_results("a", cases=6)
    with pytest.raises(EvaluationError, match="no case is in all"):
        align([part(a, [0, 1], "p"), part(a, [1, 2], "q"), part(a, [2, 0], "r")])


def test_same_name_and_mixed_metrics_are_refused(make_results):
    a = make_results("a")
    with pytest.raises(EvaluationError, match="named a"):
        align([a, a])
    other = Results("b", "nsd", a.cases, a.organs, a.values)
    with pytest.raises(EvaluationError, match="different metrics: dsc, nsd"):
        align([a, other])


def test_organ_missing_in_one_network_is_told(make_results):
    a = make_results("a", absent=0)
    b = make_results("b", absent=0, organs=("liver", "spleen"))
    panel = align([a, b])
    assert np.isnan(panel.values[1, :, panel.organs.index("aorta")]).all()
    assert any(note.startswith("aorta: 40 cases") for note in panel.notes)


def test_case_means_leave_absent_organs_out(make_results):
    a = make_results("a", absent=0.5)
    a.values[3] = np.nan
    panel = align([a, make_results("b", seed=3, absent=0.5)])
    want = np.array(
        [row[~np.isnan(row)].mean() if n != 3 else np.nan for n, row in enumerate(a.values)]
    )
    np.testing.assert_allclose(panel.case_means[0], want)
    assert np.isnan(panel.case_means[0, 3])
