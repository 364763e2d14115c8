import numpy as np
import pytest
from scipy import stats

from atlas8k.core.errors import EvaluationError
from atlas8k.reports.groups import (
    Grouping,
    combine,
    compare_groups,
    compare_panel,
    group_by,
)
from atlas8k.reports.results import align, read_results
from atlas8k.reports.sheets import read_sheet

CASES = [f"c{n}" for n in range(60)]


def metadata(tmp_path, header="id;Age;sex", rows=None):
    rows = rows or [f"{case};{20 + n};{'fm'[n % 2]}" for n, case in enumerate(CASES)]
    path = tmp_path / "meta.csv"
    path.write_text("\n".join([header, *rows]), encoding="utf-8-sig")
    return read_sheet(path)


def test_age_is_cut_into_bins(tmp_path):
    grouping = group_by(metadata(tmp_path), "AGE", CASES)
    assert grouping.groups == ("20 to < 40", "40 to < 60", "60 to < 80")
    assert [len(grouping.members(group)) for group in grouping.groups] == [20, 20, 20]
    own = group_by(metadata(tmp_path), "age", CASES, edges=[50])
    assert [len(own.members(group)) for group in own.groups] == [30, 30]
    assert own.groups == ("< 50", ">= 50")


def test_missing_values_are_told(tmp_path, caplog):
    rows = [f"{case};{'' if n < 5 else 30 + n};f" for n, case in enumerate(CASES[:50])]
    grouping = group_by(metadata(tmp_path, rows=rows), "age", CASES)
    assert grouping.labels[0] is None
    assert "15 cases have no value, 10 of them are not in the file" in grouping.notes[0]
    assert grouping.notes[0] in caplog.text


def test_many_numbers_are_cut_at_quartiles(tmp_path):
    grouping = group_by(metadata(tmp_path, header="id;dose;sex"), "dose", CASES)
    assert [len(grouping.members(group)) for group in grouping.groups] == [15, 15, 15, 15]
    assert "quartiles" in grouping.notes[0]


def test_bad_metadata_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="no column weight; it has age, sex"):
        group_by(metadata(tmp_path), "weight", CASES)
    with pytest.raises(EvaluationError, match=r"none of the 2 cases .*c0.*x1"):
        group_by(metadata(tmp_path), "sex", ["x1", "x2"])
    with pytest.raises(EvaluationError, match="column sex, case c0: 'f' is no number"):
        group_by(metadata(tmp_path), "sex", CASES, edges=[1])
    empty = Grouping("sex", (None,) * 60, ())
    with pytest.raises(EvaluationError, match="no case has a value"):
        compare_groups(np.ones(60), empty, network="n")


def test_tests_are_scipys_with_bonferroni(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.random(60) + np.repeat([0, 0.1, 0.6], 20)
    values[3] = np.nan
    result = compare_groups(values, group_by(metadata(tmp_path), "age", CASES), network="n")
    parts = [values[:20][~np.isnan(values[:20])], values[20:40], values[40:]]
    assert result.kruskal_p == pytest.approx(stats.kruskal(*parts).pvalue)
    assert [row.n for row in result.rows] == [19, 20, 20]
    assert len(result.pairs) == 3
    for pair, (a, b) in zip(result.pairs, [(0, 1), (0, 2), (1, 2)], strict=True):
        p = stats.mannwhitneyu(parts[a], parts[b]).pvalue
        assert pair.p == pytest.approx(p)
        assert pair.adjusted == pytest.approx(min(1, 3 * p))
    means = [part.mean() for part in parts]
    assert result.parity == pytest.approx(max(means) - min(means))


def test_small_and_empty_groups_are_shown_not_tested():
    labels = ("a",) * 20 + ("b",) * 20 + ("tiny",) * 3 + ("nothing",) * 2
    values = np.random.default_rng(1).random(45)
    values[-2:] = np.nan
    values[40:43] = 0
    grouping = Grouping("ward", labels, ("a", "b", "tiny", "nothing"))
    result = compare_groups(values, grouping, network="n")
    assert [row.tested for row in result.rows] == [True, True, False, False]
    assert any("tiny (n = 3)" in text for text in result.warnings)
    assert any("groups without a result: nothing" in text for text in result.warnings)
    assert result.kruskal_p == pytest.approx(stats.kruskal(values[:20], values[20:40]).pvalue)
    assert result.parity < 0.5


def test_one_large_group_only_is_said():
    grouping = Grouping("ward", ("a",) * 20 + ("b",) * 2, ("a", "b"))
    result = compare_groups(np.random.default_rng(0).random(22), grouping, network="n")
    assert np.isnan(result.kruskal_p)
    assert np.isnan(result.parity)
    assert any("fewer than two groups" in text for text in result.warnings)


def test_no_difference_has_no_pairs():
    grouping = Grouping("ward", ("a", "b") * 20, ("a", "b"))
    result = compare_groups(np.full(40, 0.5), grouping, network="n")
    assert result.kruskal_p == 1.0
    assert result.pairs == ()


def test_two_columns_at_a_time(tmp_path):
    meta = metadata(tmp_path)
    both = combine(group_by(meta, "sex", CASES), group_by(meta, "age", CASES))
    assert both.column == "sex x age"
    assert both.groups[0] == "f, 20 to < 40"
    assert sum(len(both.members(group)) for group in both.groups) == 60
    assert len(both.groups) == 6


def test_published_metadata(touchstone):
    panel = align([read_results(touchstone / "nnU-Net_U-Net")])
    meta = read_sheet(touchstone / "metaTotalSeg.csv")
    (by_sex,) = compare_panel(panel, group_by(meta, "gender", panel.cases))
    labels = np.array([meta.texts["gender"].get(case, "") for case in panel.cases])
    means = panel.case_means[0]
    parts = [means[(labels == sex) & ~np.isnan(means)] for sex in "fm"]
    assert by_sex.kruskal_p == pytest.approx(stats.kruskal(*parts).pvalue)
    assert by_sex.parity == pytest.approx(abs(parts[0].mean() - parts[1].mean()))
    (by_place,) = compare_panel(panel, group_by(meta, "institute", panel.cases))
    assert any("F (n = 2)" in text for text in by_place.warnings)


def test_an_empty_column_is_refused_with_file_and_row(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text("name,ward,age\nother,x,3\na,,1\nb,n/a,many\n")
    table = read_sheet(path)
    for edges in (None, [1.0, 2.0]):
        with pytest.raises(EvaluationError, match=r"meta\.csv, row 3: column ward is empty for"):
            group_by(table, "ward", ["a", "b"], edges)
    with pytest.raises(EvaluationError, match=r"meta\.csv, row 4: column age, case b: 'many'"):
        group_by(table, "age", ["a", "b"], [2.0])
    assert table.known("ward", ["a", "b", "other", "none"]) == ["other"]
