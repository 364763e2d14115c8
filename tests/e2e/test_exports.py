"""A dataset is exported from the campaign's page, in a headless Chromium, on the real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from tests.e2e.browser import check_accessible, keep, launched, needs_chromium, opened
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("exports")
    with small_server(folder) as started:
        assert put_label(started, label_bytes(folder), "a").status_code == 200
        yield started


def test_from_the_page(server: Server, tmp_path: Path) -> None:
    with launched() as browser, opened(browser, server) as page:
        page.goto("/atlas8k/")
        page.fill("#export-form [name=name]", "mine")
        page.select_option("#export-form [name=require]", "any")
        page.click("#export-form button:text('Export')")
        page.wait_for_selector("#said:has-text('The export was begun')")
        page.wait_for_selector("#said:has-text('CTs are left out')")
        page.wait_for_selector("#export .sheet a:visible", timeout=5000 * LIMIT_S)
        assert "mine: 1 volume, 1 organ, in" in page.inner_text("#export .what")
        check_accessible(page)
        keep(page, "export")
        page.click("#export .sheet a")
        page.wait_for_selector("h1:text('mine')")
        assert page.locator("figure svg").count() >= 1
    out = server.studies.with_name("studies-exports") / "mine"
    assert (out / "a/segmentations/liver.nii.gz").is_file()


def test_for_programs(server: Server) -> None:
    url = f"{server.url}/atlas8k/exports"
    answer = requests.post(url, json={"name": "flat", "layout": "nnunet"}, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    end = time.monotonic() + 5 * LIMIT_S
    while (now := requests.get(url, timeout=LIMIT_S).json())["running"]:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "flat" in now["text"]
    # DICOM SEG refers to a CT: they are copied where nothing is said, and must not be left out.
    answer = requests.post(
        url, json={"name": "dicom", "layout": "dicom", "cts": ""}, timeout=LIMIT_S
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["cts"] == "copy"
    while (now := requests.get(url, timeout=LIMIT_S).json())["running"]:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "dicom: 1 volume" in now["text"]
    wrong = {"name": "x", "layout": "dicom", "cts": "none"}
    for body in ({"name": "../x"}, {"name": "x", "layout": "zip"}, wrong):
        assert requests.post(url, json=body, timeout=LIMIT_S).status_code == 422
