"""A headless Chromium for tests of pages.

``ATLAS8K_PICTURES`` names a folder in which screenshots are kept, ``ATLAS8K_AXE`` the file
``axe.min.js`` of npm's axe-core where it lies elsewhere than in ``node_modules``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import Server

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="not installed: chromium (make system-packages)"
)
LIMIT_MS = 90_000
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""WebGL 2 without a graphics card."""
AXE = [
    Path(os.environ.get("ATLAS8K_AXE", "")),
    *(one / "node_modules/axe-core/axe.min.js" for one in Path(__file__).parents),
]
SERIOUS = {"serious", "critical"}


@contextlib.contextmanager
def launched(*more: str) -> Iterator[Any]:
    """Chromium for the block, with further arguments of its command line."""
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage", *more],
        )
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser: Any, server: Server) -> Iterator[Any]:
    """A page that reaches nothing but the server, and whose faults are the test's."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=server.url)
    context.set_default_timeout(LIMIT_MS)
    elsewhere: list[str] = []

    def stop(route: Any) -> None:
        elsewhere.append(route.request.url)
        route.abort()

    context.route(lambda url: not url.startswith((f"{server.url}/", "blob:", "data:")), stop)
    found = context.new_page()
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on(
        "console",
        lambda line: faults.append(line.text) if "Content Security Policy" in line.text else None,
    )
    yield found
    context.close()
    assert not elsewhere, elsewhere
    assert not faults, faults


def until(page: Any, expression: str, limit_s: float = LIMIT_MS / 1000) -> None:
    """Wait for something; Playwright's own way is forbidden by the page's policy."""
    end = time.monotonic() + limit_s
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.05)


def see_pictures(page: Any) -> None:
    """Have every picture of the page drawn."""
    page.evaluate("document.querySelectorAll('img').forEach(one => { one.loading = 'eager'; })")
    until(page, "[...document.images].every(one => one.complete)")


def keep(page: Any, name: str) -> None:
    if folder := os.environ.get("ATLAS8K_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def check_accessible(page: Any) -> None:
    """Have axe-core find no serious fault on the page; nothing is done where it is not there."""
    if axe := next((one for one in AXE if one.is_file()), None):
        # Into a world of its own, as the page's policy lets no other script run.
        session = page.context.new_cdp_session(page)
        frame = session.send("Page.getFrameTree")["frameTree"]["frame"]["id"]
        world = session.send("Page.createIsolatedWorld", {"frameId": frame})["executionContextId"]
        found = session.send(
            "Runtime.evaluate",
            {
                "expression": axe.read_text()
                + "; axe.run(document).then(all => all.violations.map("
                "one => one.impact + ' ' + one.id + ' ' + one.nodes.map(n => n.html).join(' | ')))",
                "contextId": world,
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        bad = [one for one in found["result"]["value"] if one.split()[0] in SERIOUS]
        assert not bad, "\n".join(bad)
