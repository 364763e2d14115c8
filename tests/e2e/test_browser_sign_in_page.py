"""Somebody signs in with a browser, draws, is signed out by the realm meanwhile, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pydicom import dcmread
from tests.e2e.browser import check_accessible, keep, needs_chromium, opened, until
from tests.e2e.case_page import READY, SAVED, begin, drawn, needs_niivue, stroke, submit
from tests.e2e.harness import Server
from tests.e2e.orthanc import needs_orthanc, orthanc_with, serving, tiny_series
from tests.e2e.realm import Realm, bearer, signed_in
from tests.e2e.small import LIMIT_S, small_server
from tests.e2e.test_ohif import LIMIT_MS, connect, run

pytestmark = [pytest.mark.slow, needs_chromium]
TOLD = "!document.querySelector('#signed-out').hidden"


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with signed_in() as started:
        yield started


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("browser")
    with small_server(folder, "--conf", "score_new_s", "0") as started:
        yield started


def fill_in(page: Any, name: str) -> None:
    page.wait_for_selector("h1:text('Sign in')")
    until(page, "document.activeElement.name === 'username'")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(f"{name}'s word")
    page.keyboard.press("Enter")


def sign_in(page: Any, name: str = "anna") -> None:
    fill_in(page, name)
    page.wait_for_selector(f"text=Signed in as {name}")


@needs_niivue
def test_a_session_that_ends_while_one_draws_costs_nothing(
    page: Any, server: Server, realm: Realm
) -> None:
    realm.lasts_s = 1  # so that it is asked for the next one all the while
    page.goto("/atlas8k/case?image=a")
    sign_in(page)
    begin(page, "a")
    assert page.url.endswith("/atlas8k/case?image=a")
    page.keyboard.press("5")
    page.keyboard.press("b")
    page.focus("#gl")
    stroke(page, 0, (0.3, 0.4), (0.5, 0.5))
    until(page, SAVED)
    assert len(set(realm.asked)) == 2
    realm.lasts_s = 600
    realm.sessions.clear()  # as an administrator of the realm ends them
    before = len(drawn(page))
    stroke(page, 0, (0.5, 0.5), (0.6, 0.6))
    page.wait_for_selector("text=Not saved on the server: you are not signed in any more")
    until(page, TOLD)
    assert len(drawn(page)) > before
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Not submitted: you are not signed in any more")
    keep(page, "signed-out")
    check_accessible(page)
    with page.expect_popup() as popup:
        page.click("#signed-out a")
    sign_in(popup.value)
    popup.value.close()
    page.bring_to_front()
    until(page, SAVED)
    until(page, f"!({TOLD})")
    shown = len(drawn(page))
    submit(page)
    answer = requests.get(
        f"{server.url}/datastore/label?label=a&tag=final",
        headers=bearer(realm.token("ruth")),
        timeout=LIMIT_S,
    )
    assert answer.status_code == 200
    assert shown > before
    history = f"{server.url}/atlas8k/labels/a/history"
    found = requests.get(history, headers=bearer(realm.token("ruth")), timeout=LIMIT_S).json()
    assert found["history"][-1]["organs"]["liver"]["voxels_changed"] == shown


def test_what_was_drawn_comes_back_after_the_page_to_sign_in(
    browser: Any, server: Server, realm: Realm
) -> None:
    with opened(browser, server) as page:
        page.goto("/atlas8k/case?image=b")
        sign_in(page)
        begin(page, "b")
        page.fill("#comment", "not lost")
        page.context.clear_cookies()
        page.keyboard.press("Escape")
        page.wait_for_selector("text=Not saved on the server")
        page.on("dialog", lambda dialog: dialog.accept())
        page.reload()
        sign_in(page)
        until(page, READY)
        until(page, SAVED)
        assert page.input_value("#comment") == "not lost"


def test_one_signs_out_on_the_page(page: Any) -> None:
    page.goto("/")
    page.click("main a[href='/atlas8k/cases'] >> nth=0")
    sign_in(page, "ruth")
    assert page.url.endswith("/atlas8k/cases")
    page.goto("/atlas8k/")
    page.click("text=Sign out")
    page.wait_for_selector("text=You are signed out.")
    page.goto("/atlas8k/cases")
    page.wait_for_selector("h1:text('Sign in')")
    page.go_back()
    page.wait_for_selector("text=You are signed out.")  # no page from before


def test_a_form_that_was_sent_too_late_is_sent_again(page: Any) -> None:
    page.goto("/atlas8k/cases")
    sign_in(page)
    page.context.clear_cookies()
    page.fill("input[type=text][name=image]", "c")
    page.click("button:text-is('Take')")
    page.wait_for_selector("text=Nothing was done so far")
    check_accessible(page)
    with page.expect_popup() as popup:
        page.click("text=Sign in")
    sign_in(popup.value)
    page.reload()
    page.wait_for_selector("text=c is in your hands")


def test_a_link_from_elsewhere_does_not_ask_again(browser: Any, server: Server) -> None:
    """Its first request has no cookie, by the cookie's own rule."""
    context = browser.new_context()
    page = context.new_page()
    wanted = f"{server.url}/atlas8k/list?q=a"
    for again in (False, True):
        page.goto(server.url.replace("127.0.0.1", "localhost"))  # another site to the browser
        page.evaluate("where => { location.href = where; }", wanted)
        if not again:
            sign_in(page)
        page.wait_for_selector("text=Signed in as anna")
        assert page.url == wanted
    context.close()


@needs_orthanc
def test_ohif_by_the_session(
    browser: Any, realm: Realm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The viewer's own requests: series of the archive, what the server offers, an inference."""
    folder = tmp_path_factory.mktemp("ohif")
    files = tiny_series(folder, 1)
    study = dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    with orthanc_with(folder, files) as archive, serving(folder, archive) as server:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.goto(f"{server.url}/ohif/monai-label?StudyInstanceUIDs={study}")
        fill_in(page, "anna")
        page.wait_for_url("**/ohif/monai-label?*")
        connect(page, server, study)
        run(page, "ensemble")
        keep(page, "ohif-signed-in")
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "zoom"), [(380, 1), (1280, 2)])
def test_the_page_fits_narrow_screens_and_large_letters(
    browser: Any, server: Server, width: int, zoom: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width // zoom, "height": 900 // zoom},
        device_scale_factor=zoom,
        color_scheme=scheme,
        java_script_enabled=False,
        base_url=server.url,
    )
    page = context.new_page()
    page.goto("/atlas8k/")
    page.fill("[name=username]", "adam")
    page.fill("[name=password]", "a guess")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Name or password is wrong.")
    keep(page, f"sign-in-{scheme}-{width}")
    page.fill("[name=password]", "adam's word")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Signed in as adam")
    assert page.url == f"{server.url}/atlas8k/"
    keep(page, f"signed-in-{scheme}-{width}")
    context.close()
    context = browser.new_context(viewport={"width": width // zoom, "height": 900 // zoom})
    page = context.new_page()
    page.goto(f"{server.url}/atlas8k/")
    assert page.evaluate("document.documentElement.scrollWidth") <= width // zoom
    check_accessible(page)
    context.close()
