"""No cell that a spreadsheet would run, and no number that it would not add up."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas8k.cli.labels_import import Outcome, write_report
from atlas8k.core.csv_text import STARTS, csv_text, frame_text, plain, safe
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.reports.results import Results, read_results, write_results
from atlas8k.reports.tables import Table

LIB = Path(__file__).parents[2] / "lib" / "atlas8k"
FORMULAS = [
    '=HYPERLINK("http://evil.example","more")',
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
]
NUMBERS = ["-1", "+0.5", "-1.5e-3", "-12 %", "-0.12 ± 0.03", "+1.5 [-2, 4]", "-1,234.5", "-", "-.5"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_text(text: str) -> None:
    assert safe(text) == f"'{text}"
    assert plain(safe(text)) == text


@pytest.mark.parametrize("value", [*NUMBERS, -1, -0.5, np.float64(-2), None, "liver", "a=b", ""])
def test_what_is_none_stays(value: object) -> None:
    assert safe(value) is value


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    written = safe(text)
    assert plain(written) == text or text.startswith("'")
    assert len(written) < 2 or not written.startswith(STARTS) or re.match(r"[+-][\d.]", written)


def test_rows_and_tables() -> None:
    assert csv_text([[FORMULAS[3], -1.5, "a"]]) == "'@SUM(1+1),-1.5,a\r\n"
    frame = pd.DataFrame({"=x": ["-a", "b"], "n": [-1.5, 2]}, index=pd.Index(["@c", "d"], name="v"))
    assert frame_text(frame, index=True) == "v,'=x,n\n'@c,'-a,-1.5\nd,b,2.0\n"
    assert frame_text(frame, digits="%.2f").splitlines()[1] == "'-a,-1.50"


def cells(text: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(text)) for cell in row]


def test_what_we_write(tmp_path: Path) -> None:
    """Names of cases and files, reasons, notes: all of it comes from elsewhere."""
    names = tuple(f"{text[0].strip() or '='}case {n}" for n, text in enumerate(FORMULAS))
    values = np.full((len(names), 9), 0.5)
    path = write_results(
        tmp_path / "net" / "dsc.csv", Results("net", "dsc", names, (*ORGAN_NAMES,), values)
    )
    found = cells(path.read_text())
    assert not [cell for cell in found if cell.startswith(STARTS)]
    assert read_results(path, metric="dsc").cases == names
    table = Table("t", "t", "c", ("case", "+difference"), (("=1+1", "-0.5"), ("a", "+1 ± 2")))
    assert cells(table.csv()) == ["case", "'+difference", "'=1+1", "-0.5", "a", "+1 ± 2"]
    report = tmp_path / "report.csv"
    outcome = Outcome("=x.nii.gz", "-volume", "refused", "@reason", {}, notes=("+note",))
    write_report(report, [outcome])
    assert not [cell for cell in cells(report.read_text()) if cell.startswith(STARTS)]


def test_csv_is_written_in_one_place() -> None:
    """Whatever else writes CSV would write formulas."""
    found = [
        str(path.relative_to(LIB))
        for path in sorted(LIB.rglob("*.py"))
        if re.search(r"\.to_csv\(|csv\.(writer|DictWriter)\(", path.read_text(encoding="utf-8"))
    ]
    assert found == ["core/csv_text.py"]
