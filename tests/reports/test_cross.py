import csv

import numpy as np
import pytest

from atlas8k.core.errors import EvaluationError
from atlas8k.reports.cross import cross, cross_table, margins, read_cross
from atlas8k.reports.results import write_results
from atlas8k.reports.tables import plus_minus


def test_aeval_table_3_to_the_printed_digit(aeval):
    with open(aeval / "published_table3.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    tests = [name for name in rows[0] if name not in ("train", "metric", "mean_sd")]
    for metric in ("DSC", "NSD"):
        body = [r for r in rows if r["metric"] == metric and r["train"] != "mean_sd"]
        foot = next(r for r in rows if r["metric"] == metric and r["train"] == "mean_sd")
        values = np.array([[float(r[t]) for t in tests] for r in body]) / 100
        assert values.shape == (4, 5)
        by_row, by_column, whole = margins(values)
        text = [plus_minus(m, s, 2) for m, s in zip(*by_row, strict=True)]
        assert text == [r["mean_sd"] for r in body]
        text = [plus_minus(m, s, 2) for m, s in zip(*by_column, strict=True)]
        assert text == [foot[t] for t in tests]
        assert plus_minus(*whole, 2) == foot["mean_sd"]


def test_folders_become_a_matrix_over_the_shared_classes(tmp_path, make_results):
    organs = {"A": ("liver", "spleen", "aorta"), "B": ("liver", "spleen", "pancreas")}
    for train in "PQ":
        for test, names in organs.items():
            results = make_results("x", level=0.7, seed=ord(train), organs=names, absent=0)
            write_results(tmp_path / train / test / "dsc.csv", results)
    matrix = read_cross(tmp_path)
    assert (matrix.train, matrix.test) == (("P", "Q"), ("A", "B"))
    assert matrix.classes == ("liver", "spleen")
    assert any("left out: aorta, pancreas" in note for note in matrix.notes)
    results = make_results("x", level=0.7, seed=ord("P"), organs=organs["A"], absent=0)
    assert matrix.values[0, 0] == pytest.approx(results.values[:, :2].mean())
    assert matrix.cases.tolist() == [[40, 40], [40, 40]]
    table = cross_table(matrix)
    assert table.columns == ("train", "A", "B", "mean±SD")
    assert len(table.rows) == 3
    assert "P,A,0." in table.csv()


def test_holes_and_nothing_shared_are_told(tmp_path, make_results):
    found = {
        ("P", "A"): make_results("P", organs=("liver",)),
        ("Q", "B"): make_results("Q", organs=("liver",)),
    }
    matrix = cross(found)
    assert any("without results: P on B, Q on A" in note for note in matrix.notes)
    assert cross_table(matrix).rows[0][2] == "–"
    found["Q", "B"] = make_results("Q", organs=("spleen",))
    with pytest.raises(EvaluationError, match="no class is in all"):
        cross(found)
    with pytest.raises(EvaluationError, match="no such folder"):
        read_cross(tmp_path / "none")
    with pytest.raises(EvaluationError, match=r"has no <train>/<test>/dsc\.csv"):
        read_cross(tmp_path)
