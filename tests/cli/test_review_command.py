"""`atlas8k review` and `atlas8k labels history|restore|reopen` as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from atlas8k.cli import app
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, read_label, write_nifti
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Holder, OrganSource

GRID = Grid((6, 5, 4), np.diag([-2.0, 2.0, 3.0, 1.0]))
LIVER = ORGAN_IDS["liver"]


def label(folder: Path, *slabs: int) -> Path:
    array = np.zeros(GRID.shape, np.uint8)
    array[list(slabs)] = LIVER
    return write_nifti(folder / "label.nii.gz", array, GRID)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """One case with a public liver that Anna changes; Ben submits it, too."""
    folder = tmp_path / "studies"
    folder.mkdir()
    ct = np.arange(np.prod(GRID.shape), dtype=np.int16).reshape(GRID.shape)
    write_nifti(folder / "case.nii.gz", ct, GRID)
    label_service = LabelService.open(folder)
    public = read_label(label(tmp_path, 1, 2)).array
    label_service.keep_public(
        "case", public, GRID, {"liver": OrganSource("public", "present", "LiTS")}
    )
    label_service.submit("case", label(tmp_path, 1), Holder.identify(user="anna"))
    label_service.submit("case", label(tmp_path, 1, 2, 3), Holder.identify(user="ben"))
    label_service.close()
    return folder


def run(studies: Path, *arguments: object, fails: str = "") -> Result:
    result = CliRunner().invoke(
        app, [*map(str, arguments), "--studies", str(studies)], env={"COLUMNS": "200"}
    )
    if fails:
        assert isinstance(result.exception, Atlas8kError), result.output
        assert re.search(fails, str(result.exception))
    elif result.exception:
        raise result.exception
    return result


def start_label(studies: Path) -> list[int]:
    array = read_label(studies / "labels" / "original" / "case.nii.gz").array
    return [int(x) for x in np.flatnonzero((array == LIVER).any(axis=(1, 2)))]


def test_the_queue_and_what_is_decided(studies: Path) -> None:
    out = run(studies, "review", "list").stdout
    assert re.search(r"case.*a submission changes this public organ.*liver", out)
    assert re.search(r"case.*two people submitted it", out)
    shown = run(studies, "review", "show", "case").stdout
    assert "user:anna" in shown
    assert "liver: public, present, DISPUTED" in shown
    out = run(studies, "review", "accept", "case", "--as", "rita").stdout
    assert "still open: a submission changes this public organ (liver)" in out
    decide = ("review", "decide", "case", "--as", "rita")
    out = run(studies, *decide, "--organ", "Liver", "--source", "revised").stdout
    assert "case: liver is revised" in out
    assert start_label(studies) == [1]
    run(studies, *decide, "--submission", 2)
    assert start_label(studies) == [1, 2, 3]
    assert "Nothing to decide." in run(studies, "review", "list").stdout
    answers = json.loads(run(studies, "review", "show", "case", "--json").stdout)["reviews"]
    assert {(one["kind"], one["decision"], one["reviewer"]) for one in answers} == {
        ("conflict", "accepted", "user:rita"),
        ("dispute", "revised", "user:rita"),
    }


def test_history_restore_and_reopen(studies: Path) -> None:
    out = run(studies, "labels", "history", "case").stdout
    assert re.search(r"\* .*1 .*user:anna.*liver 0\.667", out)
    assert re.search(r"2 .*user:ben.*conflict", out)
    assert "liver: public present LiTS DISPUTED" in out
    assert "as number 3" in run(studies, "labels", "restore", "case", 2).stdout
    found = json.loads(run(studies, "labels", "history", "case", "--json").stdout)
    assert [one["in_force"] for one in found["history"]] == [False, False, True]
    run(studies, "labels", "restore", "case", 9, fails="no submission")
    run(studies, "labels", "history", "nothing", fails="nothing")
    run(studies, "labels", "reopen", "case", "--note", "again", "--to", "user:ben")
    assert "waits for user:ben: again" in run(studies, "review", "list").stdout


def test_returned_and_taken_over(studies: Path, tmp_path: Path) -> None:
    out = run(studies, "review", "return", "case", "--note", "look again").stdout
    assert "returned to user:anna" in out
    mine = label(tmp_path, 2, 3)
    out = run(studies, "review", "take-over", "case", mine, "--as", "rita").stdout
    assert "submission 3 is current" in out
    assert start_label(studies) == [2, 3]
    other = write_nifti(
        tmp_path / "bad.nii.gz", np.ones((3, 3, 3), np.uint8), Grid((3, 3, 3), np.eye(4))
    )
    run(studies, "review", "take-over", "case", other, fails="grid|fit|CT")
    assert "yours" in run(studies, "review", "take-over", "case", "--as", "roy").stdout
    run(studies, "review", "take-over", "case", "--as", "rita", fails="somebody else has it")


def test_organ_by_organ(studies: Path) -> None:
    pair = ("review", "by-organ", "case", "--first", "public", "--second", 2, "--as", "rita")
    undecided = (*pair, "--counts", "spleen=first")
    run(studies, *undecided, fails="not decided: liver; say which counts")
    run(studies, *pair[:-3], 9, "--counts", "liver=first", fails="label of this case")
    assert "liver=third" in str(run_wrong(studies, *pair, "--counts", "liver=third"))
    out = run(studies, *pair, "--counts", "Liver=second").stdout
    assert "submission 3 is current" in out
    assert start_label(studies) == [1, 2, 3]
    assert "Nothing to decide." in run(studies, "review", "list").stdout
    (made,) = json.loads(run(studies, "labels", "history", "case", "--json").stdout)["history"][2:]
    assert (made["holder"], made["organs"]["liver"]["state"]) == ("user:rita", "revised")


def run_wrong(studies: Path, *arguments: object) -> str:
    """What a command says of an argument that it does not take."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--studies", str(studies)])
    assert result.exit_code == 2
    return result.output


def test_a_folder_without_a_ledger(tmp_path: Path) -> None:
    run(tmp_path, "review", "list", fails="no ledger yet")


def test_annotators_are_measured_by_labels_that_only_the_owner_knows(
    studies: Path, tmp_path: Path
) -> None:
    known = tmp_path / "gold"
    known.mkdir()
    label(tmp_path, 1, 2).rename(known / "case.nii.gz")
    label(tmp_path, 1).rename(known / "of no volume here.nii.gz")
    service = LabelService.open(studies)
    # A second label of hers, after somebody told her: it does not count.
    service.reviews.give_back("case", "user:rita", "both slabs")
    service.submit("case", label(tmp_path, 1, 2), Holder.identify(user="anna"))
    service.close()
    out = run(studies, "review", "gold", known, "--json", "--names").stdout
    lines = {one["annotator"]: one for one in json.loads(out)}
    assert {name: one["organ"] for name, one in lines.items()} == {"anna": "liver", "ben": "liver"}
    assert lines["anna"]["readings"] == lines["ben"]["readings"] == 1
    assert lines["anna"]["dsc"] == pytest.approx(2 * 1 / 3)
    assert lines["ben"]["dsc"] == pytest.approx(2 * 2 / 5)
    assert 0 < lines["ben"]["nsd"] < 1
    shown = run(studies, "review", "gold", known).stdout
    assert "annotator 1" in shown
    assert "anna" not in shown
    assert "case" not in shown
    known.rename(studies / "gold")
    run(studies, "review", "gold", studies / "gold", fails="within the studies folder")
    run(studies, "review", "gold", tmp_path, fails="holds no label")
