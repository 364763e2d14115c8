"""A CT that is too large for a browser: looked at thinned, drawn on a block at full resolution.

What is too large is a setting: here CTs of 5,760 voxels are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import requests
from tests.e2e.browser import check_accessible, keep, needs_chromium, until
from tests.e2e.case_page import (
    NV,
    READY,
    SAVED,
    SHOWN,
    WAYS,
    drawn,
    label,
    needs_niivue,
    state,
    stroke,
    submit,
    take,
    write_turned,
)
from tests.e2e.harness import Server
from tests.e2e.reviewing import bring
from tests.e2e.small import LIMIT_S, small_server

from atlas8k.core.parts import read_part, whole
from atlas8k.core.structures import ORGAN_IDS

pytestmark = [pytest.mark.slow, needs_chromium, needs_niivue]
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]
IMAGES = ("a", "b", "c", "d", "e")
MVOXELS = 0.002
VIEW = "JSON.parse(document.querySelector('#case').dataset.facts).view"
BOX = "JSON.parse(document.querySelector('#case').dataset.facts).box"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("large")
    more = ("--conf", "score_new_s", "0", "--conf", "browser_mvoxels", str(MVOXELS))
    with small_server(folder, *more, images=IMAGES) as started:
        for way in WAYS:
            write_turned(started.studies / f"turned_{way}.nii.gz", way)
        assert started.score()["status"] == "DONE"
        for name in IMAGES:
            bring(started, name, liver=(2, 8), spleen=(12, 15)).close()
        yield started


def look(page: Any, image: str) -> None:
    """Take a case and see all of it, thinned."""
    take(page, image)
    until(page, SHOWN)
    until(page, f"{VIEW} === 'thinned'")
    until(page, "document.querySelector('#loading').hidden")


def go(page: Any, at: tuple[float, float, float]) -> None:
    """Have the block about a place at full resolution: a part of the way along each axis."""
    page.evaluate(
        f"async at => {{ const nv = {NV}; nv.scene.crosshairPos = at; nv.drawScene(); }}", list(at)
    )
    page.keyboard.press("d")
    page.wait_for_selector("text=A part of this CT at full resolution")
    until(page, READY)


def everything(page: Any) -> None:
    page.keyboard.press("o")
    page.wait_for_selector("text=it is shown thinned")
    until(page, f"{SHOWN} && document.querySelector('#loading').hidden")


def placed(shown: npt.NDArray[np.float64], ct: Any) -> npt.NDArray[np.intp]:
    """The voxels of a CT at the places that a page shows."""
    places = (shown[:, :3] - ct.affine[:3, 3]) @ np.linalg.inv(ct.affine[:3, :3]).T
    index = np.rint(places).astype(int)
    assert np.abs(places - index).max() < 0.01
    i, j, k = index.T
    assert np.abs(np.asarray(ct.dataobj)[i, j, k] - shown[:, 3]).max() < 0.5  # a voxel of the CT
    return index


@pytest.mark.parametrize("way", WAYS)
def test_blocks_are_laid_into_the_label_voxel_for_voxel(
    page: Any, server: Server, way: str
) -> None:
    """Drawn on two blocks that overlap, in CTs of six orientations."""
    image = f"turned_{way}"
    ct = nib.load(server.studies / f"{image}.nii.gz")
    look(page, image)
    expected = label(server, image, "original")
    begun = expected.copy()
    boxes = []
    for number, at in enumerate(((0.1, 0.2, 0.3), (0.6, 0.6, 0.7))):
        go(page, at)
        boxes.append(page.evaluate(BOX))
        page.keyboard.press("58"[number])
        page.keyboard.press("b")
        for plane in range(3):
            stroke(page, plane, (0.3, 0.4), (0.55, 0.6))
        until(page, SAVED)
        shown = drawn(page)
        x0, y0, z0, x1, y1, z1 = map(int, boxes[-1].split(","))
        assert (x1 - x0) * (y1 - y0) * (z1 - z0) <= MVOXELS * 1e6
        i, j, k = placed(shown, ct).T
        inside = (slice(x0, x1), slice(y0, y1), slice(z0, z1))
        expected[inside] = 0
        expected[i, j, k] = shown[:, 4]
        everything(page)
    assert boxes[0] != boxes[1]
    assert (expected != begun).sum() > 20
    page.wait_for_selector("text=You go on with what you drew")  # and with what was said
    submit(page)
    assert np.array_equal(label(server, image), expected)


def test_thinned_it_is_every_nth_voxel(page: Any, server: Server) -> None:
    look(page, "a")
    keep(page, "large-thinned")
    check_accessible(page)
    assert "20 × 18 × 16 voxels, more than a browser can hold" in page.inner_text("#part")
    shown = drawn(page)
    assert set(shown[:, 4]) == {LIVER, SPLEEN}
    i, j, k = placed(shown, nib.load(server.studies / "a.nii.gz")).T
    assert np.array_equal(label(server, "a", "original")[i, j, k], shown[:, 4])
    page.keyboard.press("b")  # a brush needs full resolution
    page.wait_for_selector("text=A part of this CT at full resolution")
    until(page, READY)
    keep(page, "large-block")
    check_accessible(page)
    page.click("#all-of-it")
    page.wait_for_selector("text=it is shown thinned")


def test_organs_are_marked_without_drawing(page: Any, server: Server) -> None:
    """What is marked is kept, too; an organ marked absent goes wherever it lies."""
    look(page, "b")
    page.keyboard.press("5")
    page.keyboard.press("c")
    until(page, SAVED)
    go(page, (0.9, 0.5, 0.5))
    assert state(page, "liver") == "correct"
    page.keyboard.press("8")
    page.keyboard.press("a")
    until(page, "document.querySelector('tr[data-organ=spleen] .ml').textContent === 'none'")
    until(page, SAVED)
    begun = label(server, "b", "pseudo")
    submit(page)
    final = label(server, "b")
    assert np.array_equal(final == LIVER, begun == LIVER)
    assert not (final == SPLEEN).any()


def test_tools_know_what_is_around(page: Any, server: Server) -> None:
    """Of an organ in two pieces the larger is kept, although the block shows little of it."""
    look(page, "c")
    go(page, (0.5, 0.5, 0.5))
    whole_ml = page.inner_text("tr[data-organ=liver] .ml")
    lines = drawn(page)
    assert 0 < (lines[:, 4] == LIVER).sum() < (label(server, "c", "pseudo") == LIVER).sum()
    page.keyboard.press("5")
    page.keyboard.press("b")
    for _ in range(2):  # one voxel, which touches nothing
        page.keyboard.press("[")
    page.focus("#gl")
    page.keyboard.press(" ")
    more = len(drawn(page))
    assert more > len(lines)
    page.keyboard.press("k")
    page.wait_for_selector("text=No more than the largest piece of the liver is left")
    until(page, f"document.querySelector('tr[data-organ=liver] .ml').textContent === '{whole_ml}'")
    page.keyboard.press("Control+z")
    assert len(drawn(page)) == more
    page.keyboard.press("Control+y")
    assert len(drawn(page)) == len(lines)
    page.check("[data-layer=network-unet]")
    until(page, "!document.querySelector('[data-layer=network-unet]').disabled")
    assert page.is_checked("[data-layer=network-unet]"), page.inner_text("#said")
    page.select_option("#from", "pseudo")
    page.click("[data-change=take]")
    page.wait_for_selector("text=The liver was taken over")


def test_what_is_not_saved_in_one_block_is_found_from_the_next(page: Any) -> None:
    look(page, "d")
    go(page, (0.1, 0.1, 0.1))
    page.route("**/drawing", lambda route: route.abort())
    page.keyboard.press("5")
    page.keyboard.press("a")
    page.wait_for_selector("text=Not saved on the server")
    where = page.url
    page.unroute("**/drawing")
    page.goto("/atlas8k/case?image=d")
    page.wait_for_selector("text=in another part of this CT was not saved on the server yet")
    keep(page, "large-elsewhere")
    page.click("text=Go there")
    until(page, READY)
    assert page.url == where
    until(page, SAVED)
    assert state(page, "liver") == "absent"


def test_what_is_asked_of_the_routes(server: Server) -> None:
    def ask(method: str, path: str) -> requests.Response:
        return requests.request(method, f"{server.url}/atlas8k/case/{path}", timeout=LIMIT_S)

    got = ask("GET", "ct?image=e&box=0,0,0,20,18,16")
    assert got.status_code == 200
    path = server.log.parent / "ct.nii.gz"
    path.write_bytes(got.content)
    assert np.array_equal(
        np.asarray(nib.load(path).dataobj),
        read_part(server.studies / "e.nii.gz", whole((20, 18, 16))),
    )
    for box in ("0,0,0,21,18,16", "5,5,5,5,6,6", "1,2,3", "0,0,0,1,1,x"):
        assert ask("GET", f"ct?image=e&box={box}").status_code == 422, box
    assert ask("POST", "layer?image=e&key=nothing").status_code == 404
    assert ask("POST", "layer?image=e&key=drawing").status_code == 404
    assert ask("POST", "layer?image=nothing&key=start").status_code == 404
    assert ask("POST", "layer?image=e&key=submission-x").status_code == 404
    for near in ("1,2", "a,b,c", "nan,0,0"):
        where = f"{server.url}/atlas8k/case?image=e&near={near}"
        assert requests.get(where, timeout=LIMIT_S).status_code == 422, near
    late = {"version": 7, "looked_at": ["liver"]}
    answer = requests.post(
        f"{server.url}/atlas8k/cases/e/drawing/submit", json=late, timeout=LIMIT_S
    )
    assert answer.status_code == 409
