"""A sweep of sixty volumes by keyboard, on a server without networks, in a headless Chromium."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from tests.e2e.browser import check_accessible, keep, needs_chromium, until
from tests.e2e.harness import APP, Server, running
from tests.e2e.phantoms import write_phantoms
from tests.e2e.small import LIMIT_S

from atlas8k.core.structures import ORGANS
from atlas8k.store import Ledger, locate

pytestmark = [pytest.mark.slow, needs_chromium]
VOLUMES, BODIES = 60, 3
FLAGGED = (3, 17, 40)
"""By their place in the sweep."""
HERE = "/atlas8k/sweep"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """CTs with labels of before in a folder; the app has no networks at all."""
    folder = tmp_path_factory.mktemp("sweep")
    app, studies, made = folder / "app", folder / "studies", folder / "made"
    final = studies / "labels" / "final"
    for one in (app, final):
        one.mkdir(parents=True)
    shutil.copy(APP / "main.py", app / "main.py")
    names = write_phantoms(made, folder / "truth", BODIES)
    for number in range(VOLUMES):
        name = f"{names[number % BODIES]}.nii.gz"
        shutil.copy(made / name, studies / f"ct_{number:02d}.nii.gz")
        shutil.copy(folder / "truth" / name, final / f"ct_{number:02d}.nii.gz")
    with running(app, studies, folder, "--conf", "networks", "off") as started:
        end = time.monotonic() + 4 * LIMIT_S
        while "unchecked_labels" in info(started):
            assert time.monotonic() < end
            time.sleep(0.5)
        yield started


def info(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{server.url}/info/", timeout=LIMIT_S).json()["atlas8k"]
    return found


def campaign(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{server.url}/atlas8k/campaign", timeout=LIMIT_S).json()
    return found


def drawn(page: Any) -> None:
    until(page, "document.querySelector('#now-picture img')?.naturalWidth > 0")


def test_nothing_is_predicted(server: Server) -> None:
    found = requests.get(f"{server.url}/info/", timeout=LIMIT_S).json()
    assert (list(found["models"]), found["trainers"], found["scoring"]) == (
        ["draft", "strokes"],
        {},
        {},
    )
    assert "networks off" in found["atlas8k"]["error"]
    for path in ("infer/ensemble?image=ct_00", "train/atlas8k", "scoring/attention"):
        answer = requests.post(f"{server.url}/{path}", json={}, timeout=LIMIT_S)
        assert answer.status_code == 404, f"{path}: {answer.text}"
    assert "Traceback" not in server.text()


def test_what_the_page_says_before(page: Any, server: Server) -> None:
    page.goto("/atlas8k/")
    assert "Networks are off" in page.inner_text("main")
    page.goto(HERE)
    drawn(page)
    assert "60 to look at" in page.inner_text("#sheet")
    assert "Nobody has looked at anything" in page.inner_text("#report")
    assert page.evaluate("document.activeElement.id") == "sheet"
    assert campaign(server)["sweep"] is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "zoom"), [(380, 1), (1280, 1), (1280, 2), (2560, 1)])
def test_fits_every_screen(
    browser: Any, server: Server, width: int, zoom: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width // zoom, "height": 900 // zoom},
        device_scale_factor=zoom,
        color_scheme=scheme,
        base_url=server.url,
    )
    page = context.new_page()
    page.goto(HERE)
    drawn(page)
    until(page, "[...document.querySelectorAll('#strip img')].every(one => one.naturalWidth)")
    keep(page, f"sweep-{scheme}-{width}-{zoom}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width // zoom
    check_accessible(page)
    context.close()


def test_outlines_have_the_colours_of_their_organs(server: Server) -> None:
    ledger = Ledger(locate(str(server.studies)))
    given = ledger.sweep_waiting("worst", None)[0]
    ledger.close()
    where = f"{server.url}{HERE}/outlines?image={given.volume}&label={given.sha256}"
    answer = requests.get(where, timeout=LIMIT_S)
    assert answer.headers["content-type"] == "image/jpeg"
    sheet = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    for organ in ORGANS:
        near = np.abs(sheet - np.array(organ.color)).max(axis=2) < 60
        assert near.sum() > 20, organ.name
    etag = answer.headers["etag"]
    again = requests.get(where, headers={"If-None-Match": etag}, timeout=LIMIT_S)
    assert again.status_code == 304
    other = where.replace(given.sha256, "0" * 64)
    assert requests.get(other, timeout=LIMIT_S).status_code == 404


def test_sixty_volumes_by_keyboard(
    page: Any, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    page.goto(HERE)
    looked, started, undone = [], time.monotonic(), False
    with capsys.disabled():
        while True:
            until(page, "!/Loading/.test(document.querySelector('#now-name').textContent)")
            name = page.inner_text("#now-name")
            if name.startswith("Nothing"):
                break
            drawn(page)
            page.keyboard.press("x" if len(looked) in FLAGGED else "f")
            looked.append(name)
            if len(looked) == 11 and not undone:
                undone = True
                page.keyboard.press("u")
                until(page, f"document.querySelector('#now-name').textContent === '{name}'")
                looked.pop()
        seconds = time.monotonic() - started
        rate = 60 * len(looked) / seconds
        sys.stdout.write(f"\n{len(looked)} volumes in {seconds:.1f} s: {rate:.0f} a minute\n")
    assert len(set(looked)) == len(looked) == VOLUMES
    until(page, "!/being recorded/.test(document.querySelector('#sheet').textContent)")
    page.reload()
    until(page, "!/Loading/.test(document.querySelector('#now-name').textContent)")
    found = campaign(server)["sweep"]
    assert (found["looked"], found["flagged"], found["open"]) == (len(looked), 3, 3)
    assert found["text"] in page.inner_text("#report").lower()
    page.goto("/atlas8k/")
    assert found["text"] in page.inner_text("main")
    ledger = Ledger(locate(str(server.studies)))
    assert {one.volume for one in ledger.sweep_flags()} == {looked[at] for at in FLAGGED}
    # They were in the folder, so they are submitted: a reviewer is asked, nothing is confirmed.
    questions = [(one.volume, one.kind) for one in ledger.reviews()]
    assert sorted(questions) == sorted((looked[at], "sample") for at in FLAGGED)
    assert {one.purpose for one in ledger.worked()} <= {"adopted"}
    ledger.close()
