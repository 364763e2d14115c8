import numpy as np
import pytest
from scipy import stats

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.quality import (
    agreement,
    agreement_tables,
    rounds_table,
    training_sets_table,
)
from atlas8k.evaluation.results import Results
from atlas8k.evaluation.tables import stars
from atlas8k.organs import ORGAN_NAMES
from atlas8k.volume import Grid, write_nifti


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
    raw = {}
    for record in table.records[1:]:
        raw[record[1]] = float(record[5])
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


def test_agreement_is_symmetric_and_tells(tmp_path):
    grid = Grid((12, 12, 12), np.eye(4))
    mirrored = np.diag([-1.0, 1, 1, 1])
    mirrored[0, 3] = 11
    flipped = Grid((12, 12, 12), mirrored)
    cube = np.zeros((12, 12, 12), np.uint8)
    cube[2:6, 2:6, 2:6] = 5
    half = cube.copy()
    half[4:] = 0
    for name in ("anna", "bert", "net"):
        (tmp_path / name).mkdir()
    for case in ("c1", "c2"):
        write_nifti(tmp_path / "anna" / f"{case}.nii.gz", cube, grid)
        write_nifti(tmp_path / "bert" / f"{case}.nii.gz", half if case == "c1" else cube * 0, grid)
        write_nifti(tmp_path / "net" / f"{case}.nii.gz", cube[::-1].copy(), flipped)
    write_nifti(tmp_path / "anna" / "c3.nii.gz", cube, grid)
    found = agreement({name: tmp_path / name for name in ("anna", "bert", "net")})
    liver = found.values[:, :, 4]
    assert found.cases == ("c1", "c2")
    # Half a cube against the whole: 2/3; nothing against it: 0.
    np.testing.assert_allclose(liver[0, 1], (2 / 3 + 0) / 2)
    np.testing.assert_allclose(liver[0, 2], 1.0)
    np.testing.assert_array_equal(liver, liver.T)
    assert np.isnan(found.values[:, :, 0]).all()
    assert "c3" in found.notes[0]
    tables = agreement_tables(found)
    assert tables[0].rows[0] == ("anna", "", "33.3", "100.0")
    assert "anna,bert,liver,2,0.33" in tables[0].csv()
    with pytest.raises(EvaluationError, match="two folders"):
        agreement({"anna": tmp_path / "anna"})
