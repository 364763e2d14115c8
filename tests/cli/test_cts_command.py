"""`atlas8k cts` and `atlas8k datasheet` as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.services.exporting.kit import mixed
from typer.testing import CliRunner

from abdomen_phantom import generate
from atlas8k.cli import app
from atlas8k.core.volume import write_nifti
from atlas8k.services.exporting.bring_in import records


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Two people, and a cropped and noised copy of the first."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for seed in (1000, 1001):
        ct = generate(seed, grid_spacing_mm=4.0).ct
        write_nifti(folder / f"p{seed}.nii.gz", ct.array.astype(np.int16), ct.grid)
    ct = generate(1000, grid_spacing_mm=4.0).ct
    array = ct.array + np.random.default_rng(0).normal(0, 15, ct.array.shape)
    write_nifti(folder / "copy.nii.gz", array.astype(np.int16), ct.grid)
    run("labels", "datasets")
    return folder


def test_duplicates_are_found_once_and_kept(studies: Path):
    from atlas8k.services.labels.service import LabelService

    LabelService.open(studies).close()
    found = json.loads(run("cts", "duplicates", "--studies", studies, "--json"))
    assert [(one["first"], one["second"], one["kind"]) for one in found] == [
        ("copy", "p1000", "copy")
    ]
    assert json.loads(run("cts", "duplicates", "--studies", studies, "--known", "--json")) == found
    ct = generate(1001, grid_spacing_mm=4.0).ct
    write_nifti(studies / "again.nii.gz", ct.array.astype(np.int16), ct.grid)
    assert "2 pairs" in run("cts", "duplicates", "--studies", studies)


def test_phases_are_said_filtered_and_exported(tmp_path: Path):
    made = mixed(tmp_path)
    studies = made.studies
    assert "no CT has a phase" in run("cts", "phases", "--studies", studies)
    run("cts", "say-phase", "whole", "arterial", "--studies", studies, "--as", "anna")
    assert "whole" in run("cts", "phases", "--studies", studies, "--phase", "arterial")
    assert "whole" not in run("cts", "phases", "--studies", studies, "--phase", "delayed")
    run("export", tmp_path / "out", "--studies", studies, "--split", "paper")
    said = {one["name"]: one for one in records(tmp_path / "out")}
    assert said["whole"]["phase"] == "arterial"
    assert {one["split"] for one in said.values()} <= {"train", "validation", "test"}
    made.service.close()


def test_a_datasheet_stands_alone(tmp_path: Path):
    made = mixed(tmp_path)
    run("export", tmp_path / "out", "--studies", made.studies, "--require", "any")
    people = tmp_path / "people.csv"
    people.write_text("volume,age,sex\nwhole,61,F\npart,44,M\nnew,70,F\n")
    run(
        "datasheet", tmp_path / "out", "--studies", made.studies, "--metadata", people,
        "--title", "Ours <b>",
    )  # fmt: skip
    page = (tmp_path / "out/datasheet.html").read_text()
    assert "Ours &lt;b&gt;" in page
    assert not re.search(r"(src|href)=\"(?!#)|@import|url\((?!#)", page)
    assert "anna" not in page
    assert page.count("<svg") == 1
    assert "Organ volumes by source" in page
    assert "currentColor" in page
    text = (tmp_path / "out/datasheet.md").read_text()
    for words in ("CC BY 4.0", "Landman", "median 61", "F 2, M 1", "by hand, hours"):
        assert words in text, words
    row = next(line for line in text.splitlines() if line.startswith("| gall_bladder"))
    # Of four volumes absent in one, unknown in three.
    cells = [cell.strip() for cell in row.split("|")][1:-1]
    assert cells == ["gall_bladder", "0", "0", "0", "1", "0", "3", ""]
    made.service.close()
