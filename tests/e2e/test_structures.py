"""Another set of structures than the nine, through the clients' own API and the pages."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import IMAGES, small_server
from tests.server.tiny import GRID

from atlas8k.core.structure_sets import NINE, built_in
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, using
from atlas8k.core.volume import read_label, write_nifti

pytestmark = pytest.mark.slow
SET = "abdomenatlas-1.1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        using(built_in("abdomenatlas-1.0")),  # the networks know the nine
        small_server(tmp_path_factory.mktemp("s"), "--conf", "structures", SET) as started,
    ):
        yield started


@pytest.fixture(autouse=True)
def structures() -> Iterator[None]:
    """What the clients of these tests know, too."""
    with using(built_in(SET)):
        yield


def submit(server: Server, image: str, folder: Path) -> None:
    """Submit a liver and a duodenum, and see that they are there, voxel for voxel."""
    client = server.client("anna")
    array = np.zeros(GRID.shape, np.uint8)
    array[3:8, 5:12, 4:12] = ORGAN_IDS["liver"]
    array[9:12, 5:12, 4:12] = ORGAN_IDS["duodenum"]
    sent = write_nifti(folder / "sent.nii.gz", array, GRID)
    # 3D Slicer's module sends a segment for each name of the draft label, all 25.
    named = [{"name": name, "idx": idx} for name, idx in ORGAN_IDS.items()]
    params = {"label_info": named, "volume_is_right": list(ORGAN_NAMES)}
    client.save_label(image, str(sent), params=params)
    assert np.array_equal(read_label(client.download_label(image, "final")).array, array)


def test_once_round_with_25_structures(server: Server, tmp_path: Path) -> None:
    client = server.client("anna")
    info = client.info()
    assert info["labels"] == list(ORGAN_NAMES)
    assert info["models"]["ensemble"]["labels"] == dict(ORGAN_IDS)
    assert server.score()["status"] == "DONE"
    before = client.info()["atlas8k"]["model_version"]
    for _ in IMAGES:
        sample = client.next_sample("attention", {})
        assert {one["organ"] for one in sample["organs"]} <= set(NINE)
        submit(server, sample["id"], tmp_path)
    client.train_start(
        "atlas8k", {"max_epochs": 1, "steps_per_epoch": 1, "networks": "unet", "gate": False}
    )
    assert server.finish("train")["status"] == "DONE"
    after = client.info()["atlas8k"]["model_version"]
    assert after != before
    assert server.score()["status"] == "DONE"
    file, params = client.infer("ensemble", "a", {"form": "label"})
    assert set(params["attention_ml"]) == {*NINE, "duodenum"}
    assert read_label(file).array.shape == GRID.shape


def test_pages_have_every_structure(server: Server) -> None:
    page = requests.get(f"{server.url}/atlas8k/case?image=a", timeout=60)
    assert page.status_code == 200
    for name in ORGAN_NAMES:
        assert name.replace("_", " ") in page.text
    for path in ("/", "/atlas8k/", "/atlas8k/list", "/atlas8k/cases"):
        assert requests.get(server.url + path, timeout=60).status_code == 200, path


def test_commands_go_by_the_campaign(server: Server, tmp_path: Path) -> None:
    """Nothing says the set but the folder."""

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "atlas8k", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "25" in run("structures")
    assert "38848004 Duodenum" in run("structures", SET)
    submit(server, "c", tmp_path)
    out = tmp_path / "export"
    studies = str(server.studies)
    run("export", str(out), "--studies", studies, "--layout", "abdomenatlas",
        "--require", "any")  # fmt: skip
    with (out / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["organ"] for row in rows if row["source"] == "revised"} >= {"liver", "duodenum"}
