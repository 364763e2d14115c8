"""The pages of whoever runs a campaign, in a headless Chromium, on the real server."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from tests.e2e.browser import (
    AXE,
    check_accessible,
    keep,
    needs_chromium,
    opened,
    see_pictures,
    until,
)
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server

pytestmark = [pytest.mark.slow, needs_chromium]
IMAGES = tuple(f"ct_{number:02d}" for number in range(60))
SCORED = 4
PAGES = {"campaign": "/atlas8k/", "volumes": "/atlas8k/list"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Some CTs are scored; the others came afterwards and are not."""
    folder = tmp_path_factory.mktemp("page")
    more = ("--conf", "score_new_s", "0")
    with small_server(folder, *more, images=IMAGES[:SCORED]) as started:
        assert started.score()["status"] == "DONE"
        for name in IMAGES[SCORED:]:
            shutil.copy(started.studies / "ct_00.nii.gz", started.studies / f"{name}.nii.gz")
        end = time.monotonic() + LIMIT_S
        while len(started.client().datastore()["objects"]) < len(IMAGES):
            assert time.monotonic() < end
            time.sleep(0.5)
        yield started


@pytest.fixture(scope="module")
def worked(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Some cases are submitted, one is in hand, one is left out."""
    label = label_bytes(tmp_path_factory.mktemp("label"))
    for _ in range(3):
        sample = requests.post(
            f"{server.url}/activelearning/attention", json={"client_id": "small"}, timeout=LIMIT_S
        ).json()
        assert put_label(server, label, sample["id"]).status_code == 200
    for name in ("small", "other"):
        requests.post(
            f"{server.url}/activelearning/attention", json={"client_id": name}, timeout=LIMIT_S
        )
    answer = requests.post(
        f"{server.url}/atlas8k/volumes/ct_50/exclude",
        json={"reason": "metal <b>everywhere</b>"},
        timeout=LIMIT_S,
    )
    assert answer.status_code == 200, answer.text
    return server


@pytest.fixture
def page(browser: Any, worked: Server) -> Iterator[Any]:
    with opened(browser, worked) as found:
        yield found


def lines(page: Any) -> list[str]:
    return [one.inner_text().split("\n")[0] for one in page.locator("#list tbody th").all()]


def test_how_it_stands(page: Any, worked: Server) -> None:
    page.goto(PAGES["campaign"])
    text = page.inner_text("main")
    status = requests.get(f"{worked.url}/atlas8k/campaign", timeout=LIMIT_S).json()
    for step in status["steps"]:
        assert step["name"] in text
    assert status["stop"]["text"] in text
    assert "3 submitted" in text
    assert "annotator 1" in text
    assert "small" not in text
    assert "metal <b>everywhere</b>" in text
    label = page.get_attribute("svg.chart", "aria-label")
    assert f"of {SCORED} volumes in order" in label
    assert "3 are submitted" in label


def test_the_list_is_filtered_and_paged_without_a_new_page(page: Any) -> None:
    page.goto(PAGES["volumes"])
    page.evaluate("window.same = true")
    assert len(lines(page)) == 50
    page.click("text=Next")
    until(page, "document.querySelectorAll('#list tbody tr').length === 10")
    assert page.evaluate("document.activeElement.id") == "list"
    assert "page=2" in page.url
    page.fill("[name=q]", "CT_1")
    until(page, "document.querySelectorAll('#list tbody tr').length === 10")
    until(page, "location.search === '?q=CT_1'")
    page.fill("[name=q]", "")
    page.select_option("[name=show]", "submitted")
    until(page, "document.querySelectorAll('#list tbody tr').length === 3")
    page.select_option("[name=show]", "all")
    page.select_option("[name=order]", "name")
    first = "document.querySelector('#list tbody th').innerText"
    until(page, f"{first}.split('\\n')[0] === 'ct_00'")  # below: of which it is a copy
    assert page.evaluate("window.same") is True
    page.fill("[name=q]", "no such CT")
    page.wait_for_selector("text=No volume is like that")


def test_left_out_and_counted_again_by_keyboard(page: Any) -> None:
    page.goto(f"{PAGES['volumes']}?q=ct_11")
    page.focus("button[data-exclude=ct_11]")
    page.keyboard.press("Enter")
    page.keyboard.type("motion")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=ct_11 is left out: motion")
    page.focus("button[data-include=ct_11]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=ct_11 counts again")
    page.wait_for_selector("button[data-exclude=ct_11]")


def test_who_may_not_is_told(page: Any) -> None:
    page.goto(f"{PAGES['volumes']}?q=ct_12")
    page.route("**/exclude", lambda route: route.fulfill(status=403, json={"detail": "Role x"}))
    page.click("button[data-exclude=ct_12]")
    page.fill("#why textarea", "x")
    page.click("#why .main")
    page.wait_for_selector("text=You may not do that (Role x)")


def test_scoring_is_shown_as_it_runs(page: Any, worked: Server) -> None:
    page.clock.install()
    page.goto(PAGES["campaign"])
    # One is left out; the scoring that a server starts with may be at it still.
    assert re.search(r"\d+ of 59 volumes scored", page.inner_text("#scoring"))
    running = {"running": True, "text": "7 of 9 volumes scored", "part": 7 / 9, "seconds_left": 150}
    idle = {"running": False, "text": "none", "part": None, "seconds_left": None}
    page.route("**/work", lambda r: r.fulfill(json={"scoring": running, "training": idle}))
    page.clock.run_for(6000)
    page.wait_for_selector("text=about 3 min left")
    assert page.locator("#scoring button:visible").inner_text() == "Stop"
    page.unroute("**/work")
    page.route("**/work", lambda route: route.abort())
    page.clock.run_for(6000)
    page.wait_for_selector("#lost:visible")


def test_a_round_is_ended_and_the_next_begun(page: Any, worked: Server) -> None:
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(PAGES["campaign"])
    page.click("text=End round 1")
    page.wait_for_selector("text=Round 1 was ended")
    assert "No round is open" in page.inner_text("main")
    page.click("text=Open round 1 again")
    page.wait_for_selector("text=Round 1 is open again")
    page.click("text=End round 1")
    page.wait_for_selector("text=Round 1 was ended")
    page.click("text=Begin the next round")
    page.wait_for_selector("text=A round was begun")
    page.wait_for_selector("text=A round can be ended once something was submitted in it")
    rounds = requests.get(f"{worked.url}/atlas8k/campaign", timeout=LIMIT_S).json()["rounds"]
    assert [(one["number"], one["closed_at"] is None) for one in rounds] == [(1, False), (2, True)]
    answer = requests.post(f"{worked.url}/atlas8k/campaign/close-round", json={}, timeout=LIMIT_S)
    assert answer.status_code == 409
    assert "nothing was submitted in it" in answer.json()["detail"]


def test_nothing_is_asked_while_the_tab_is_hidden(page: Any) -> None:
    page.clock.install()
    page.goto(PAGES["campaign"])
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if one.url.endswith("/work") else None)
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.clock.run_for(60_000)
    assert not asked
    with page.expect_request("**/work"):
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: false});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )


def test_a_ct_is_added(page: Any, worked: Server, tmp_path: Path) -> None:
    content = requests.get(f"{worked.url}/datastore/image?image=ct_00", timeout=LIMIT_S).content
    page.goto(f"{PAGES['volumes']}?q=fresh")
    page.set_input_files(
        "#add input", {"name": "fresh.nii.gz", "mimeType": "application/gzip", "buffer": content}
    )
    page.click("#add button")
    page.wait_for_selector("text=1 of 1 added")
    until(page, "document.querySelector('#list tbody th')?.innerText === 'fresh'")
    answer = requests.delete(f"{worked.url}/datastore/image?id=fresh", timeout=LIMIT_S)
    assert answer.status_code == 200


def test_pictures_are_drawn_when_they_are_seen(page: Any, worked: Server) -> None:
    where = f"{worked.url}/atlas8k/thumbnail?image=ct_00"
    answer = requests.get(where, timeout=LIMIT_S)
    assert answer.headers["content-type"] == "image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    assert picture.shape[1] == 256
    assert picture.std() > 10
    again = requests.get(where, headers={"If-None-Match": answer.headers["etag"]}, timeout=LIMIT_S)
    assert again.status_code == 304
    assert requests.get(f"{where}x", timeout=LIMIT_S).status_code == 404
    page.goto(PAGES["volumes"])
    see_pictures(page)
    assert page.evaluate("[...document.images].every(one => one.naturalWidth === 256)")


@pytest.mark.parametrize("width", [380, 1100, 1280, 2200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_fits_every_screen(page: Any, name: str, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(PAGES[name])
    see_pictures(page)
    keep(page, f"{name}-{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if name == "volumes" and width >= 1100:  # its last column is not cut off
        wide = "document.querySelector('#list .wide')"
        assert page.evaluate(f"{wide}.scrollWidth - {wide}.clientWidth") <= 0
    check_accessible(page)


def test_axe_is_there() -> None:
    """Says in the list of skipped tests that nobody looked for faults of accessibility."""
    if not any(one.is_file() for one in AXE):
        pytest.skip("not installed: axe-core (make install-test)")


@pytest.mark.parametrize("name", PAGES)
def test_without_a_script(browser: Any, worked: Server, name: str) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=worked.url)
    page = context.new_page()
    page.goto(PAGES[name])
    assert "Without a script" in page.inner_text("main")
    assert page.locator("main button:visible").count() == (name == "volumes")
    if name == "volumes":
        page.fill("[name=q]", "ct_1")
        page.click("#filter button")
        assert len(lines(page)) == 10
    context.close()


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with small_server(tmp_path, images=()) as server:
        for path, words in (
            (PAGES["campaign"], "no CT here yet"),
            (PAGES["volumes"], "no CT here"),
        ):
            answer = requests.get(server.url + path, timeout=LIMIT_S)
            assert answer.status_code == 200, answer.text
            assert words in re.sub(r"\s+", " ", answer.text)
