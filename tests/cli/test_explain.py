"""`atlas8k explain` as a user runs it, over tiny networks."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer
from tests.server.tiny import GRID, write_ct, write_networks
from typer.testing import CliRunner, Result

from atlas8k.cli.explain import explain
from atlas8k.cli.rank import rank
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.rankings import RANKINGS
from atlas8k.core.settings import Settings
from atlas8k.core.structure_sets import built_in
from atlas8k.core.structures import in_use, using
from atlas8k.models.predict import Predictor
from atlas8k.services.opening import open_context
from atlas8k.services.scoring import Scoring
from atlas8k.store import Ledger, locate

app = typer.Typer()
app.command()(explain)
app.command()(rank)
NINE = built_in("abdomenatlas-1.0").names
CONF = {"device": "cpu", "inconsistency_threshold": "0.01", "opening_mm": "0"}


def run(*arguments: object, fails: str = "") -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if fails:
        assert isinstance(result.exception, Atlas8kError), result.output
        assert re.search(fails, str(result.exception))
    elif result.exception:
        raise result.exception
    return result


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    studies = folder / "studies"
    studies.mkdir()
    for seed, (name, scale) in enumerate([("a", 0.6), ("b", 1.0)]):
        write_ct(studies / f"{name}.nii.gz", seed, scale)
    models = write_networks(folder / "model")
    context = open_context(Settings.from_conf(CONF), str(studies), models)
    Scoring(context).run()
    context.close()
    return studies


def explained(scored: Path, *more: object) -> Result:
    settings = [part for key, value in CONF.items() for part in ("--conf", f"{key}={value}")]
    models = scored.parent / "model"
    return run("explain", "b", "--studies", scored, "--models", models, *settings, *more)


def test_the_tables_come_from_the_ledger(scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "predict", None)
    text = run("explain", "b", "--studies", scored).stdout
    assert "rank 1 of 2 by salient" in text
    assert "Organs, most attention first" in text
    assert "axial slice" in text
    assert text.index("Organs") < text.index("Regions to look at")


def test_json_is_what_was_scored(scored: Path) -> None:
    found = json.loads(run("explain", "b", "--studies", scored, "--json").stdout)
    assert found["places"]["eq4"]["rank"] == 1
    # Nothing was learnt of the errors of these networks.
    assert found["not_measured"] == ["expected_error"]
    assert set(found["places"]) == set(RANKINGS) - {"expected_error"}
    assert found["places"]["eq4"]["score"] == pytest.approx(found["attention_ml"], rel=1e-3)
    order = [organ["attention_ml"] for organ in found["organs"]]
    assert order == sorted(order, reverse=True)
    for region in found["regions"]:
        assert region["start"][found["slice_axis"]] <= region["slice"]
        assert region["slice"] < region["stop"][found["slice_axis"]] <= found["slices"]
        assert all(
            0 <= a < b <= n
            for a, b, n in zip(region["start"], region["stop"], GRID.shape, strict=True)
        )


def test_picture_heat_and_boxes_without_networks(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "predict", None)  # all of it was kept by scoring
    heat, organ, boxes = (tmp_path / n for n in ("h.nii.gz", "o.nii.gz", "b.mrk.json"))
    explained(scored, "--preview", tmp_path / "p.png", "--heat", heat, "--boxes", boxes)
    assert (tmp_path / "p.png").read_bytes()[1:4] == b"PNG"
    image = nib.load(heat)
    assert image.shape == GRID.shape
    assert np.allclose(image.affine, GRID.affine)
    explained(scored, "--heat", organ, "--organ", "liver")
    every, liver = image.get_fdata(), nib.load(organ).get_fdata()
    assert every.max() > 0
    assert (liver <= every + 1e-6).all()
    terms = np.zeros(GRID.shape)
    for criterion in ("inconsistency", "uncertainty", "overlap"):
        explained(scored, "--heat", organ, "--criterion", criterion)
        terms += nib.load(organ).get_fdata()
    assert np.abs(terms - every).max() < 9 / 128  # the sum is kept in steps, organ by organ
    found = json.loads(run("explain", "b", "--studies", scored, "--json").stdout)
    # Resampled to voxels of 2 ml, the sum is still the volume's attention, roughly.
    assert every.sum() * GRID.voxel_ml == pytest.approx(found["attention_ml"], rel=0.1)
    names = [markup["name"] for markup in json.loads(boxes.read_text())["markups"]]
    assert names[0].split()[:2] == ["1", found["regions"][0]["organ"]]


def test_where_nothing_is_kept_the_networks_run(scored: Path, tmp_path: Path) -> None:
    explained(scored, "--heat", tmp_path / "h.nii.gz", "--conf", "cache_gb=0")
    assert (tmp_path / "h.nii.gz").is_file()


@pytest.mark.parametrize(
    ("arguments", "fails"),
    [
        (["z"], "z"),
        (["b", "--preview", "x.txt"], "png"),
        (["b", "--heat", "x.png"], "nii.gz"),
        (["b", "--organ", "liver"], "--heat"),
        (["b", "--heat", "x.nii.gz", "--organ", "heart"], "heart"),
        (["b", "--criterion", "overlap"], "--heat"),
        (["b", "--heat", "x.nii.gz", "--criterion", "doubt"], "there are inconsistency"),
    ],
)
def test_what_cannot_be_done_is_one_line(scored: Path, arguments: list[str], fails: str) -> None:
    run("explain", *arguments, "--studies", scored, fails=fails)


def test_a_score_of_an_earlier_release_is_explained_too(scored: Path) -> None:
    noted = json.loads(explained(scored, "--json").stdout)
    with closing(sqlite3.connect(locate(str(scored)))) as connection, connection:
        kept = connection.execute("SELECT * FROM explanation").fetchall()
        connection.execute("DELETE FROM explanation")
    assert json.loads(explained(scored, "--json").stdout) == noted
    # With the usual settings another model version is served than it was scored under.
    models = scored.parent / "model"
    run("explain", "b", "--studies", scored, "--models", models, fails="earlier release")
    with closing(sqlite3.connect(locate(str(scored)))) as connection, connection:
        connection.executemany("INSERT INTO explanation VALUES (?,?,?)", kept)


def test_a_volume_without_a_score_says_so(scored: Path) -> None:
    book = Ledger(locate(str(scored)))
    book.add_volumes(["new"])
    run("explain", "new", "--studies", scored, fails="no score; run")
    model_version = json.loads(run("explain", "b", "--studies", scored, "--json").stdout)
    book.record_failure("new", model_version["model_version"], "the file is damaged")
    run("explain", "new", "--studies", scored, fails="cannot be scored: the file is damaged")
    book.sync_volumes([volume for volume in book.statuses() if volume != "new"])


@pytest.mark.parametrize("by", ["eq4", "salient", "per_slice"])
def test_lists_by_every_ranking(scored: Path, by: str) -> None:
    document = json.loads(run("rank", "--studies", scored, "--by", by, "--format", "json").stdout)
    assert document["ranking"] == by
    scores = [line["score"] for line in document["volumes"]]
    assert scores == sorted(scores, reverse=True)
    assert by in run("rank", "--studies", scored, "--by", by).stdout


def test_a_map_is_of_the_organ_that_was_asked_for_whatever_the_set(tmp_path: Path) -> None:
    """The networks know seven of its eight structures, which come in an order of their own."""
    write_ct(tmp_path / "studies" / "b.nii.gz", 1)
    models = write_networks(tmp_path / "model")
    conf = {**CONF, "structures": "a-eval"}
    settings = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    names = built_in("a-eval").names
    (unknown,) = {*names} - {*NINE}
    common = ("explain", "b", "--studies", tmp_path / "studies", "--models", models, *settings)
    maps = {}
    with using(in_use()):  # the command sets its own
        context = open_context(Settings.from_conf(conf), str(tmp_path / "studies"), models)
        Scoring(context).run()
        context.close()
        for name in (None, *(one for one in names if one != unknown)):
            organ = () if name is None else ("--organ", name)
            run(*common, "--heat", tmp_path / "h.nii.gz", *organ)
            maps[name] = np.asarray(nib.load(tmp_path / "h.nii.gz").dataobj)
        run(*common, "--heat", tmp_path / "h.nii.gz", "--organ", unknown, fails="no network knows")
    one = maps.pop(None)
    assert np.allclose(sum(maps.values()), one, atol=1e-3)
    assert len({array.tobytes() for array in maps.values()}) == len(maps)
