"""Somebody who has only the server's address: from `/` to a submitted correction, on real CTs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.content.kit import ABDOMENS, DATA
from tests.e2e.browser import check_accessible, keep, needs_chromium, opened, see_pictures, until
from tests.e2e.case_page import READY, SAVED, drawn, label, needs_niivue, stroke, submit
from tests.e2e.harness import APP, Server, running

from atlas8k.core.structures import ORGAN_IDS

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
    needs_niivue,
    pytest.mark.skipif(
        not all((DATA / name).is_file() for name in ABDOMENS), reason=f"no real CTs in {DATA}"
    ),
]
LIVER = ORGAN_IDS["liver"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app as it is, with the embedded networks, over two real CTs."""
    folder = tmp_path_factory.mktemp("newcomer")
    app, studies = folder / "app", folder / "studies"
    app.mkdir()
    studies.mkdir()
    shutil.copy(APP / "main.py", app)
    shutil.copytree(APP / "model" / "embedded", app / "model" / "embedded")
    for number, name in enumerate(ABDOMENS):
        shutil.copy(DATA / name, studies / f"patient{number}.nii.gz")
    with running(app, studies, folder) as started:
        assert started.score()["status"] == "DONE"
        yield started


def test_from_the_first_page_to_a_submission(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto("/")
        check_accessible(page)
        page.click("main a[href='/atlas8k/'] >> nth=0")
        page.wait_for_selector("text=What is to do now")
        see_pictures(page)
        keep(page, "newcomer-campaign")
        page.click("text=Correct the next case")
        page.wait_for_selector("text=In your hands for")
        until(page, READY)
        assert page.locator(".places button").count() > 0
        page.keyboard.press("n")  # to the first place
        page.keyboard.press("5")
        page.wait_for_selector("tr[data-organ=liver][aria-current=true]")
        page.keyboard.press("b")
        page.focus("#gl")  # a first click would scroll to it
        stroke(page, 0, (0.62, 0.45), (0.72, 0.5))  # away from the liver
        until(page, "document.querySelector('tr[data-organ=liver] select').value === 'changed'")
        page.keyboard.press("8")
        page.keyboard.press("c")
        until(page, SAVED)
        keep(page, "newcomer-case")
        shown = drawn(page)
        image = page.url.partition("image=")[2].partition("&")[0]
        submit(page)
        final = label(server, image)
        assert (final == LIVER).sum() == (shown[:, 4] == LIVER).sum() > 0
        assert not np.array_equal(final, label(server, image, "pseudo"))
        page.goto("/atlas8k/cases")
        assert "Submitted" in page.inner_text("main")
        check_accessible(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "zoom"), [(380, 1), (1280, 2)])
@pytest.mark.parametrize("where", ["/", "/atlas8k/", "/atlas8k/list", "/atlas8k/cases"])
def test_pages_fit_narrow_screens_and_large_letters(
    browser: Any, server: Server, where: str, width: int, zoom: int, scheme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width // zoom, "height": 900 // zoom},
        device_scale_factor=zoom,
        color_scheme=scheme,
        base_url=server.url,
    )
    page = context.new_page()
    page.goto(where)
    see_pictures(page)
    keep(page, f"newcomer{where.replace('/', '-')}-{scheme}-{width}-{zoom}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width // zoom
    check_accessible(page)
    context.close()
