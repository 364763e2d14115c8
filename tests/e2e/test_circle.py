"""The whole circle through the clients' own API, against a server started as a user does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import requests
from tests.e2e.harness import APP, REPOSITORY, Server
from tests.e2e.phantoms import write_phantoms

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid, read_grid, read_label, write_nifti

pytestmark = pytest.mark.slow
REAL = REPOSITORY.parent / "shared" / "data" / "totalsegmentator-example"
SHORT = {"max_epochs": 1, "steps_per_epoch": 1}
MODELS = ["ensemble", "swin_unetr", "unet", "nnunet", "attention", "draft", "strokes"]


def on_grid(path: str | Path, grid: Grid) -> npt.NDArray[np.uint8]:
    """A label file that must have exactly the CT's shape and affine."""
    image = nib.load(path)
    assert image.shape == grid.shape
    # NIfTI keeps float32; the CT's own affine went through the same file format.
    assert np.array_equal(np.float32(image.affine), np.float32(grid.affine))
    return read_label(path).array


def infer(server: Server, model: str, image: str, grid: Grid) -> tuple[Any, dict[str, Any]]:
    file, params = server.client().infer(model, image, {"form": "label"})
    return on_grid(file, grid), params


def submit(server: Server, image: str, correction: npt.NDArray[np.uint8], folder: Path) -> None:
    """Submit the draft label with every organ of `correction` as it is there.

    As 3D Slicer sends it: a segment's value is its place in ``label_info``.
    """
    client = server.client("annotator")
    start = read_label(client.download_label(image, "original"))
    array = start.array.copy()
    for number in np.unique(correction[correction > 0]):
        array[array == number] = 0
        array[correction == number] = number
    sent = write_nifti(folder / "corrected.nii.gz", array, start.grid)
    info = [{"name": name, "idx": idx} for name, idx in ORGAN_IDS.items()]
    reply = client.save_label(image, str(sent), params={"label_info": info})
    assert (reply["image"], reply["conflict"], reply["late"]) == (image, False, False)
    kept = read_label(client.download_label(image, "final"))
    assert np.array_equal(kept.array, array)


def turn(
    server: Server,
    corrections: Callable[[str], npt.NDArray[np.uint8]],
    folder: Path,
    networks: tuple[str, ...] = ("swin_unetr", "unet", "nnunet"),
) -> None:
    """Once round the circle; raises where something is not as it must be.

    `corrections` gives what to submit for a volume; an empty map has the annotator skip it.
    """
    client = server.client("annotator")
    info = client.info()
    assert list(info["models"]) == MODELS
    assert list(info["strategies"]) == [
        "attention", "first", "random", "random_foreground", "stratified", "review",
    ]  # fmt: skip
    assert list(info["scoring"]) == ["attention"]
    assert list(info["trainers"]) == ["atlas8k"]
    assert info["labels"] == list(ORGAN_NAMES)

    task = server.score()
    assert task["status"] == "DONE", task["details"]
    state = client.info()["atlas8k"]
    volumes = len(list(server.studies.glob("*.nii.gz")))
    assert (state["scored"], state["total"], state["failed"]) == (volumes, volumes, 0)
    model_version = state["model_version"]

    first = client.next_sample("attention", {})
    assert (first["rank"], first["ranked"], first["model_version"]) == (1, volumes, model_version)
    organs = [entry["attention_ml"] for entry in first["organs"]]
    assert organs == sorted(organs, reverse=True)
    assert first["attention_ml"] == pytest.approx(sum(organs))
    rank = 1
    while not corrections(first["id"]).any():
        first = client.next_sample("attention", {})  # the one in hand is skipped
        rank += 1
        assert first["rank"] == rank
    grid = read_grid(server.studies / f"{first['id']}.nii.gz")

    label, params = infer(server, "ensemble", first["id"], grid)
    assert params["label_names"] == dict(ORGAN_IDS)
    assert params["model_version"] == model_version
    assert set(np.unique(label)) <= set(range(10))
    # What was scored is what an annotator gets when running the model by hand.
    assert params["attention_total_ml"] == pytest.approx(first["attention_ml"], rel=1e-3)
    stored = read_label(client.download_label(first["id"], "original"))
    assert np.array_equal(stored.array, label)
    regions, params = infer(server, "attention", first["id"], grid)
    assert params["label_names"] == {f"attention_{n}": i for n, i in ORGAN_IDS.items()}
    for region in params["regions"]:
        box = tuple(slice(a, b) for a, b in zip(region["start"], region["stop"], strict=True))
        assert regions[box].any()

    submit(server, first["id"], corrections(first["id"]), folder)
    assert client.info()["datastore"]["completed"] == 1

    client.train_start("atlas8k", {**SHORT, "networks": ",".join(networks)})
    task = server.finish("train")
    assert task["status"] == "DONE", task["details"]
    info = client.info()
    stats = info["train_stats"]["atlas8k"]
    assert stats["epoch"] == stats["total_epochs"] == len(networks)
    assert stats["total_time"] > 0
    assert 0 <= stats["best_metric"] <= 1
    new = info["atlas8k"]["model_version"]
    assert new != model_version

    task = server.score()
    assert task["status"] == "DONE", task["details"]
    second = client.next_sample("attention", {})
    assert second["id"] != first["id"]
    assert second["model_version"] == new
    assert (second["scored"], second["total"]) == (volumes, volumes)


def test_on_phantoms_of_several_orientations(
    start: Callable[..., Server], tmp_path: Path, app: Path
) -> None:
    studies, truth = tmp_path / "studies", tmp_path / "truth"
    write_phantoms(studies, truth, 3)
    before = {path: path.read_bytes() for path in (app / "model" / "embedded").iterdir()}
    server = start(studies)

    def liver(image: str) -> npt.NDArray[np.uint8]:
        array = read_label(truth / f"{image}.nii.gz").array
        return np.where(array == ORGAN_IDS["liver"], array, 0)

    turn(server, liver, tmp_path)

    assert {path: path.read_bytes() for path in (app / "model" / "embedded").iterdir()} == before
    assert_ignored(app)
    nothing = requests.post(f"{server.url}/scoring/attention", json={}, timeout=60).json()
    assert nothing["status"] == "DONE"
    assert "nothing is stale" in nothing["details"][0]


def assert_ignored(app: Path) -> None:
    """What starting, scoring and training made in the app folder is not for git."""
    known = {path.relative_to(APP) for path in APP.rglob("*") if path.is_file()}
    made = {path.relative_to(app) for path in app.rglob("*") if path.is_file()} - known
    assert made
    names = "\n".join(str(Path("apps/atlas8k") / path) for path in sorted(made))
    ignored = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=REPOSITORY,
        input=names,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignored.stdout.split() == names.split()


@pytest.mark.skipif(not (REAL / "ct.nii.gz").is_file(), reason="the real CT is not there")
def test_with_a_real_ct_among_the_phantoms(
    start: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = tmp_path / "studies"
    write_phantoms(studies, tmp_path / "truth", 2)
    (studies / "real.nii.gz").write_bytes((REAL / "ct.nii.gz").read_bytes())
    source = read_label(REAL / "labels_model_v2.nii.gz")  # organ ids are ours
    truth = source.array

    server = start(studies)
    found, _ = infer(server, "ensemble", "real", read_grid(studies / "real.nii.gz"))
    with capsys.disabled():
        sys.stdout.write(found_and_true(found, truth, source.grid))
    turn(server, lambda image: truth if image == "real" else truth * 0, tmp_path, ("unet",))


def found_and_true(found: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], grid: Grid) -> str:
    """A table of what the networks find on the real CT; they need not find anything."""
    lines = ["", "real CT, networks as they come", f"{'organ':13s} {'found':>8s} {'true':>8s} ml"]
    for name, number in ORGAN_IDS.items():
        ours, theirs = found == number, truth == number
        both = int(ours.sum() + theirs.sum())
        dsc = 2 * int((ours & theirs).sum()) / both if both else float("nan")
        ml = grid.voxel_ml
        lines.append(f"{name:13s} {ours.sum() * ml:8.1f} {theirs.sum() * ml:8.1f} DSC {dsc:.2f}")
    return "\n".join([*lines, ""])
