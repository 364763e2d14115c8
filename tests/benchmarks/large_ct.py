"""A large CT on the page of a case: when slices and volume are there, what the browser takes.

The real server, and a headless Chromium whose WebGL is computed by the processor, so that what a
graphics card would hold counts as memory, too. A CT of noise in a body, with a draft label, is
opened, taken, looked at thinned with a layer; a block of it is drawn on at full resolution, saved
and submitted. Memory is that of all processes of the browser, what they share counted once.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks._quick import parse, report
from tests.e2e import browser
from tests.e2e.browser import WEBGL, launched
from tests.e2e.case_page import READY, SAVED, SHOWN
from tests.e2e.harness import Server
from tests.e2e.small import small_server

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.services.labels.service import LabelService

SLICES = "(i => i.complete && i.naturalWidth > 0)(document.querySelector('#slices img'))"
LOADED = f"{SHOWN} && document.querySelector('#loading').hidden"
LAYER = "[data-layer=pseudo]"
EVERY_S, LIMIT_S = 0.2, 300.0


def until(page: Any, expression: str) -> None:
    browser.until(page, expression, LIMIT_S)


def bring(server: Server, shape: tuple[int, int, int]) -> None:
    """A CT as large as asked, 0.7 x 0.7 x 1 mm, with a liver and a spleen as draft label."""
    grid = Grid(shape, np.diag([-0.7, 0.7, 1.0, 1.0]))
    rng, (nx, ny, nz) = np.random.default_rng(0), shape
    x, y = np.ogrid[-1 : 1 : nx * 1j, -1 : 1 : ny * 1j]
    body = x**2 / 0.8 + y**2 / 0.5 < 1
    ct = np.empty(shape, np.int16, order="F")
    for k in range(nz):
        ct[..., k] = np.where(body, rng.normal(40, 15, shape[:2]), -1000)
    label = np.zeros(shape, np.uint8, order="F")
    label[nx // 5 : nx // 2, ny // 4 : ny * 3 // 4, nz // 3 : nz * 2 // 3] = ORGAN_IDS["liver"]
    label[nx * 3 // 4 : nx * 9 // 10, ny // 2 : ny * 3 // 4, nz // 2 : nz * 2 // 3] = ORGAN_IDS[
        "spleen"
    ]
    write_nifti(server.studies / "large.nii.gz", ct, grid)
    service = LabelService.open(server.studies)
    service.keep_pseudo("large", label, grid, {"model_version": "none"})
    service.close()


def memory_mb() -> float:
    """Memory of the browser's processes, what several share divided among them, MB."""
    found = 0
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "chrom" in one.name():
                found += one.memory_full_info().pss
    return found / 1e6


@contextlib.contextmanager
def watched(peak: dict[str, float], name: str) -> Iterator[None]:
    """Note under a name the largest memory of the block."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_S):
            peak[name] = max(peak.get(name, 0.0), memory_mb())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure(page: Any, server: Server) -> dict[str, float]:
    figures: dict[str, float] = {}

    def note(name: str, since: float) -> None:
        figures[f"{name}_s"] = round(time.perf_counter() - since, 2)

    page.goto(f"{server.url}/atlas8k/cases")
    peak = {"empty": memory_mb()}
    with watched(peak, "thinned"):
        page.goto(f"{server.url}/atlas8k/case?image=large")
        page.click("text=Take it")
        page.wait_for_selector("text=In your hands for")
        begun = time.perf_counter()
        page.goto(f"{server.url}/atlas8k/case?image=large", wait_until="commit")
        until(page, SLICES)
        note("slices", begun)
        until(page, LOADED)
        note("thinned", begun)
        page.check(LAYER)
        until(page, f"!document.querySelector('{LAYER}').disabled")
        page.select_option("#layout", "all")
        time.sleep(1)
    with watched(peak, "block"):
        begun = time.perf_counter()
        page.keyboard.press("d")
        page.wait_for_selector("text=A part of this CT at full resolution")
        until(page, READY)
        note("block", begun)
        page.keyboard.press("5")
        page.keyboard.press("b")
        page.focus("#gl")
        begun = time.perf_counter()
        page.keyboard.press(" ")
        note("stroke", begun)
        until(page, SAVED)
        note("saved", begun)
        page.check(LAYER)
        until(page, f"!document.querySelector('{LAYER}').disabled")
        begun = time.perf_counter()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("text=is submitted:")
        note("submitted", begun)
    figures |= {f"browser_{name}_mb": round(value) for name, value in peak.items()}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 600))
    parser.add_argument("--mvoxels", type=float, default=32.0, help="the setting browser_mvoxels")
    given = parse(parser, {"shape": (96, 96, 80), "mvoxels": 0.3})
    more = ("--conf", "score_new_s", "0", "--conf", "browser_mvoxels", str(given.mvoxels))
    with tempfile.TemporaryDirectory() as folder, small_server(Path(folder), *more) as server:
        bring(server, tuple(given.shape))
        with launched(*WEBGL) as chromium:
            page = chromium.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(300_000)
            figures = measure(page, server)
    for name, value in figures.items():
        print(f"{name:24} {value:8}")
    report("large_ct", figures, given)


if __name__ == "__main__":
    main()
