"""`atlas8k quality studies`: from a studies folder that people have worked on, by hand sums."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import typer
from tests.headers import write_header
from typer.testing import CliRunner

from atlas8k.attention.salient import SalientSettings, salient_regions
from atlas8k.cli.quality import gathered, quality
from atlas8k.core.errors import Atlas8kError
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.labels.service import LabelService
from atlas8k.services.prediction.answers import Answers
from atlas8k.services.prediction.cache import Key, PredictionCache
from atlas8k.store import Holder

SHAPE = (20, 10, 9)
GRID = Grid(SHAPE, np.diag([-2.0, 2.0, 3.0, 1.0]))
ANNA, BEN = (Holder.identify(user=name) for name in ("anna", "ben"))
INFO = [{"name": name, "idx": i} for name, i in ORGAN_IDS.items()]
NETWORKS = ("mAAAAAAAA", "mBBBBBBBB")
ROUND_1, ROUND_2 = "round 1", "round 2"

app = typer.Typer()
app.add_typer(quality, name="quality")


def liver(stop: int) -> np.ndarray:
    """A slab of liver `stop` planes thick, and a spleen that nobody touches."""
    array = np.zeros(SHAPE, np.uint8)
    array[:stop] = ORGAN_IDS["liver"]
    array[17:19] = ORGAN_IDS["spleen"]
    return array


def dice(a: int, b: int) -> float:
    return 2 * min(a, b) / (a + b)


@pytest.fixture
def worked(tmp_path: Path) -> Path:
    """Volume a: 4 planes given out, 6 drawn, truth 8; b is drawn in the second round.

    Both networks' labels: 4, then 5 planes. Ben reads a a second time and draws 7.
    """
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a", "b"):
        write_nifti(folder / f"{name}.nii.gz", np.zeros(SHAPE, np.int16), GRID)
    label_service = LabelService.open(folder)
    label_service.double_read_percent = 100

    def send(who: Holder, volume: str, stop: int) -> None:
        assert label_service.ledger.next_sample(holder=who, strategy="first").volume == volume
        path = write_nifti(tmp_path / "sent.nii.gz", liver(stop), GRID)
        label_service.submit(volume, path, who, {"label_info": INFO})

    for number, (model_version, planes) in enumerate(zip(NETWORKS, (4, 5), strict=True)):
        label_service.ledger.register_model_version(model_version)
        for name in ("a", "b"):
            label_service.keep_pseudo(name, liver(planes), GRID, {"model_version": model_version})
        if number == 0:
            send(ANNA, "a", 6)
            send(BEN, "a", 7)  # the second reading
        else:
            send(ANNA, "b", 8)
    label_service.close()
    return folder


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    (tmp_path / "truth").mkdir()
    for name in ("a", "b", "not-there"):
        write_nifti(tmp_path / "truth" / f"{name}.nii.gz", liver(8), GRID)
    return tmp_path / "truth"


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["quality", "studies", *map(str, arguments)])
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def records(out: Path, name: str) -> list[dict[str, str]]:
    with open(out / "tables" / f"{name}.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def figure(rows: list[dict[str, str]], **wanted: str) -> float:
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return float(row["mean"])


def test_against_a_truth_drawn_apart(worked: Path, truth: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = run(worked, "--truth", truth, "--out", out)
    rows = records(out, "rounds-dsc")
    # a: 4, then 6 planes of 8; b: 4, then 5 by the new networks, then 8.
    states = {
        "before": (4, 4), "after round 1": (6, 4), "now": (6, 8),
    }  # fmt: skip
    assert list(dict.fromkeys(row["round"] for row in rows)) == [*states]
    for state, planes in states.items():
        mean = np.mean([dice(n, 8) for n in planes])
        assert figure(rows, round=state, **{"class": "liver"}) == pytest.approx(mean), state
        assert figure(rows, round=state, **{"class": "spleen"}) == 1
    rows = records(out, "revision-dsc")
    for name, labels, planes in (
        (ROUND_1, "given out", 4),
        (ROUND_1, "submitted", 6),
        (ROUND_2, "given out", 5),
        (ROUND_2, "submitted", 8),
    ):
        found = figure(rows, round=name, labels=labels, **{"class": "liver"})
        assert found == pytest.approx(dice(planes, 8)), (name, labels)
    rows = records(out, "networks-mAAAAAAA-mBBBBBBB-dsc")
    for name, planes in (("mAAAAAAA", 4), ("mBBBBBBB", 5)):
        row = figure(rows, training_set=name, **{"class": "liver"})
        assert row == pytest.approx(dice(planes, 8))
    assert (out / "tables" / "rounds-nsd.csv").is_file()
    assert "NSD tolerance 1 mm" in text
    assert "What was done in each round" in (out / "quality.html").read_text()


def test_a_truth_that_does_not_say_how_its_axes_run(worked: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    file = write_header(tmp_path / "a.nii.gz", GRID.affine, GRID.affine, (0, 0), liver(8))
    file.rename(tmp_path / "bare" / "a.nii.gz")
    given = (worked, "--truth", tmp_path / "bare", "--out", tmp_path / "out")
    run(*given, "--orientation", "LAS")
    rows = records(tmp_path / "out", "revision-dsc")
    found = figure(rows, round=ROUND_1, labels="submitted", **{"class": "liver"})
    assert found == pytest.approx(dice(6, 8))
    with pytest.raises(Atlas8kError, match="--orientation RAS"):
        run(*given)


def test_pairs_of_annotators_networks_and_others(worked: Path, truth: Path, tmp_path: Path) -> None:
    keep_answers(worked, "a", {"unet": 5, "swin": 3})
    run(worked, "--truth", truth, "--rater", f"other={truth}", "--out", tmp_path / "out")
    rows = records(tmp_path / "out", "agreement-average")
    pairs = {(r["rater"], r["other"]): r for r in rows if r["organ"] == "liver"}
    assert {a for a, _ in pairs} == {
        *("unet", "swin", "ensemble", "user:anna", "user:ben", "truth", "other")
    }
    for one, other, value, n in (
        ("user:anna", "user:ben", dice(6, 7), 1),
        ("user:anna", "truth", (dice(6, 8) + 1) / 2, 2),
        ("unet", "swin", dice(5, 3), 1),
        ("unet", "user:ben", dice(5, 7), 1),
        ("ensemble", "truth", dice(5, 8), 2),
        ("truth", "other", 1, 2),
    ):
        assert float(pairs[one, other]["dsc"]) == pytest.approx(value), (one, other)
        assert int(pairs[one, other]["n"]) == n


def keep_answers(studies: Path, volume: str, planes: dict[str, int]) -> None:
    """What the server keeps of its networks' predictions."""
    probs = np.zeros((len(planes), len(ORGAN_NAMES), *SHAPE), np.float16)
    labels = np.stack([liver(n) for n in (5, *planes.values())])
    for row, label in enumerate(labels[1:]):
        for organ, number in ORGAN_IDS.items():
            probs[row, ORGAN_NAMES.index(organ)] = label == number
    salient = salient_regions(probs, GRID, SalientSettings(), organs=ORGAN_NAMES, name=volume)
    label_service = LabelService.open(studies)
    cache = PredictionCache(label_service.ledger.path.parent / "cache", 1, reserve_bytes=0)
    answers = Answers(tuple(planes), labels, salient)
    assert cache.keep(Key(volume, "any", NETWORKS[1]), "answers", answers.packed())
    label_service.close()


def test_without_a_truth_what_was_submitted_is_it(worked: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = run(worked, "--out", out)
    rows = records(out, "revision-dsc")
    assert {row["labels"] for row in rows} == {"given out"}
    for name, (given, drawn) in ((ROUND_1, (4, 6)), (ROUND_2, (5, 8))):
        found = figure(rows, round=name, **{"class": "liver"})
        assert found == pytest.approx(dice(given, drawn))
    assert not (out / "tables" / "rounds-dsc.csv").exists()
    assert "what nobody corrected counts as right" in text


def test_what_the_ledger_knows_of_each_round(worked: Path, tmp_path: Path) -> None:
    run(worked, "--out", tmp_path / "out")
    rows = records(tmp_path / "out", "effort")
    assert [(r["round"], r["volumes"], r["submissions"], r["annotators"]) for r in rows] == [
        (ROUND_1, "1", "2", "2"),
        (ROUND_2, "1", "1", "1"),
    ]
    of_liver = [r for r in records(tmp_path / "out", "outcomes") if r["organ"] == "liver"]
    assert [(r["revised"], r["confirmed"]) for r in of_liver] == [("2", "0"), ("1", "0")]
    mean = 100 * np.mean([dice(4, 6), dice(4, 7)])
    assert of_liver[0]["DSC of changed"] == f"{mean:.1f}"


def test_labels_that_are_gone_are_told(worked: Path, tmp_path: Path) -> None:
    for tag in ("original", "pseudo"):  # the pseudo label was the draft
        for path in (worked / "labels" / ".history" / tag / "a").glob("*.nii.gz"):
            path.unlink()
    text = run(worked, "--out", tmp_path / "out")
    assert "a, round 1: the label given out is not there any more" in text
    rows = records(tmp_path / "out", "revision-dsc")
    assert {row["round"] for row in rows} == {ROUND_2}


def test_nothing_to_measure_is_said(tmp_path: Path, truth: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(Atlas8kError, match="no ledger yet"):
        run(folder)
    write_nifti(folder / "z.nii.gz", np.zeros(SHAPE, np.int16), GRID)
    label_service = LabelService.open(folder)
    label_service.ledger.add_volumes(["z"])
    label_service.close()
    assert "nothing to measure" in run(folder, "--out", tmp_path / "out", code=1)
    with pytest.raises(Atlas8kError, match="are the case names the same"):
        run(folder, "--truth", truth)


def test_notes_that_say_the_same_are_gathered() -> None:
    many = [f"case_{n}, round 1: gone" for n in range(7)]
    two = ["a: other", "b: other", "on its own"]
    assert gathered([*many, *two]) == [
        "7 times: gone (case_0, round 1; case_1, round 1; case_2, round 1; case_3, round 1; "
        "case_4, round 1; and 2 more)",
        *two,
    ]
