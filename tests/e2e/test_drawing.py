"""Drawing on the page of a case: what is submitted is what was shown, and nothing drawn is lost."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import requests
from tests.e2e.browser import (
    check_accessible,
    keep,
    needs_chromium,
    opened,
    until,
)
from tests.e2e.case_page import (
    NV,
    READY,
    SAVED,
    WAYS,
    begin,
    drawn,
    label,
    needs_niivue,
    state,
    stroke,
    submit,
    write_turned,
)
from tests.e2e.harness import END_S, Server, running
from tests.e2e.reviewing import bring
from tests.e2e.small import LIMIT_S, small_server
from tests.server.tiny import GRID, write_ct

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.store import Ledger

pytestmark = [pytest.mark.slow, needs_chromium, needs_niivue]
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]
AT_MOST_MS = 3000
"""After a change the page has begun to save it, where it does at all."""
IMAGES = ("a", "b", "c", "d", "e", "f", "g", "h", "i")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("drawing")
    with small_server(folder, "--conf", "score_new_s", "0", images=IMAGES) as started:
        for way in WAYS:
            write_turned(started.studies / f"turned_{way}.nii.gz", way)
        write_turned(started.studies / "oblique.nii.gz", "PIR")
        assert started.score()["status"] == "DONE"
        for name in IMAGES:
            bring(started, name, liver=(2, 8), spleen=(12, 15)).close()
        yield started


def liver(array: npt.NDArray[np.uint8]) -> int:
    return int((array == LIVER).sum())


@pytest.mark.parametrize("way", WAYS)
def test_what_is_submitted_is_what_was_shown(page: Any, server: Server, way: str) -> None:
    image = f"turned_{way}"
    begin(page, image)
    page.keyboard.press("5")
    page.keyboard.press("b")
    for plane in range(3):
        stroke(page, plane, (0.3, 0.4), (0.55, 0.6))
    page.keyboard.press("8")
    page.keyboard.press("[")
    page.focus("#gl")
    for key in ("PageUp", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press(" ")
    page.keyboard.press("e")
    stroke(page, 0, (0.5, 0.4), (0.5, 0.5))
    until(page, "document.querySelector('tr[data-organ=spleen] select').value === 'changed'")
    shown = drawn(page)
    assert set(shown[:, 4]) >= {LIVER, SPLEEN}
    submit(page)
    ct = nib.load(server.studies / f"{image}.nii.gz")
    assert "".join(nib.aff2axcodes(ct.affine)) == way
    places = (shown[:, :3] - ct.affine[:3, 3]) @ np.linalg.inv(ct.affine[:3, :3]).T
    index = np.rint(places).astype(int)
    assert np.abs(places - index).max() < 0.01
    i, j, k = index.T
    assert np.abs(np.asarray(ct.dataobj)[i, j, k] - shown[:, 3]).max() < 0.5
    expected = np.zeros(ct.shape, np.uint8)
    expected[i, j, k] = shown[:, 4]
    assert np.array_equal(label(server, image), expected)


def test_by_keyboard_from_the_first_page_to_a_submission(page: Any, server: Server) -> None:
    """A label is corrected, an organ confirmed, one marked absent; tools and undo on the way."""
    begin(page, "a")
    begun = liver(label(server, "a", "original"))
    page.focus("#gl")
    page.keyboard.press("5")
    page.keyboard.press(" ")
    page.wait_for_selector("text=Choose the brush or the eraser first")
    page.keyboard.press("b")
    for _ in range(7):  # away from the liver
        page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    until(page, "document.querySelector('tr[data-organ=liver] select').value === 'changed'")
    more = len(drawn(page))
    page.keyboard.press("Control+z")
    assert len(drawn(page)) < more
    page.keyboard.press("Control+z")
    page.wait_for_selector("text=There is nothing to undo")
    page.keyboard.press(" ")
    assert len(drawn(page)) == more
    page.keyboard.press("k")
    page.wait_for_selector("text=No more than the largest piece of the liver is left")
    assert (drawn(page)[:, 4] == LIVER).sum() == begun
    page.keyboard.press("Control+z")
    assert len(drawn(page)) == more
    page.keyboard.press("8")
    page.keyboard.press("a")
    until(page, "document.querySelector('tr[data-organ=spleen] .ml').textContent === 'none'")
    page.fill("#comment", "dome")
    page.check("[name=kind][value=cavity]")
    until(page, SAVED)
    keep(page, "drawing")
    check_accessible(page)
    shown = drawn(page)
    submit(page)
    final = label(server, "a")
    assert liver(final) == (shown[:, 4] == LIVER).sum() > begun
    assert not (final == SPLEEN).any()
    history = requests.get(f"{server.url}/atlas8k/labels/a/history", timeout=LIMIT_S).json()
    organs = history["history"][-1]["organs"]
    assert organs["spleen"]["state"] == "absent"
    assert organs["stomach"]["state"] == "not_assessed"
    assert organs["liver"]["voxels_changed"] > 0
    info = requests.get(f"{server.url}/datastore/label/info?label=a&tag=final", timeout=LIMIT_S)
    assert info.json()["note"] == {"comment": "dome", "difficulty": "", "kinds": ["cavity"]}
    page.goto("/atlas8k/reviews/case?image=a")
    noted = page.inner_text(".said:has-text('noted')")
    assert "cavity left out" in noted
    assert "dome" in noted
    page.goto("/atlas8k/")
    row = page.locator("table:has-text('What annotators noted') tbody tr")
    assert row.inner_text().split("\t") == ["cavity left out", "1"]
    page.goto("/atlas8k/case?image=a")
    page.click("text=Open it again")
    page.wait_for_selector("text=In your hands for")
    left = requests.get(f"{server.url}/atlas8k/cases/a/drawing", timeout=LIMIT_S).json()
    assert left["version"] == 0


def test_an_organ_is_taken_and_filled_between_slices(page: Any, server: Server) -> None:
    begin(page, "b")
    page.keyboard.press("5")
    page.keyboard.press("a")
    until(page, "document.querySelector('tr[data-organ=liver] .ml').textContent === 'none'")
    page.select_option("#from", "pseudo")
    page.click("[data-change=take]")
    page.wait_for_selector("text=The liver was taken over")
    assert liver(label(server, "b", "pseudo")) == (drawn(page)[:, 4] == LIVER).sum()
    until(page, "document.querySelector('tr[data-organ=liver] select').value !== 'absent'")
    page.keyboard.press("6")
    page.keyboard.press("b")
    page.keyboard.press("i")
    page.wait_for_selector("text=There was nothing to fill")


def test_another_browser_goes_on_and_the_label_is_given_out(browser: Any, server: Server) -> None:
    def named(name: str) -> Any:
        found = opened(browser, server)
        page = found.__enter__()
        page.goto("/atlas8k/cases")
        page.fill("[name=name]", name)
        page.click("text=Keep")
        return found, page

    first, page = named("anna")
    begin(page, "c")
    page.keyboard.press("5")
    page.keyboard.press("a")
    page.fill("#comment", "gone on with")
    until(page, SAVED)
    first.__exit__(None, None, None)
    where = f"{server.url}/atlas8k/cases/c/drawing"
    assert requests.get(where, timeout=LIMIT_S).json()["version"] == 0  # somebody else
    hers = requests.get(f"{where}/label?client_id=anna", timeout=LIMIT_S)
    assert hers.status_code == 200
    assert requests.get(f"{where}/label", timeout=LIMIT_S).status_code == 404
    cookie = {"cookie": "atlas8k_name=anna"}
    given = requests.get(
        f"{server.url}/datastore/label?label=c&tag=original", headers=cookie, timeout=LIMIT_S
    )
    assert given.content == hers.content
    second, page = named("anna")
    held: list[Any] = []

    def hold(one: Any) -> None:
        held.append(one)

    page.route("**/atlas8k/cases/c/drawing/label*", hold)
    page.goto("/atlas8k/case?image=c")
    until(page, f"(async () => !!({NV} || {{}}).onDrawingChanged)()")
    page.wait_for_selector("tr[data-organ][aria-current=true]")
    page.keyboard.press("5")
    page.keyboard.press("c")
    page.keyboard.press("Control+Enter")  # what was drawn is on its way: it is not left behind
    page.wait_for_selector("text=what you drew before, is not shown yet")
    review = requests.get(f"{server.url}/atlas8k/review/c", timeout=LIMIT_S).json()
    assert review["status"] == "leased"  # not submitted
    for one in held:
        one.continue_()
    page.unroute("**/atlas8k/cases/c/drawing/label*")
    until(page, READY)
    page.wait_for_selector("text=You go on with what you drew")
    assert page.input_value("#comment") == "gone on with"
    assert state(page, "liver") == "absent"
    assert set(drawn(page)[:, 4]) == {SPLEEN}
    second.__exit__(None, None, None)


def test_two_tabs(page: Any) -> None:
    begin(page, "d")
    other = page.context.new_page()
    begin(other, "d")
    page.keyboard.press("5")
    page.keyboard.press("a")
    until(page, SAVED)
    other.bring_to_front()
    other.keyboard.press("8")
    other.keyboard.press("a")
    other.wait_for_selector("text=another tab or computer has saved version 1")
    keep(other, "drawing-two-tabs")
    check_accessible(other)
    other.click("text=Keep this one")
    until(other, SAVED)
    other.reload()
    until(other, READY)
    assert set(drawn(other)[:, 4]) == {LIVER}


def test_a_lost_connection(page: Any) -> None:
    begin(page, "e")
    page.route("**/drawing", lambda route: route.abort())
    page.keyboard.press("5")
    page.keyboard.press("a")
    page.wait_for_selector("text=Not saved on the server: The server does not answer")
    keep(page, "drawing-lost")
    check_accessible(page)
    page.reload()
    until(page, READY)
    # The page says so for a second, until it has tried to save it again.
    assert set(drawn(page)[:, 4]) == {SPLEEN}
    page.unroute("**/drawing")
    until(page, SAVED)


def test_what_cannot_be_shown_is_not_overwritten(page: Any, server: Server) -> None:
    """The drawing is asked for in vain: marks and strokes do not put the draft label over it."""
    begin(page, "i")
    page.keyboard.press("5")
    page.keyboard.press("a")
    until(page, SAVED)
    where, shown = f"{server.url}/atlas8k/cases/i/drawing", drawn(page)
    before = page.request.get(where).json()
    held: list[Any] = []

    def hold(one: Any) -> None:
        held.append(one)

    page.route("**/atlas8k/cases/i/drawing/label*", hold)
    page.reload()
    page.wait_for_selector("tr[data-organ][aria-current=true]")
    until(page, f"(async () => !!({NV} || {{}}).onDrawingChanged)()")
    page.keyboard.press("8")
    page.keyboard.press("c")
    page.wait_for_selector("text=Not saved yet")
    page.wait_for_timeout(AT_MOST_MS)
    assert page.request.get(where).json() == before
    for one in held:
        one.fulfill(status=503, json={"detail": "the sign-in server does not answer"})
    page.unroute("**/atlas8k/cases/i/drawing/label*")
    page.wait_for_selector("text=What you drew before cannot be shown")
    page.focus("#gl")
    for key in ("b", " ", "k", "8", "a"):
        page.keyboard.press(key)
    page.wait_for_timeout(AT_MOST_MS)
    page.wait_for_selector("text=What you drew before cannot be shown")
    assert not page.locator("#tools").is_visible()
    keep(page, "drawing-not-shown")
    check_accessible(page)
    assert page.request.get(where).json() == before
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=is not shown yet")
    page.reload()
    until(page, READY)
    assert np.array_equal(drawn(page), shown)
    assert state(page, "liver") == "absent"


def test_a_full_disk(page: Any) -> None:
    begin(page, "e")
    full = {"detail": "the disk is full; nothing was kept, send it again"}
    page.route("**/drawing", lambda route: route.fulfill(status=507, json=full), times=1)
    page.keyboard.press("8")
    page.keyboard.press("a")
    page.wait_for_selector("text=Not saved on the server: the disk is full")
    until(page, SAVED)  # by itself, when there is room


def test_a_place_is_gone_to_where_it_lies(page: Any, server: Server) -> None:
    """In an oblique CT, too: the crosshair is in the voxel that the place is at."""
    begin(page, "oblique")
    for number in range(3):
        page.click(f"[data-place='{number}']")
        there = page.evaluate(
            f"async () => [...{NV}.frac2mm({NV}.scene.crosshairPos, 0, true)].slice(0, 3)"
        )
        wanted = page.evaluate(
            f"JSON.parse(document.querySelector('#case').dataset.facts).places[{number}].mm"
        )
        assert np.abs(np.array(there) - wanted).max() < 0.01


def test_a_ct_that_is_replaced_or_gone(page: Any, server: Server) -> None:
    begin(page, "f")
    page.keyboard.press("5")
    page.keyboard.press("a")
    until(page, SAVED)
    write_ct(server.studies / "f.nii.gz", seed=77)
    page.keyboard.press("8")
    page.keyboard.press("a")
    page.wait_for_selector("text=the CT was replaced since you opened it")
    assert page.locator("text=Download what you drew").count() == 1
    page.reload()
    until(page, READY)
    page.wait_for_selector("text=what you drew belongs to the one before")
    (server.studies / "f.nii.gz").unlink()
    kept = page.request.get(f"{server.url}/atlas8k/cases/f/drawing/label")
    assert kept.status == 200
    page.reload()
    assert "It is not there" in page.inner_text("h1")
    keep(page, "error")
    check_accessible(page)
    page.click("main p a[href='/atlas8k/cases'] >> nth=0")
    page.wait_for_selector("text=Drawn, not submitted")
    assert page.locator("a[href='/atlas8k/cases/f/drawing/label']").count() == 1


def test_what_was_drawn_is_submitted_where_there_is_no_viewer(page: Any, server: Server) -> None:
    begin(page, "h")
    page.keyboard.press("5")
    page.keyboard.press("b")
    page.focus("#gl")  # a first click would scroll to it
    stroke(page, 0, (0.3, 0.4), (0.55, 0.6))
    until(page, SAVED)
    shown = drawn(page)
    answer = page.request.post(
        f"{server.url}/atlas8k/cases/h/confirm", data={"looked_at": ["liver"]}
    )
    assert answer.status == 409, "the draft label is not submitted in place of what was drawn"
    assert "you have drawn on it and not submitted that" in answer.json()["detail"]
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto("/atlas8k/case?image=h")
    page.wait_for_selector("text=This browser has no WebGL 2")
    page.select_option("tr[data-organ=liver] select", "changed")
    submit(page)
    final = label(server, "h")
    assert liver(final) == (shown[:, 4] == LIVER).sum() > liver(label(server, "h", "pseudo"))


def test_a_lease_that_is_somebody_elses_now(page: Any, server: Server) -> None:
    """The drawing is kept all the same; it can be submitted, and a reviewer decides."""
    begin(page, "g")
    page.keyboard.press("5")
    page.keyboard.press("a")
    until(page, SAVED)
    with Ledger(server.studies / ".atlas8k" / "ledger.sqlite").write() as tx:
        tx.run("UPDATE lease SET expires_at = 1 WHERE ended_at IS NULL")
    answer = requests.post(
        f"{server.url}/atlas8k/cases/g/take", json={"client_id": "ben"}, timeout=LIMIT_S
    )
    assert answer.status_code == 200, answer.text
    page.keyboard.press("8")
    page.keyboard.press("c")
    until(page, SAVED)
    submit(page)


def test_a_server_that_is_killed(browser: Any, tmp_path: Path) -> None:
    with small_server(tmp_path, "--conf", "score_new_s", "0", images=("a",)) as server:
        bring(server, "a", liver=(2, 8), spleen=(12, 15)).close()
        with opened(browser, server) as page:
            begin(page, "a")
            page.keyboard.press("5")
            page.keyboard.press("a")
            until(page, SAVED)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(END_S)
    again = tmp_path / "again"
    again.mkdir()
    with (
        running(tmp_path / "app", tmp_path / "studies", again) as server,
        opened(browser, server) as page,
    ):
        begin(page, "a")
        page.wait_for_selector("text=You go on with what you drew")
        assert set(drawn(page)[:, 4]) == {SPLEEN}


def nifti(array: npt.NDArray[np.uint8]) -> io.BytesIO:
    return io.BytesIO(nib.Nifti1Image(array, GRID.affine).to_bytes())


def test_what_is_not_kept(server: Server) -> None:
    where = f"{server.url}/atlas8k/cases/a/drawing"
    zeros = np.zeros(GRID.shape, np.uint8)

    def put(content: io.BytesIO | bytes, **fields: Any) -> requests.Response:
        return requests.put(
            where,
            files={"label": ("x.nii", content)},
            data={"version": 0, "fingerprint": "x", "client_id": "eve", **fields},
            timeout=LIMIT_S,
        )

    answer = put(nifti(zeros))
    assert answer.status_code == 409
    assert "take it before you draw" in answer.json()["detail"]
    assert put(b"garbage").status_code in {409, 422}
    assert put(nifti(zeros), version=-1).status_code == 422
    assert put(nifti(zeros), said="[").status_code == 422
