"""The comparison as a page and as tables, on small made-up results."""

import csv
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.volume import write_nifti
from atlas8k.reports.compare import all_tables, compare, summary_table, worst_cases
from atlas8k.reports.groups import Grouping
from atlas8k.reports.report import CaseLabel, draw_cases, render
from atlas8k.reports.results import Results, align
from atlas8k.reports.tables import Table, write_tables


@pytest.fixture(scope="module")
def panel():
    rng = np.random.default_rng(0)
    names = tuple(f"c{n:03d}" for n in range(60))
    truth = rng.random((60, 3)) < 0.2
    organs = ("aorta", "liver", "spleen")
    results = []
    for network, level in (("good", 0.9), ("<bad> & worse", 0.6), ("mid_dle", 0.75)):
        values = np.clip(rng.normal(level, 0.05, (60, 3)), 0, 1)
        values[truth] = np.nan
        results.append(Results(network, "dsc", names, organs, values))
    return align(results)


@pytest.fixture(scope="module")
def comparison(panel):
    sex = Grouping("sex", ("f", "m") * 30, ("f", "m"))
    ward = Grouping("ward", ("a",) * 30 + ("b",) * 27 + ("few",) * 3, ("a", "b", "few"))
    return compare(panel, [sex, ward], samples=200)


class Strict(HTMLParser):
    """Collects addresses and checks that elements are closed in order."""

    void = ("meta", "img", "br", "link", "input", "path", "use", "rect", "hr", "wbr")

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def test_page_is_whole_and_needs_nothing_from_outside(comparison):
    page = render([comparison], title="A & B")
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    assert all(address.startswith(("#", "data:")) for address in parser.addresses)
    assert len(parser.ids) == len(set(parser.ids))
    assert {a[1:] for a in parser.addresses if a.startswith("#")} <= set(parser.ids)
    assert "<title>A &amp; B</title>" in page
    assert "&lt;bad&gt; &amp; worse" in page
    assert "<bad>" not in page
    assert "prefers-color-scheme: dark" in page
    assert "currentColor" in page
    assert "#010203" not in page
    assert "few (n = 3)" in page, "the plain warning about a small group"
    assert "<script" not in page


def test_summary_marks_the_winner_and_says_how(comparison):
    table = summary_table(comparison)
    assert [row[0] for row in table.rows] == list(comparison.panel.networks)
    assert {n for n, _ in table.strong} == {0}
    for word in ("population SD", "Wilcoxon", "Holm", "n: aorta"):
        assert word in table.caption


def test_every_table_has_whole_rows_in_each_form(comparison, tmp_path):
    tables = all_tables(comparison)
    assert len({table.name for table in tables}) == len(tables)
    write_tables(tables, tmp_path)
    for table in tables:
        assert all(len(row) == len(table.columns) for row in table.rows)
        rows = list(csv.reader(io.StringIO((tmp_path / f"{table.name}.csv").read_text())))
        assert len({len(row) for row in rows}) == 1
        latex = (tmp_path / f"{table.name}.tex").read_text()
        assert not re.search(r"(?<!\\)[_#%]", re.sub(r"\\label\{.*\}", "", latex))
        assert latex.count(r" \\") == len(table.rows) + 1
        markdown = (tmp_path / f"{table.name}.md").read_text().splitlines()
        body = [line for line in markdown if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in body} == {len(table.columns) + 1}


def test_full_precision_is_in_the_csv(comparison):
    rows = list(csv.DictReader(io.StringIO(summary_table(comparison).csv())))
    row = next(r for r in rows if r["network"] == "good" and r["class"] == "liver")
    values = comparison.panel.values[0, :, 1]
    assert float(row["mean"]) == pytest.approx(np.nanmean(values), rel=1e-15)
    assert int(row["n"]) == np.sum(~np.isnan(values))


def test_two_columns_are_tested_where_large_enough(comparison):
    assert [g.column for g in comparison.groupings] == ["sex", "ward", "sex x ward"]
    small = compare(comparison.panel, comparison.groupings[:2], samples=10, smallest=29)
    assert [g.column for g in small.groupings] == ["sex", "ward"]
    assert any("sex x ward: fewer than two groups have 29" in note for note in small.notes)


def test_one_network_alone_has_figures_and_no_tests(panel):
    one = align([Results("good", "dsc", panel.cases, panel.organs, panel.values[0])])
    names = [table.name for table in all_tables(compare(one, samples=20))]
    assert "dsc-summary" in names
    assert not any("significance" in name for name in names)
    assert "Who beats whom" not in render([compare(one, samples=20)])


def test_cases_left_out_are_listed_in_full(panel):
    a = Results("a", "dsc", panel.cases, panel.organs, panel.values[0])
    b = Results("b", "dsc", panel.cases[20:], panel.organs, panel.values[1, 20:])
    tables = {t.name: t for t in all_tables(compare(align([a, b]), samples=20))}
    assert list(tables["dsc-left-out"].rows) == [(c, "b") for c in panel.cases[:20]]


def test_worst_cases_are_the_lowest(panel):
    means = np.nanmean(panel.case_means, axis=0)
    assert list(worst_cases(panel, 5)) == np.argsort(means, kind="stable")[:5].tolist()


def test_pictures_of_cases_at_hand(tmp_path):
    phantom = generate(1, grid_spacing_mm=6.0)
    for folder in ("ct", "label"):
        (tmp_path / folder).mkdir()
    write_nifti(tmp_path / "ct" / "c1.nii.gz", phantom.ct.array, phantom.ct.grid)
    write_nifti(tmp_path / "label" / "c1.nii.gz", phantom.label.array, phantom.label.grid)
    (tmp_path / "ct" / "c2.nii.gz").write_bytes(b"x")
    pictures, notes = draw_cases(["c1", "c2", "c3"], tmp_path / "ct", tmp_path / "label")
    assert [picture.case for picture in pictures] == ["c1"]
    assert pictures[0].source.startswith("data:image/jpeg;base64,/9j/")
    assert "no picture of c2" in notes[0]
    assert "no CT of it" in notes[1]


def test_latex_and_markdown_escape():
    table = Table(
        "t", "50 % of a_b", "p < 0.05", ("a|b", "c"), (("x_1", "1±2"),), frozenset({(0, 1)})
    )
    assert r"a\|b" in table.markdown()
    assert "**1±2**" in table.markdown()
    assert r"50 \% of a\_b" in table.latex()
    assert r"\textbf{1$\pm$2}" in table.latex()


def test_the_label_of_a_network_is_drawn_where_it_differs_most(tmp_path):
    phantom = generate(1, grid_spacing_mm=6.0)
    wrong = phantom.label.array.copy()
    corner = np.argwhere(wrong > 0)[0]
    wrong[tuple(corner)] = 0
    for folder, array in (("ct", phantom.ct.array), ("label", phantom.label.array), ("n", wrong)):
        (tmp_path / folder).mkdir()
        for case in ("c1", "c2"):
            write_nifti(tmp_path / folder / f"{case}.nii.gz", array, phantom.ct.grid)
    (tmp_path / "n" / "c2.nii.gz").unlink()
    shown = CaseLabel("net", tmp_path / "n", "mean DSC 31.0 %")
    pictures, notes = draw_cases(
        ["c1", "c2"], tmp_path / "ct", tmp_path / "label", {"c1": shown, "c2": shown}
    )
    assert [picture.case for picture in pictures] == ["c1", "c1", "c2"]
    assert pictures[1].text.endswith("the organs of net (mean DSC 31.0 %)")
    assert pictures[0].source != pictures[1].source
    alone, _ = draw_cases(["c1"], tmp_path / "ct", tmp_path / "label")
    # One voxel differs: the planes go through it, not through the middle of the organs.
    assert alone[0].source != pictures[0].source
    assert "no label of c2" in notes[0]
