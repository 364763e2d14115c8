"""OHIF in a headless Chromium, on the real server over a real Orthanc.

``ATLAS8K_PICTURES`` names a folder in which the screenshots are kept.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
import SimpleITK as sitk
from tests.e2e.harness import Server
from tests.e2e.orthanc import REAL, needs_orthanc, orthanc_with, real_series, serving
from tests.e2e.phantoms import SPACING_MM, turned

from abdomen_phantom import STANDARD, generate
from atlas8k.cli.rank import newest
from atlas8k.core.structures import ORGAN_IDS, ORGANS
from atlas8k.core.volume import read_label
from atlas8k.formats.dicom import write_series
from atlas8k.formats.dicom_seg_writing import write_segmentation
from atlas8k.store import Ledger

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    needs_orthanc,
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium (make system-packages)"),
]

LIMIT_MS = 120_000
LIMIT_S = 120
FLAGS = [
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--no-sandbox", "--disable-dev-shm-usage"),
]
PHANTOMS = {
    "Phantom one": (9001, "LPS"),
    "Phantom two": (9002, "LPI"),
    "Phantom three": (9003, "LPI"),
    "Phantom four": (9004, "LPS"),
}
"""Seed and direction of the axes; slices of the second one are stored from the head down."""
LABELS = """() => {
    const service = window.services.segmentationService;
    const volume = service.getLabelmapVolume('1');
    const segments = Object.values(service.getSegmentations()[0].config.segments);
    const counts = {};
    for (const value of volume.voxelManager.getCompleteScalarDataArray())
        if (value) counts[value] = (counts[value] || 0) + 1;
    return segments.map(s => ({label: s.label, value: s.segmentIndex,
                               color: Array.from(s.color).slice(0, 3),
                               voxels: counts[s.segmentIndex] || 0}));
}"""
LABEL_MAP = """() => {
    try { return window.services.segmentationService.getLabelmapVolume('1'); }
    catch { return false; }  // until there is one
}"""
SAVE = """async ([from, to]) => {
    // As a brush does: one segment painted over by another; then the viewer's own export.
    const service = window.services.segmentationService;
    const voxels = service.getLabelmapVolume('1').voxelManager;
    let count = 0;
    voxels.getCompleteScalarDataArray().forEach((value, at) => {
        if (value === from) { voxels.setAtIndex(at, to); count += 1; }
    });
    const {segmentationId, id} = service.getSegmentations()[0];
    const made = window.commandsManager.runCommand(
        'generateSegmentation', {segmentationId: segmentationId || id, options: {}});
    await window.extensionManager.getActiveDataSource()[0].store.dicom(made.dataset);
    return count;
}"""
VOXELS = """() => {
    const all = window.services.segmentationService.getLabelmapVolume('1')
        .voxelManager.getCompleteScalarDataArray();
    const parts = [];
    for (let at = 0; at < all.length; at += 8192)
        parts.push(String.fromCharCode(...all.slice(at, at + 8192)));
    return btoa(parts.join(''));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two phantoms and, where it is there, a real series; scored by the embedded networks."""
    folder = tmp_path_factory.mktemp("ohif")
    files = real_series() if REAL.is_dir() else []
    for name, (seed, codes) in PHANTOMS.items():
        phantom = generate(seed, STANDARD, grid_spacing_mm=SPACING_MM)
        ct = turned(phantom.ct, codes)
        files += write_series(folder / name, ct.array, ct.grid, seed=name, description=name)
    with orthanc_with(folder, files) as archive, serving(folder, archive, tiny=False) as started:
        assert started.score()["status"] == "DONE"
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A page of a browser of its own that reaches nothing but the server."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(LIMIT_MS)
    context.route(
        lambda url: not url.startswith((f"{server.url}/", "blob:", "data:")),
        lambda route: route.abort(),
    )
    found = context.new_page()
    found.on("dialog", lambda dialog: dialog.accept())
    yield found
    context.close()


def studies(server: Server) -> dict[str, tuple[str, str]]:
    """Study and series by the description of the series."""
    answer = requests.get(f"{server.url}/proxy/dicom/qido/series", timeout=LIMIT_S).json()
    found = {}
    for row in answer:
        if row["00080060"]["Value"] == ["CT"]:
            words = (row.get("0008103E") or {}).get("Value", ["?"])[0]
            uids = (row["0020000D"]["Value"][0], row["0020000E"]["Value"][0])
            found[words if words in PHANTOMS else "real"] = uids
    return found


def keep(page: Any, name: str) -> Any:
    """A screenshot as an array ``(rows, columns, RGB)``; in the folder for pictures, too."""
    taken = page.screenshot()
    if folder := os.environ.get("ATLAS8K_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(taken)
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(taken)).convert("RGB")).astype(int)


def near(picture: Any, color: tuple[int, ...]) -> int:
    """Pixels of about that colour."""
    return int((np.abs(picture - np.array(color)).max(axis=2) <= 12).sum())


def connect(page: Any, server: Server, study: str) -> None:
    """Open a study in the mode MONAI Label and connect to the server that it proposes."""
    page.goto(f"{server.url}/ohif/monai-label?StudyInstanceUIDs={study}")
    page.wait_for_selector("#monailabelServerURL")
    assert page.input_value("#monailabelServerURL") == f"{server.url}/"
    page.wait_for_function(
        "() => window.services?.viewportGridService?.getState().viewports.size > 0"
        " && document.querySelectorAll('canvas').length > 0"
    )
    for last in (False, False, False, True):
        # The viewer makes its label map when it connects, and has to have the CT by then.
        page.click(".settingsTable button.actionButton")
        page.wait_for_selector(".modelSelector select", state="attached")
        try:
            page.wait_for_function(LABEL_MAP, timeout=LIMIT_MS if last else LIMIT_MS / 6)
            break
        except playwright.TimeoutError:
            if last:
                raise
    # Not a click of Playwright's: it waits for what the viewer, busy drawing, is slow to do.
    page.evaluate("document.querySelector('[data-cy=confirm-and-hide-button]')?.click()")


def run(page: Any, model: str) -> None:
    page.locator(".modelSelector select").first.select_option(model)
    page.locator('button[title="Run Segmentation"]').first.click()
    page.wait_for_selector("text=Running Segmentation - Successful")


def expected(server: Server, series: str, model: str, folder: Path) -> tuple[Any, dict[str, int]]:
    """The server's own answer: voxels in the file's order, and what its values mean."""
    params = {"result_extension": ".nrrd", "restore_label_idx": False}
    answer = requests.post(
        f"{server.url}/infer/{model}?image={series}&output=image",
        files={"params": (None, json.dumps(params))},
        timeout=LIMIT_S,
    )
    assert answer.status_code == 200, answer.text
    assert answer.content.startswith(b"NRRD")
    path = folder / "answer.nrrd"
    path.write_bytes(answer.content)
    names = requests.get(f"{server.url}/info/", timeout=LIMIT_S).json()["models"][model]["labels"]
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel(), names


def test_study_list(page: Any, server: Server) -> None:
    page.goto(f"{server.url}/ohif/")
    count = len(studies(server))
    assert count >= len(PHANTOMS)
    page.wait_for_function(
        "n => document.querySelectorAll('[data-cy=\"study-list-results\"] > *').length >= n",
        arg=count,
    )
    assert "C3L-00189" not in page.content()  # the patient's id


@pytest.mark.parametrize("which", ["Phantom one", "Phantom two", "real"])
def test_ensemble_is_shown_with_names_and_colors(
    page: Any, server: Server, which: str, tmp_path: Path
) -> None:
    if which not in studies(server):
        pytest.skip("the real series is not there")
    study, series = studies(server)[which]
    connect(page, server, study)
    run(page, "ensemble")
    page.wait_for_timeout(1500)  # drawn after it is there
    voxels, names = expected(server, series, "ensemble", tmp_path)
    there = {name: int((voxels == value).sum()) for name, value in names.items()}
    shown = {one["label"]: one for one in page.evaluate(LABELS)}
    assert {organ.name for organ in ORGANS} <= set(shown)
    for organ in ORGANS:
        assert tuple(shown[organ.name]["color"]) == organ.color
        assert shown[organ.name]["voxels"] == there[organ.name]
        assert shown[f"attention_{organ.name}"]["voxels"] == 0
        assert tuple(shown[f"attention_{organ.name}"]["color"]) == organ.color
    # Where each voxel is, too: the order of the slices is the viewer's.
    drawn_voxels = np.frombuffer(base64.b64decode(page.evaluate(VOXELS)), np.uint8)
    for organ in ORGANS:
        assert np.array_equal(
            drawn_voxels == shown[organ.name]["value"], voxels == names[organ.name]
        )
    picture = keep(page, f"ohif-{which.replace(' ', '-').lower()}")
    drawn = [organ.name for organ in ORGANS if near(picture, organ.color) > 30]
    assert "liver" in drawn
    assert len(drawn) >= 3


def test_attention_is_shown_as_regions_of_its_own(page: Any, server: Server) -> None:
    study, _ = studies(server)["Phantom one"]
    connect(page, server, study)
    run(page, "attention")
    shown = {one["label"]: one["voxels"] for one in page.evaluate(LABELS)}
    assert sum(n for name, n in shown.items() if name.startswith("attention_")) > 0
    assert sum(shown[organ.name] for organ in ORGANS) == 0
    keep(page, "ohif-attention")


def history_of(server: Server, series: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{server.url}/atlas8k/labels/{series}/history", timeout=LIMIT_S)
    found: list[dict[str, Any]] = answer.json()["history"]
    return found


def leases(server: Server) -> list[str]:
    """Strategies of the ledger's leases, oldest first."""
    path = server.studies.parent / "ledger.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT strategy FROM lease ORDER BY id")]


def ranked(server: Server) -> list[str]:
    """Series in the order of the priority list."""
    ledger = Ledger(server.studies.parent / "ledger.sqlite")
    try:
        return [line.volume for line in ledger.ranking(newest(ledger))]
    finally:
        ledger.close()


def ask_for_sample(page: Any, strategy: str | None = None) -> None:
    """Press *Next Sample*, with a strategy chosen or as the list stands."""
    page.click("label.tab-label >> text=Active Learning")
    if strategy is not None:
        page.locator(".optionsTable select.actionInput").first.select_option(strategy)
    page.click("button.actionInput >> text=Next Sample")
    page.wait_for_selector(".nextSampleForm button.actionButton")


def next_sample(page: Any) -> str:
    """Press *Next Sample* and go where it leads; the study."""
    ask_for_sample(page)
    before = page.url
    page.click(".nextSampleForm button.actionButton")
    page.wait_for_url(lambda url: "StudyInstanceUIDs=" in url and url != before)
    page.wait_for_selector("#monailabelServerURL")
    return str(page.url.rsplit("=", 1)[1])


def go_to_slice(page: Any, number: int, count: int) -> None:
    """Scroll the axial view to a slice as OHIF itself numbers it."""
    page.evaluate(
        """n => {
            const service = window.services.cornerstoneViewportService;
            const view = service.getCornerstoneViewport('mpr-axial');
            view.scroll(n - 1 - view.getSliceIndex());
        }""",
        number,
    )
    page.wait_for_selector(f"text=({number}/{count})")


SHOWN = """([start, stop, label]) => {
    // Voxels of a segment in the axial slice that is shown, within a box of columns and rows.
    const services = window.services;
    const view = services.cornerstoneViewportService.getCornerstoneViewport('mpr-axial');
    const volume = services.segmentationService.getLabelmapVolume('1');
    const segments = Object.values(services.segmentationService.getSegmentations()[0]
        .config.segments);
    const value = segments.find(one => one.label === label).segmentIndex;
    const [nx, ny] = volume.dimensions;
    const k = Math.round(volume.imageData.worldToIndex(view.getCamera().focalPoint)[2]);
    const all = volume.voxelManager.getCompleteScalarDataArray();
    let count = 0;
    for (let j = start[1]; j < stop[1]; j++)
        for (let i = start[0]; i < stop[0]; i++)
            count += all[(k * ny + j) * nx + i] === value;
    return count;
}"""


def test_next_sample_is_the_chosen_strategys_and_its_region_is_in_the_slice_named(
    page: Any, server: Server
) -> None:
    page.goto(f"{server.url}/atlas8k/cases")
    page.fill("input[name=name]", "Ann")
    page.click("text=Keep")
    page.wait_for_selector("text=Your name")
    assert page.input_value("input[name=name]") == "Ann"
    first, *others = ranked(server)
    by_series = {series: study for study, series in studies(server).values()}
    before = len(leases(server))
    # One that has to be left for the first of the list; nothing is chosen.
    connect(page, server, by_series[others[-1]])
    study = next_sample(page)
    assert (study, leases(server)[before:]) == (by_series[first], ["attention"])

    # The page names a slice; OHIF, taken to that number, shows the region in it.
    me = {"client_id": "Ann"}
    listed = requests.get(f"{server.url}/atlas8k/cases/list", params=me, timeout=LIMIT_S).json()
    (case,) = listed["open"]
    assert case["image"] == first
    connect(page, server, study)
    run(page, "attention")
    for region in case["regions"]:
        place = region["place"]
        assert place["plane"] == "axial"
        go_to_slice(page, place["ohif_slice"], place["slices"])
        box = [region["start"], region["stop"], f"attention_{region['organ']}"]
        assert page.evaluate(SHOWN, box) > 0, region
    keep(page, "ohif-region")

    page.goto(f"{server.url}/atlas8k/cases")
    card = page.locator("article", has_text=first)
    assert card.count() == 1
    assert study in (card.get_by_text("Open in OHIF").get_attribute("href") or "")
    region = case["regions"][0]["place"]
    assert f"{region['ohif_slice']} of {region['slices']}" in card.inner_text()
    assert "R {:.1f}, A {:.1f}, S {:.1f} mm (RAS)".format(*region["ras_mm"]) in card.inner_text()
    keep(page, "cases-light")
    page.emulate_media(color_scheme="dark")
    keep(page, "cases-dark")

    # Enter on a choice submits nothing: there is a button for that.
    choice = card.locator("input[name=organ-spleen][value=absent]")
    choice.check()
    choice.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(1000)
    assert history_of(server, first) == []
    assert page.locator("article", has_text=first).count() == 1

    page.goto(f"{server.url}/atlas8k/cases")
    card.get_by_text("I looked at all of them").click()
    marked = card.locator("input[value=correct]:checked").count()
    assert marked > 0
    card.locator("button", has_text="Submit the draft label").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".said")
    assert "as submission" in page.inner_text(".said")
    assert page.locator("article", has_text=first).count() == 0
    keep(page, "cases-submitted")
    (one,) = history_of(server, first)
    assert one["holder"] == "client:Ann"
    states = [organ["state"] for organ in one["organs"].values()]
    assert set(states) <= {"confirmed", "not_assessed"}
    assert states.count("confirmed") == marked

    # Another strategy is kept once it is chosen; and there is something to train on now.
    connect(page, server, by_series[others[-1]])
    ask_for_sample(page, "first")
    assert leases(server)[before + 1 :] == ["first"]
    connect(page, server, by_series[others[-1]])
    page.click("label.tab-label >> text=Active Learning")
    page.click("button.actionInput >> text=Update Model")
    page.wait_for_selector("text=Model update task STARTED")
    page.click("button.actionInput >> text=Stop Training")
    page.wait_for_selector("text=Model update task STOPPED")
    listed = requests.get(f"{server.url}/atlas8k/cases/list", params=me, timeout=LIMIT_S).json()
    for held in listed["open"]:
        url = f"{server.url}/atlas8k/cases/{held['image']}/release"
        assert requests.post(url, json=me, timeout=LIMIT_S).status_code == 200


@pytest.mark.parametrize("codes", ["LPS", "LPI"])
def test_what_the_viewer_saves_is_submitted(page: Any, server: Server, codes: str) -> None:
    """The draft label is shown, an organ is painted over, and the viewer stores its SEG."""
    open_ones = [
        studies(server)[name]
        for name, (_, stored) in PHANTOMS.items()
        if stored == codes and not history_of(server, studies(server)[name][1])
    ]
    study, series = open_ones[0]
    page.context.add_cookies([{"name": "atlas8k_name", "value": "Olga", "url": server.url}])
    connect(page, server, study)
    assert page.get_attribute("text=Your cases", "href") == "/atlas8k/cases"
    with page.expect_popup() as shown_beside:
        page.click("text=This case")
    shown_beside.value.wait_for_url(f"**/atlas8k/case?image={series}")
    back = shown_beside.value.get_attribute("text=Open in OHIF", "href")
    assert back.endswith(study)
    shown_beside.value.close()
    run(page, "draft")
    shown = {one["label"]: one for one in page.evaluate(LABELS)}
    assert shown["liver"]["voxels"] > 0
    values = [shown["gall_bladder"]["value"], shown["liver"]["value"]]
    painted = page.evaluate(SAVE, values)
    assert painted == shown["gall_bladder"]["voxels"] > 0
    (one,) = history_of(server, series)
    assert (one["holder"], one["in_force"]) == ("client:Olga", True)
    assert one["organs"]["liver"]["state"] == "revised"
    assert one["organs"]["liver"]["voxels_changed"] == painted
    assert {one["organs"][name]["voxels_changed"] or 0 for name in ("spleen", "aorta")} == {0}
    keep(page, "ohif-saved")
    # Saved again, it is opened again first.
    page.evaluate(SAVE, [shown["pancreas"]["value"], shown["stomach"]["value"]])
    assert [one["in_force"] for one in history_of(server, series)] == [False, True]


def test_a_corrected_dicom_seg_is_taken_in(server: Server, tmp_path: Path) -> None:
    """As another DICOM program would bring it: uploaded, read by names, booked, current."""
    name, series = next(
        (name, series)
        for name, (_, series) in studies(server).items()
        if name in PHANTOMS and not history_of(server, series)
    )
    me = {"client_id": "Bea"}
    url = f"{server.url}/atlas8k/cases/{series}"
    answer = requests.post(f"{url}/take", json=me, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    path = tmp_path / "start.nii.gz"
    path.write_bytes(requests.get(f"{url}/start", params=me, timeout=LIMIT_S).content)
    start = read_label(path)
    changed = start.array.copy()
    changed[changed == ORGAN_IDS["gall_bladder"]] = ORGAN_IDS["liver"]
    files = sorted((server.app.parent / name).glob("*.dcm"))
    sent = tmp_path / "corrected"  # as archives save it, without a suffix
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    write_segmentation(changed, start.grid, headers, sent, description="Corrected")
    answer = requests.post(
        f"{url}/submit",
        files={"label": ("corrected", sent.read_bytes())},
        data={**me, "absent": ["gall_bladder"]},
        timeout=LIMIT_S,
    )
    assert answer.status_code == 200, answer.text
    states = answer.json()["organs"]
    assert (states["gall_bladder"], states["liver"]) == ("absent", "revised")
    assert states["spleen"] == "not_assessed"
    where = f"{server.url}/datastore/label?label={series}&tag=final"
    path.write_bytes(requests.get(where, timeout=LIMIT_S).content)
    final = read_label(path)
    assert final.grid.same_as(start.grid)
    assert np.array_equal(final.array, changed)


VOXEL_AT = """([x, y]) => {
    // The voxel under a place of the axial view, from its upper left corner.
    const service = window.services.cornerstoneViewportService;
    const view = service.getCornerstoneViewport('mpr-axial');
    const volume = window.services.segmentationService.getLabelmapVolume('1');
    return volume.imageData.worldToIndex(view.canvasToWorld([x, y])).map(Math.round);
}"""
PLACE_OF = """([i, j, k]) => {
    // Show a voxel's slice in the axial view; its place there, from the upper left corner.
    const service = window.services.cornerstoneViewportService;
    const view = service.getCornerstoneViewport('mpr-axial');
    const {imageData} = window.services.segmentationService.getLabelmapVolume('1');
    const now = Math.round(imageData.worldToIndex(view.getCamera().focalPoint)[2]);
    const before = view.getSliceIndex();
    view.scroll(1);
    const step = Math.round(imageData.worldToIndex(view.getCamera().focalPoint)[2]) - now;
    view.scroll((k - now) * step - (view.getSliceIndex() - before));
    return view.worldToCanvas(imageData.indexToWorld([i, j, k]));
}"""
VOLUME = """() => {
    const volume = window.services.segmentationService.getLabelmapVolume('1');
    return {size: Array.from(volume.dimensions), values: Object.fromEntries(
        Object.values(window.services.segmentationService.getSegmentations()[0].config.segments)
            .map(s => [s.label, s.segmentIndex]))};
}"""


def shown_label(page: Any) -> tuple[Any, dict[str, int]]:
    """The label map of the viewer, ``(x, y, z)``, and what its values mean."""
    found = page.evaluate(VOLUME)
    voxels = np.frombuffer(base64.b64decode(page.evaluate(VOXELS)), np.uint8)
    return voxels.reshape(found["size"], order="F"), found["values"]


def click_on(page: Any, voxel: list[int]) -> None:
    """Click on a voxel in the axial view."""
    x, y = page.evaluate(PLACE_OF, voxel)
    page.wait_for_timeout(500)  # until the slice is drawn
    assert page.evaluate(VOXEL_AT, [x, y]) == voxel
    box = page.locator("[data-viewport-uid=mpr-axial] canvas").first.bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + y)
    page.wait_for_timeout(1000)  # until the viewer, busy drawing, has taken it


def choose(page: Any, name: str) -> None:
    page.locator(".optionsTable tr.clickable-row", has_text=name).first.click()


@pytest.mark.parametrize("which", ["Phantom three", "Phantom four"])
def test_point_prompts_change_the_organ_on_the_screen(
    page: Any, server: Server, which: str
) -> None:
    study, _ = studies(server)[which]
    connect(page, server, study)
    run(page, "draft")
    page.wait_for_timeout(1000)
    before, values = shown_label(page)
    liver = before == values["liver"]
    page.click("label.tab-label >> text=Point Prompts")

    # Nothing chosen, then nothing clicked: said in words.
    page.locator('button[title="Run PointPrompts"]').click()
    page.wait_for_selector("text=Choose the organ that the points are about")
    choose(page, "spleen")
    page.locator('button[title="Run PointPrompts"]').click()
    page.wait_for_selector("text=there is no scribble in the map")

    # One voxel of the liver that is none, one beside it that is.
    inner = [int(n) for n in np.argwhere(liver)[liver.sum() // 2]]
    rim = np.argwhere(liver[:, inner[1], inner[2]])[:, 0]
    outer = [int(rim.max()) + 2, inner[1], inner[2]]
    choose(page, "liver")
    click_on(page, outer)
    choose(page, "background")
    click_on(page, inner)
    page.locator('button[title="Run PointPrompts"]').click()
    page.wait_for_selector("text=Running Inference for Point Prompts - Successful")
    page.wait_for_timeout(1000)
    after, _ = shown_label(page)
    keep(page, f"ohif-points-{which.split()[1]}")
    assert after[tuple(outer)] == values["liver"]
    assert after[tuple(inner)] != values["liver"]
    changed = after != before
    assert set(np.unique(after[changed])) <= {0, values["liver"]}
    # Far from both nothing has changed.
    far = np.linalg.norm((np.argwhere(changed)[:, None] - [outer, inner]) * SPACING_MM, axis=2).min(
        axis=1
    )
    assert far.max() < 80
