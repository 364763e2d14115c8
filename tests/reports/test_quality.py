import numpy as np
import pytest
from scipy import stats

from atlas8k.core.errors import EvaluationError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.quality import rounds_table, training_sets_table
from atlas8k.reports.results import Results
from atlas8k.reports.tables import stars


def better(results, name, organ, by):
    values = results.values.copy()
    at = results.organs.index(organ)
    values[:, at] = np.minimum(1, values[:, at] + by)
    return Results(name, results.metric, results.cases, results.organs, values)


def test_rounds_show_what_changed_and_what_did_not(make_results):
    before = make_results("before", level=0.6)
    after = better(before, "round 1", "aorta", 0.1)
    table = rounds_table([before, after, better(after, "round 2", "aorta", 0.0)])
    assert table.columns[:2] == ("labels", "aorta")
    assert [row[0] for row in table.rows] == ["before", "round 1", "round 2", "change"]
    assert table.rows[0][1].split()[1:] == []
    assert table.rows[1][1].endswith("****")
    assert table.rows[1][2].endswith(" ns")
    assert table.rows[2][1].endswith(" ns")
    assert table.rows[3][1].startswith("+")
    assert table.rows[3][2] == "+0.0"
    assert "one-sided Wilcoxon" in table.caption
    with pytest.raises(EvaluationError, match="before and after"):
        rounds_table([before])


def test_training_sets_have_scipys_p(make_results):
    first, second = make_results("A", seed=1, absent=0), make_results("B", seed=2, absent=0)
    second = better(second, "B", "liver", 0.15)
    table = training_sets_table(first, second)
    raw = dict(zip(table.records["class"], table.records["p"], strict=True))
    for m, organ in enumerate(ORGAN_NAMES):
        want = stats.wilcoxon(first.values[:, m], second.values[:, m]).pvalue
        assert raw[organ] == pytest.approx(want, rel=1e-12)
    liver = table.columns.index("liver")
    assert table.rows[3][liver] == "****"
    assert (1, liver) in table.strong
    assert (0, liver) not in table.strong


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.051, "ns"), (0.05, "*"), (0.01, "**"), (0.001, "***"), (0.0001, "****"), (np.nan, "–")],
)
def test_stars(p, text):
    assert stars(p) == text
