import numpy as np
import pytest

from atlas8k.core.errors import EvaluationError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.results import read_results, write_results

HEADER = "name,aorta,gall_bladder,kidney_left,kidney_right,liver,pancreas,postcava,spleen,stomach"


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def test_round_trip_is_exact(tmp_path, make_results):
    results = make_results("net")
    path = write_results(tmp_path / "net" / "dsc.csv", results)
    assert path.read_text().splitlines()[0] == HEADER
    again = read_results(tmp_path / "net")
    assert again.network == "net"
    assert again.cases == results.cases
    np.testing.assert_array_equal(again.values, results.values)
    assert again.notes == ()


def test_foreign_form_is_read_and_told(tmp_path, caplog):
    text = "Image ID;Leber;IVC;Left Kidney;GB\ns1.nii.gz;1;0,93;0,5;\n\ns2;;0,1;nan;0,25\n"
    results = read_results(write(tmp_path / "mine.csv", text, "utf-8-sig"))
    assert results.network == "mine"
    assert results.cases == ("s1", "s2")
    assert results.organs == ("gall_bladder", "kidney_left", "postcava")
    want = [[np.nan, 0.5, 0.93], [0.25, np.nan, 0.1]]
    np.testing.assert_array_equal(results.values, want)
    told = " ".join(results.notes)
    assert "Leber" in told
    assert "IVC is read as postcava" in told
    assert "organs without a column: aorta" in told
    assert all(note in caplog.text for note in results.notes)


def test_tabs_and_utf16(tmp_path):
    text = "name\tspleen\tliver\na\t0.5\t0.25\n"
    results = read_results(write(tmp_path / "t.tsv", text, "utf-16"))
    assert results.values.tolist() == [[0.25, 0.5]]


@pytest.mark.parametrize(
    ("text", "row", "message"),
    [
        ("name,liver\na,0.5\nb,1.5\n", 3, "1.5 is outside 0..1"),
        ("name,liver\na,0.5\nb,-0.1\n", 3, "-0.1 is outside"),
        ("name,liver\na,95.1\nb,91.2\n", 2, "percent.*2 such values"),
        ("name,liver\na,0.5\n\nb,0.6\na,0.7\n", 5, "case a is already in row 2"),
        ("name,liver\na,0.5\na.nii.gz,0.7\n", 3, "already"),
        ("name,liver\na,good\n", 2, "'good' is no number"),
        ("name,liver\na,inf\n", 2, "not finite"),
        ("name,liver\na,0.5,0.4\n", 2, "3 fields where the header has 2"),
        ("name,liver\n,0.5\n", 2, "no case name"),
        ("name,liver,Hepar\na,0.5,0.4\n", 1, "both liver"),
        ("name,liver,liver\na,0.5,0.4\n", 1, "two columns"),
        ("liver,spleen\n0.5,0.4\n", 1, "no column for the case"),
        ("name,heart\na,0.5\n", None, "no organ column among heart"),
        ("name,liver\n", None, "no case"),
        ("\n\n", None, "is empty"),
    ],
)
def test_bad_files_name_file_and_row(tmp_path, text, row, message):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(EvaluationError, match=message) as error:
        read_results(path)
    assert error.value.row == row
    assert str(path) in str(error.value)
    assert row is None or f"row {row}" in str(error.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(EvaluationError, match="no such file"):
        read_results(tmp_path / "none.csv")
    write(tmp_path / "nsd.csv", "name,liver\na,1\n")
    with pytest.raises(EvaluationError, match=r"has no dsc\.csv \(it has nsd\.csv\)"):
        read_results(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"\x80\x81\x00name")
    with pytest.raises(EvaluationError, match="UTF-8"):
        read_results(tmp_path / "x.csv")


CASES = {"BDMAP_1": (0.9, 0.8), "BDMAP_2": (0.7, 0.6), "BDMAP_3": (0.8, 0.4)}


def table(path, rows, cases=CASES):
    lines = [f"{name},{a},{b}" for name, (a, b) in cases.items()]
    return write(path, "\n".join(["name,liver,spleen", *lines, *rows]))


@pytest.mark.parametrize(
    "rows",
    [
        ["mean,0.80,0.60"],
        ["Mean,0.80,0.60", "STD,0.08,0.16", "Median,0.8,0.6"],
        ["average,0.8,0.6", "all,0.8,0.6"],
        ["mean,0.8,0.6", "sd,0.1,0.2", "min,0.7,0.4", "max,0.9,0.8", "total,2.4,1.8", "n,3,3"],
        ["count,3,3", "mean,.8,.6", "std,.1,.2", "min,.7,.4", "25%,.7,.5", "50%,.8,.6", "75%,1,1"],
        ["Mean DSC,80.0,60.0", "mean ± std,0.80 ± 0.08,0.60 ± 0.16"],
        ["Average:,0.8", "overall mean,0.8,0.6,0.7"],
        ["mean,0.8,0.6", "mean,0.8,0.6"],
        ["Standard deviation,0.1,0.2", "95% CI,0.7-0.9,0.4-0.8"],
        ["Mittelwert,0.8,0.6"],
    ],
)
def test_rows_that_sum_up_the_cases_are_told_and_left_out(tmp_path, rows):
    results = read_results(table(tmp_path / "net.csv", rows))
    assert results.cases == tuple(CASES)
    np.testing.assert_array_equal(results.values, list(CASES.values()))
    told = " ".join(results.notes)
    assert "left out" in told
    assert all(row.split(",")[0].strip() in told for row in rows)
    assert "3 cases are read" in told


@pytest.mark.parametrize(
    "name",
    [
        "mean_001",
        "MEAN2",
        "std1",
        "case_mean_3",
        "Max Muster",
        "all-in-one",
        "n01",
        "summary_7b",
        "p10",
        "95",
    ],
)
def test_a_case_named_like_a_statistic_is_a_case(tmp_path, name):
    results = read_results(table(tmp_path / "net.csv", [f"{name},0.8,0.6"]))
    assert results.cases == (*CASES, name)
    assert results.notes == (f"organs without a column: {', '.join(MISSING)}",)


MISSING = [organ for organ in ORGAN_NAMES if organ not in ("liver", "spleen")]
PEOPLE = {"anna": (0.9, 0.8), "ben": (0.7, 0.6), "cleo": (0.8, 0.4)}


@pytest.mark.parametrize(
    ("row", "case"),
    [
        ("max,0.9,0.8", False),
        ("Min,0.70,0.40", False),
        ("all,0.8,0.6", False),
        ("sd,0.0816,0.163", False),
        ("SD,0.1,0.2", False),
        ("max,0.85,0.75", True),
        ("all,0.5,0.5", True),
    ],
)
def test_where_names_do_not_settle_it_values_do(tmp_path, row, case):
    results = read_results(table(tmp_path / "net.csv", [row], PEOPLE))
    name = row.split(",")[0]
    assert results.cases == ((*PEOPLE, name) if case else tuple(PEOPLE))
    assert f"row {name} is read as a case" in " ".join(results.notes) or not case


def test_a_table_of_statistics_alone_has_no_case(tmp_path):
    with pytest.raises(EvaluationError, match="no case"):
        read_results(write(tmp_path / "a.csv", "name,liver\nmean,0.5\nstd,0.1\n"))


def test_published_files_are_read_whole(touchstone):
    results = read_results(touchstone / "nnU-Net_U-Net", "nsd")
    assert len(results.cases) == 743
    assert results.organs == ORGAN_NAMES
    assert results.notes == ()
    assert np.isnan(results.values).all(axis=1).sum() == 127
