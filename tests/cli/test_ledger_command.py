"""`atlas8k ledger` and `atlas8k rank` as a user runs them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from atlas8k.cli.ledger import ledger as ledger_commands
from atlas8k.cli.rank import rank
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import Holder, Ledger, OrganScore, locate

app = typer.Typer()
app.command()(rank)
app.add_typer(ledger_commands, name="ledger")

ANNA = Holder.identify(user="anna")
GRID = Grid((4, 5, 6), np.eye(4))


def run(*arguments: object, fails: str = "") -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if fails:
        assert isinstance(result.exception, Atlas8kError), result.output
        assert re.search(fails, str(result.exception))
    elif result.exception:
        raise result.exception
    return result


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Twenty volumes scored, the first of the list submitted, the second with somebody."""
    folder = tmp_path / "studies"
    folder.mkdir()
    book = Ledger(locate(str(folder)), budget=0.2)
    book.set_campaign(audit_percent=0)
    names = [f"case_{i:02d}" for i in range(20)]
    book.sync_volumes(names)
    book.register_model_version("m0")
    for i, name in enumerate(names):
        ml = dict.fromkeys(ORGAN_NAMES, 0.0) | {"liver": float(i), "pancreas": 10.0 - i / 2}
        book.record_score(name, "m0", {o: OrganScore(size) for o, size in ml.items()})
    sample = book.next_sample(holder=ANNA, model_version="m0")
    assert sample is not None
    book.submit(sample.volume, ANNA)
    book.next_sample(holder=ANNA, model_version="m0")
    return folder


def test_the_list_as_csv(studies: Path) -> None:
    rows = list(
        csv.DictReader(io.StringIO(run("rank", "--studies", studies, "--format", "csv").stdout))
    )
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, 21)]
    assert [row["volume"] for row in rows[:2]] == ["case_19", "case_18"]
    assert [row["status"] for row in rows[:3]] == ["submitted", "leased", "open"]
    assert rows[0]["attention_ml"] == "19.5"
    assert [float(rows[0][organ]) for organ in ("liver", "pancreas", "aorta")] == [19, 0.5, 0]


def test_the_list_as_json(studies: Path) -> None:
    document = json.loads(
        run("rank", "--studies", studies, "--format", "json", "--limit", 2, "--open").stdout
    )
    assert document["model_version"] == "m0"
    assert (document["scored"], document["total"]) == (20, 20)
    assert document["budget"] == {"round": 1, "total": 4, "left": 3}
    assert [(v["rank"], v["volume"]) for v in document["volumes"]] == [
        (3, "case_17"),
        (4, "case_16"),
    ]
    assert document["volumes"][0]["organs"][0] == {"organ": "liver", "attention_ml": 17.0}


def test_the_list_as_a_table_and_by_organ(studies: Path) -> None:
    out = run("rank", "--studies", studies, "--organ", "pancreas", "--limit", 1).stdout
    assert "scored 20 of 20" in out
    assert re.search(r"1  case_00 +10\.0  open +pancreas 10\.0", out)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_picture_has_the_budget_in_it(studies: Path, tmp_path: Path, suffix: str) -> None:
    picture = tmp_path / f"sizes{suffix}"
    run("rank", "--studies", studies, "--limit", 1, "--plot", picture)
    if suffix == ".png":
        assert picture.read_bytes().startswith(b"\x89PNG")
    else:
        # Text is drawn as paths; matplotlib notes it beside them.
        text = picture.read_text()
        share = sum(10 + i / 2 for i in (19, 18, 17, 16)) / sum(10 + i / 2 for i in range(20))
        assert f"<!-- budget: 4 of 20 volumes, {share:.0%} of all attention -->" in text
        assert "<!-- submitted (1) -->" in text
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_the_picture_has_the_order_of_the_list(studies: Path, tmp_path: Path) -> None:
    book = Ledger(locate(str(studies)))
    for i in range(20):  # the other way round than by attention
        ml = dict.fromkeys(ORGAN_NAMES, OrganScore(0.0, figures={"salient": 0.0}))
        scores = ml | {"liver": OrganScore(float(i), figures={"salient": 100.0 - 3 * i})}
        book.record_score(f"case_{i:02d}", "m0", scores)
    assert book.set_ranking("salient")
    listed = ["rank", "--studies", studies, "--format", "csv"]
    picture = tmp_path / "list.svg"
    rows = list(csv.DictReader(io.StringIO(run(*listed, "--plot", picture).stdout)))
    assert rows[0]["volume"] == "case_00"
    sizes = [float(row["score"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    text = picture.read_text()
    share = sum(sizes[:4]) / sum(sizes)
    assert f"<!-- budget: 4 of 20 volumes, {share:.0%} of all salient volume -->" in text
    assert "<!-- salient volume of nine organs (ml) -->" in text
    run(*listed, "--by", "eq4", "--organ", "liver", "--plot", picture)
    text = picture.read_text()
    assert f"4 of 20 volumes, {sum(range(16, 20)) / sum(range(20)):.0%} of all attention" in text
    assert "<!-- attention size of liver (ml) -->" in text


def test_what_rank_refuses(studies: Path, tmp_path: Path) -> None:
    run("rank", "--studies", tmp_path / "nowhere", fails="nowhere: there is no such folder")
    run("rank", "--studies", tmp_path, fails="there is no ledger yet")
    run("rank", "--studies", studies, "--plot", "x.pdf", fails=r"x\.pdf: .*\.svg or \.png")
    run("rank", "--studies", studies, "--organ", "heart", fails="heart: no such organ")
    run("rank", "--studies", studies, "--signature", "m9", fails="m9: model version not")
    run(
        "rank", "--studies", studies, "--plot", tmp_path / "no" / "x.svg", fails="cannot be written"
    )
    Ledger(tmp_path / "empty.sqlite")
    run("rank", "--ledger", tmp_path / "empty.sqlite", fails="no volume has been scored")


def test_backup_into_a_folder_and_back(studies: Path, tmp_path: Path) -> None:
    target = Path(run("ledger", "backup", tmp_path, "--studies", studies).stdout.strip())
    assert re.fullmatch(r"ledger-\d{8}T\d{6}Z\.sqlite", target.name)
    assert Ledger(target).statuses() == Ledger(locate(str(studies))).statuses()
    run("ledger", "backup", tmp_path, "--studies", tmp_path, fails="there is no ledger yet")


def test_rebuild_from_the_labels_of_a_studies_folder(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    (studies / "case_b").mkdir(parents=True)
    array = np.zeros(GRID.shape, dtype=np.uint8)
    write_nifti(studies / "case_a.nii.gz", array.astype(np.int16), GRID)
    write_nifti(studies / "case_b" / "ct.nii.gz", array.astype(np.int16), GRID)
    folder = StudiesFolder(studies, watch=False)
    for i, info in enumerate(
        [
            {"model_version": "m0"},
            {"client_id": "anna"},
            {"client_id": "ben", "absent": ["liver"]},
        ]
    ):
        array[: i + 1] = 8 if i else 5
        source = write_nifti(tmp_path / "label.nii.gz", array, GRID)
        folder.labels.save("case_a", "final" if i else "original", source, ".nii.gz", dict(info))
    folder.close()
    book = Ledger(locate(str(studies)))
    book.exclude(*(book.add_volumes(["case_b"])), "chest CT")  # type: ignore[call-arg]
    run("ledger", "rebuild", "--studies", studies, fails="knows less; .*give --replace")
    assert book.status("case_b") == "excluded"
    book.close()

    out = run("ledger", "rebuild", "--studies", studies, "--replace").stdout
    assert "2 volumes, 3 label files, 2 submissions, 1 decisions about usable CTs" in out
    assert "0 drawings" in out
    assert "not rebuilt: scores, leases, minutes of files that do not say them" in out
    book = Ledger(locate(str(studies)))
    assert book.statuses() == {"case_a": "submitted", "case_b": "excluded"}
    assert [s.holder for s in book.submissions("case_a")] == ["client:anna", "client:ben"]
    last = book.changes(book.submissions("case_a")[-1].id)
    assert last["liver"].state == "absent"
    assert (last["spleen"].voxels_before, last["spleen"].voxels_after) == (60, 90)
    kept = Path(re.findall(r"that was there: (.*)", out)[0])
    assert Ledger(kept).status("case_b") == "excluded"

    shutil.rmtree(studies / "labels")
    run("ledger", "rebuild", "--studies", studies, "--replace")
    assert Ledger(locate(str(studies))).counts().submitted == 0
