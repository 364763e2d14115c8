"""OHIF with a set of 25 structures: names, colours and voxels are those of the server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.orthanc import orthanc_with, serving, tiny_series, tiny_uid
from tests.e2e.test_ohif import (
    LABELS,
    LIMIT_S,
    VOXELS,
    browser,
    choose,
    connect,
    keep,
    page,
    playwright,
    run,
    shown_label,
)
from tests.e2e.test_ohif import pytestmark as needs_ohif

from atlas8k.core.structure_sets import built_in
from atlas8k.core.structures import ORGANS, using
from atlas8k.core.volume import read_label, write_nifti

__all__ = ["browser", "page", "playwright"]
pytestmark = needs_ohif
SET = "abdomenatlas-1.1"
NEW = ("duodenum", "bladder", "femur_left")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ohif25")
    with (
        using(built_in("abdomenatlas-1.0")),  # the networks know the nine
        orthanc_with(folder, tiny_series(folder, 1)) as archive,
        serving(folder, archive, "--conf", "structures", SET) as started,
    ):
        assert started.score()["status"] == "DONE"
        yield started


@pytest.fixture(autouse=True)
def structures() -> Iterator[None]:
    with using(built_in(SET)):
        yield


def submit(server: Server, series: str, folder: Path) -> np.ndarray:
    """Submit three structures that no network knows; return the label, the CT's own voxels."""
    client = server.client("anna")
    drawn = read_label(client.download_label(series, "original"))
    array = np.zeros(drawn.array.shape, np.uint8)
    ids = built_in(SET).ids
    for number, name in enumerate(NEW):
        array[3 + 4 * number : 6 + 4 * number, 4:10, 3:9] = ids[name]
    sent = write_nifti(folder / "sent.nii.gz", array, drawn.grid)
    named = [{"name": name, "idx": ids[name]} for name in ids]
    params = {"label_info": named, "volume_is_right": list(ids)}
    client.save_label(series, str(sent), params=params)
    return array


def test_names_colors_voxels_and_points_of_25_structures(
    page: Any,
    server: Server,
    tmp_path: Path,
) -> None:
    series = tiny_uid(1)
    array = submit(server, series, tmp_path)
    (study,) = {
        row["0020000D"]["Value"][0]
        for row in requests.get(f"{server.url}/proxy/dicom/qido/series", timeout=LIMIT_S).json()
        if row["0020000E"]["Value"] == [series]
    }
    connect(page, server, study)
    run(page, "draft")
    page.wait_for_timeout(1500)
    shown = {one["label"]: one for one in page.evaluate(LABELS)}
    assert len(ORGANS) == 25
    assert {organ.name for organ in ORGANS} <= set(shown)
    ids = built_in(SET).ids
    for organ in ORGANS:
        assert tuple(shown[organ.name]["color"]) == organ.color, organ.name
        due = int((array == ids[organ.name]).sum()) if organ.name in NEW else None
        assert due is None or shown[organ.name]["voxels"] == due
    voxels = np.frombuffer(base64.b64decode(page.evaluate(VOXELS)), np.uint8)
    for name in NEW:
        there = voxels == shown[name]["value"]
        assert np.array_equal(there, (array == ids[name]).ravel(order="F")), name

    # A point prompt for one that no network knows: from intensities, the others as they were.
    before, values = shown_label(page)
    page.click("label.tab-label >> text=Point Prompts")
    choose(page, "duodenum")
    x, y = page.evaluate(
        """() => {
            const view = window.services.cornerstoneViewportService
                .getCornerstoneViewport('mpr-axial');
            const {clientWidth, clientHeight} = view.canvas;
            return [clientWidth / 2, clientHeight / 2];
        }"""
    )
    box = page.locator("[data-viewport-uid=mpr-axial] canvas").first.bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.wait_for_timeout(1000)
    page.locator('button[title="Run PointPrompts"]').click()
    page.wait_for_selector("text=Running Inference for Point Prompts - Successful")
    page.wait_for_timeout(1000)
    after, _ = shown_label(page)
    keep(page, "ohif-25")
    changed = after != before
    assert set(np.unique(after[changed])) <= {0, values["duodenum"]}
    assert (after == values["duodenum"]).sum() > (before == values["duodenum"]).sum()
