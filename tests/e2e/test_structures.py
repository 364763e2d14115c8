"""Another set of structures than the nine, through the clients' own API and the pages."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tests.e2e.browser import check_accessible, keep, needs_chromium, until
from tests.e2e.harness import Server
from tests.e2e.slicer import opened
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
        small_server(
            tmp_path_factory.mktemp("s"), "--conf", "structures", SET, images=(*IMAGES, "d")
        ) as started,
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


def test_3d_slicer_with_25_names(server: Server, tmp_path: Path) -> None:
    """Its own module: a segment for each, values as it counts them, every voxel kept."""
    with opened(server.url, tmp_path / "slicer", "anna") as slicer:
        image = slicer.next_sample("attention")
        assert image in (*IMAGES, "d")
        assert [one.name for one in slicer.segmentation.segments] == list(ORGAN_NAMES)
        expected = np.zeros(GRID.shape, np.uint8)
        for number in range(1, len(ORGAN_NAMES) + 1):
            expected.reshape(-1)[number * 100 : number * 100 + 60] = number
        for one in slicer.segmentation.segments:
            one.mask[...] = False
        for name, number in ORGAN_IDS.items():
            slicer.mask(name)[...] = expected == number
        slicer.save()
        assert not slicer.errors, slicer.errors[0]
        kept = server.client("anna").download_label(image, "final")
        assert np.array_equal(read_label(kept).array, expected)
        slicer.run("ensemble")  # replaced under their names, none is added
        assert [one.name for one in slicer.segmentation.segments] == list(ORGAN_NAMES)
        assert not slicer.errors, slicer.errors[0]


def test_pages_have_every_structure(server: Server) -> None:
    page = requests.get(f"{server.url}/atlas8k/case?image=a", timeout=60)
    assert page.status_code == 200
    for name in ORGAN_NAMES:
        assert name.replace("_", " ") in page.text
    for path in ("/", "/atlas8k/", "/atlas8k/list", "/atlas8k/cases"):
        assert requests.get(server.url + path, timeout=60).status_code == 200, path


@needs_chromium
def test_a_structure_is_found_by_its_number_and_by_its_name(page: Any) -> None:
    """Beyond nine: two digits within a second, or the field above the table."""
    page.goto("/atlas8k/case?image=b")
    chosen = "document.querySelector('tr[data-organ][aria-current]').dataset.organ"
    until(page, f"{chosen} === 'aorta'")
    page.keyboard.press("1")
    page.keyboard.press("5")
    assert page.evaluate(chosen) == "duodenum"
    page.wait_for_timeout(1100)
    for key, organ in (("2", "gall_bladder"), ("9", "stomach"), ("3", "kidney_left")):
        page.keyboard.press(key)  # 29, 93: none, so that the last digit counts
        assert page.evaluate(chosen) == organ
    page.keyboard.press("/")
    page.keyboard.type("adrenal gl")
    shown = page.locator("tr[data-organ]:visible")
    assert shown.count() == 2
    keep(page, "case-25-structures")
    page.keyboard.press("Enter")
    assert page.evaluate(chosen) == "adrenal_gland_left"
    assert shown.count() == 25
    page.keyboard.press("a")  # keys are keys again; nothing is held here, so that nothing changes
    page.keyboard.press("Escape")
    check_accessible(page)


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
