"""DSC of every pair of raters."""

from __future__ import annotations

import numpy as np
import pytest

from atlas8k.core.errors import EvaluationError
from atlas8k.core.volume import Grid, Volume, write_nifti
from atlas8k.reports.agreement import agreement, agreement_of, agreement_tables

GRID = Grid((12, 12, 12), np.eye(4))


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


def box(stop: int, organ: int = 5) -> Volume:
    array = np.zeros(GRID.shape, np.uint8)
    array[:stop] = organ
    return Volume(array, GRID)


def test_a_pair_is_compared_on_the_cases_that_both_have():
    said = {
        "c1": {"anna": box(4), "bert": box(4), "net": box(2)},
        "c2": {"anna": box(6), "net": box(6)},
        "c3": {"bert": box(3)},
    }
    seen: list[str] = []
    found = agreement_of(
        ((c, {n: (lambda v=v: v) for n, v in of.items()}) for c, of in said.items()),
        ("anna", "bert", "net"),
        seen.append,
    )
    assert (found.cases, seen) == (("c1", "c2"), ["c1", "c2", "c3"])
    liver = found.values[:, :, 4]
    assert liver[0, 1] == 1
    assert liver[1, 2] == pytest.approx(2 * 2 / (4 + 2))
    assert liver[0, 2] == pytest.approx((2 * 2 / (4 + 2) + 1) / 2)
    assert found.shared.tolist() == [[2, 1, 2], [1, 1, 1], [2, 1, 2]]
    assert "n: 1–2" in agreement_tables(found)[0].caption


def test_raters_without_a_common_case_have_no_figure():
    said = {"c1": {"a": box(4), "b": box(4)}, "c2": {"c": box(4), "b": box(4)}}
    found = agreement_of(
        ((c, {n: (lambda v=v: v) for n, v in of.items()}) for c, of in said.items()), "abc"
    )
    assert np.isnan(found.values[0, 2]).all()
    assert agreement_tables(found)[0].rows[0] == ("a", "", "100.0", "–")


def test_a_case_that_cannot_be_used_is_told_and_leaves_no_trace(tmp_path):
    other = Grid((12, 12, 11), np.eye(4))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_nifti(tmp_path / name / "good.nii.gz", box(4).array, GRID)
    write_nifti(tmp_path / "a" / "bad.nii.gz", box(4).array, GRID)
    write_nifti(tmp_path / "b" / "bad.nii.gz", np.ones(other.shape, np.uint8), other)
    found = agreement({name: tmp_path / name for name in ("a", "b")})
    assert found.cases == ("good",)
    assert "bad is left out" in found.notes[0]
    assert found.n[0, 1].sum() == 1
    (tmp_path / "b" / "good.nii.gz").write_bytes(b"broken")
    with pytest.raises(EvaluationError, match="left out"):
        agreement({name: tmp_path / name for name in ("a", "b")})
