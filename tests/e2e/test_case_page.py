"""The page of a case in a headless Chromium: looked at, marked, by NiiVue and without it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from tests.e2e.browser import (
    check_accessible,
    keep,
    needs_chromium,
    see_pictures,
    until,
)
from tests.e2e.case_page import SHOWN, needs_niivue, state, take
from tests.e2e.harness import Server
from tests.e2e.reviewing import bring
from tests.e2e.small import LIMIT_S, small_server

pytestmark = [pytest.mark.slow, needs_chromium]
IMAGES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("case")
    with small_server(folder, "--conf", "score_new_s", "0", images=IMAGES) as started:
        assert started.score()["status"] == "DONE"
        for name in IMAGES:
            bring(started, name, liver=(2, 8), spleen=(12, 15)).close()
        yield started


@needs_niivue
def test_a_newcomer_gets_a_case_and_sees_it(page: Any) -> None:
    page.goto("/")
    page.goto("/atlas8k/")
    page.click("text=Correct the next case")
    page.wait_for_selector("text=In your hands for")
    until(page, SHOWN)
    assert page.locator("#gl").is_visible()
    assert not page.locator("#slices").is_visible()
    until(page, "document.querySelector('#where').innerText.includes('HU')")
    page.keyboard.press("n")
    assert page.get_attribute("[data-place='1']", "aria-current") == "true"
    page.focus("#gl")
    before = page.inner_text("#where")
    page.keyboard.press("PageUp")
    assert page.inner_text("#where") != before


@needs_niivue
def test_layers_windows_and_views(page: Any) -> None:
    take(page, "b")
    until(page, SHOWN)
    for key in ("network-unet", "pseudo", "attention", "start"):
        page.check(f"[data-layer={key}]")
        until(page, f"!document.querySelector('[data-layer={key}]').disabled")
        assert page.is_checked(f"[data-layer={key}]"), page.inner_text("#said")
        page.uncheck(f"[data-layer={key}]")
    for window in ("liver", "lung", "bone", "abdomen"):
        page.keyboard.press("w")
        assert page.input_value("#window") == window
    for view in ("all", "axial", "coronal", "sagittal", "3d", "planes"):
        page.keyboard.press("v")
        assert page.input_value("#layout") == view
    page.keyboard.press("t")
    assert not page.is_checked("#label-on")


def test_organs_are_marked_by_one_key(page: Any) -> None:
    take(page, "c")
    for number, key, organ, said in (
        (5, "c", "liver", "correct"),
        (8, "x", "spleen", "changed"),
        (5, "u", "liver", ""),
    ):
        page.keyboard.press(str(number))
        page.wait_for_selector(f"tr[data-organ={organ}][aria-current=true]")
        page.keyboard.press(key)
        until(page, f"document.querySelector('tr[data-organ={organ}] select').value === '{said}'")
    if page.locator("#comment").count():
        page.focus("#comment")
        page.keyboard.type("c5 cx")  # no keys of the page while one types
        assert state(page, "liver") == ""


def test_the_server_draws_where_there_is_no_webgl(page: Any) -> None:
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    take(page, "d")
    page.wait_for_selector("text=This browser has no WebGL 2")
    see_pictures(page)
    assert page.evaluate("document.querySelector('#slices img').naturalWidth") > 700
    before = page.get_attribute("#slices img", "src")
    page.evaluate(
        "const s = document.querySelector('[data-axis=\"2\"]'); s.value = 3;"
        "s.dispatchEvent(new Event('input'))"
    )
    until(page, f"document.querySelector('#slices img').getAttribute('src') !== {before!r}")
    assert "z=3" in page.get_attribute("#slices img", "src")
    see_pictures(page)
    keep(page, "case-slices")
    check_accessible(page)


def test_niivue_is_not_there(page: Any) -> None:
    page.route("**/viewer/niivue.js", lambda route: route.fulfill(status=404, json={}))
    page.goto("/atlas8k/case?image=d")
    page.wait_for_selector("text=NiiVue is not installed on this server")
    assert page.locator("#slices img").is_visible()


@needs_niivue
def test_a_ct_that_does_not_come_is_said(page: Any) -> None:
    page.route(
        "**/datastore/image?*", lambda route: route.fulfill(status=404, json={"detail": "x"})
    )
    page.goto("/atlas8k/case?image=d")
    page.wait_for_selector("text=The CT could not be loaded here (x)")
    assert page.locator("#slices img").is_visible()


def test_slices_show_what_lies_where(server: Server) -> None:
    """The liver's voxels are painted in the plane that has them, in its colour, and only there."""

    def red(x: int, label: str) -> int:
        where = f"{server.url}/atlas8k/case/slices?image=d&x={x}&y=8&z=8&label={label}"
        answer = requests.get(where, timeout=LIMIT_S)
        assert answer.status_code == 200, answer.text
        sheet = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
        sagittal = sheet[:, -330:-10]
        return int((sagittal.max(axis=2) - sagittal.min(axis=2) > 40).sum())

    assert red(4, "true") > 50_000
    assert red(4, "false") < 2000  # the square around the point
    assert red(10, "true") < 2000
    base = f"{server.url}/atlas8k/case/slices?image=d&x=4&y=8"
    for wrong, code in ((f"{base}&z=99", 422), (f"{base}&z=1&window=x", 422)):
        assert requests.get(wrong, timeout=LIMIT_S).status_code == code


@needs_niivue
def test_a_lease_is_renewed_by_work_and_seen_to_run_out(page: Any, server: Server) -> None:
    take(page, "c")
    until(page, SHOWN)
    page.clock.install()
    page.reload()
    until(page, SHOWN)
    page.clock.run_for(61_000)
    with page.expect_response("**/renew") as renewed:
        page.keyboard.press("1")
    assert renewed.value.status == 200
    case = requests.get(f"{server.url}/atlas8k/case?image=c", timeout=LIMIT_S)
    assert case.status_code == 200
    page.clock.run_for(91 * 60_000)
    page.wait_for_selector("text=Your time with this case has run out")
    page.wait_for_selector("text=Take it again")


@needs_niivue
@pytest.mark.parametrize("width", [380, 1280, 3840])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_every_screen(page: Any, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900 if width < 3000 else 2000})
    take(page, "b")
    until(page, SHOWN)
    time.sleep(0.5)
    keep(page, f"case-{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    check_accessible(page)
    page.click("#show-keys")
    keep(page, f"case-keys-{scheme}-{width}")
    check_accessible(page)
