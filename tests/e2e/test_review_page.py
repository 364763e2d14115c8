"""The pages of a reviewer in a headless Chromium: two labels seen, one chosen, one returned."""

from __future__ import annotations

import io
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
)
from tests.e2e.harness import Server
from tests.e2e.reviewing import Client, bring, slabs
from tests.e2e.small import LIMIT_S, small_server
from tests.server.tiny import GRID

from atlas8k.reports.thumbnail import ONLY_FIRST, ONLY_SECOND
from atlas8k.store import OrganSource

pytestmark = [pytest.mark.slow, needs_chromium]
IMAGES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    more = ("--conf", "score_new_s", "0")
    with small_server(tmp_path_factory.mktemp("page"), *more, images=IMAGES) as started:
        yield started


def conflict(server: Server, client: Client, image: str) -> None:
    """Two people submit one volume; the second's spleen is larger, its liver shifted."""
    bring(server, image, liver=(2, 5), spleen=(8, 11)).close()
    client.send("anna", image, slabs(liver=(2, 6), spleen=(8, 12)), looked_at="all")
    answer = client.send("ben", image, slabs(liver=(4, 8), spleen=(8, 14)), looked_at="all")
    assert answer["conflict"]


def test_a_conflict_is_seen_and_decided(page: Any, server: Server, client: Client) -> None:
    conflict(server, client, "a")
    page.goto("/atlas8k/")
    page.click("text=Decide")
    assert "two people submitted one volume" in page.inner_text("main")
    page.click("#content th a")
    rows = {
        row.locator("th").inner_text(): [
            float(one) for one in row.locator("td.n").all_inner_texts()
        ]
        for row in page.locator("#content tbody tr").all()
    }
    case = client.get("/atlas8k/review/a")
    ids = [one["id"] for one in case["submissions"]]
    assert page.input_value("[name=first]") == str(ids[0])
    assert page.input_value("[name=second]") == str(ids[1])
    assert rows["liver"][3] == 0.5
    assert rows["spleen"][3] == pytest.approx(2 * 4 / 10)
    assert rows["liver"][0] == rows["liver"][1] == rows["liver"][2]
    see_pictures(page)
    assert page.locator(".planes img").count() == 3
    assert page.evaluate("[...document.images].every(one => one.naturalWidth > 700)")
    check_accessible(page)
    first = client.label("a", "final")
    page.click(f"text=Submission {ids[1]} of")
    page.wait_for_url("**/atlas8k/reviews")
    page.wait_for_selector(f"text=a: submission {ids[1]} counts.")
    assert np.array_equal(client.label("a", "final"), slabs(liver=(4, 8), spleen=(8, 14)))
    assert client.get("/atlas8k/review")["open"] == []
    # A decision can be undone: asked again, decided otherwise, and then again as before.
    page.goto("/atlas8k/reviews/case?image=a")
    page.click("text=Undo the latest decision")
    page.wait_for_selector("text=a: its questions are open again.")
    page.goto("/atlas8k/reviews/case?image=a")
    page.click(f"text=Submission {ids[0]} of")
    page.wait_for_selector(f"text=a: submission {ids[0]} counts.")
    assert np.array_equal(client.label("a", "final"), first)
    assert [one["decision"] for one in client.get("/atlas8k/review/a")["reviews"]] == [
        f"submission {ids[1]}",
        f"submission {ids[0]}",
    ]


def test_a_conflict_is_decided_organ_by_organ(page: Any, server: Server, client: Client) -> None:
    bring(server, "f", liver=(2, 5), spleen=(8, 11), pancreas=(15, 17)).close()
    same = {"pancreas": (15, 17)}
    client.send("anna", "f", slabs(liver=(2, 6), spleen=(8, 12), **same), looked_at="all")
    client.send("ben", "f", slabs(liver=(4, 9), spleen=(9, 14), **same), looked_at="all")
    first, second = (one["id"] for one in client.get("/atlas8k/review/f")["submissions"])
    page.goto("/atlas8k/reviews/case?image=f")
    assert "none chosen of 2 that differ" in page.inner_text("#by-organ")
    assert page.is_disabled("#by-organ button")
    assert "the same" in page.inner_text("tr:has-text('pancreas')")
    page.focus("[name=liver][value=second]")
    page.keyboard.press("Space")
    page.click("tbody a:has-text('spleen')")  # a look at the other organ loses no choice
    page.wait_for_url("**organ=spleen**")
    assert page.is_checked("[name=liver][value=second]")
    page.check("[name=spleen][value=first]")
    check_accessible(page)
    keep(page, "by-organ")
    page.click("#by-organ button")
    page.wait_for_url("**/atlas8k/reviews")
    page.wait_for_selector("text=f: each organ counts as chosen")
    # Ben's liver reaches into Anna's spleen, which is the smaller and keeps its voxels.
    voxel_ml = float(np.prod(GRID.spacing)) / 1000
    lost = GRID.shape[1] * GRID.shape[2] * voxel_ml
    page.wait_for_selector(f"text=liver lost {lost:.2f} ml to another organ")
    assert np.array_equal(client.label("f", "final"), slabs(liver=(4, 8), spleen=(8, 12), **same))
    case = client.get("/atlas8k/review/f")
    made = case["submissions"][-1]
    assert made["in_force"]
    assert [one["decision"] for one in case["reviews"]] == [
        f"taken over by submission {made['id']}"
    ]
    assert (made["organs"]["liver"]["state"], made["organs"]["spleen"]["state"]) == (
        "revised",
        "confirmed",
    )
    # Nobody said anything of an organ that both had alike, nor of those that nobody drew.
    assert made["organs"]["pancreas"]["state"] == "not_assessed"
    undecided = {"first": str(first), "second": str(second), "counts": {"liver": "first"}}
    assert "spleen" in str(client.post("/atlas8k/review/f/decide-by-organ", 422, **undecided))
    other = {**undecided, "second": "99"}
    client.post("/atlas8k/review/f/decide-by-organ", 404, **other)
    wrong = {**undecided, "counts": {"liver": "third"}}
    client.post("/atlas8k/review/f/decide-by-organ", 422, **wrong)
    page.goto("/atlas8k/reviews/case?image=f")
    page.click("text=Undo the latest decision")
    page.wait_for_selector("text=f: its questions are open again.")


def test_a_case_that_nobody_has_submitted(page: Any, server: Server) -> None:
    bring(server, "e", liver=(2, 5)).close()
    page.goto("/atlas8k/reviews/case?image=e")
    assert "Nothing waits for a decision here" in page.inner_text("main")
    assert page.locator("#content tbody tr").count()


def test_the_difference_has_the_colours_it_says(server: Server, client: Client) -> None:
    conflict(server, client, "d")
    first, second = (one["id"] for one in client.get("/atlas8k/review/d")["submissions"])
    where = f"{server.url}/atlas8k/reviews/slice?image=d&axis=2&index=8&organ=liver"
    answer = requests.get(f"{where}&first={first}&second={second}", timeout=LIMIT_S)
    sheet = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB")).astype(int)
    differs = sheet[:, -380:]
    for color in (ONLY_FIRST, ONLY_SECOND):
        near = np.abs(differs - 0.75 * np.array(color)).max(axis=2) < 70
        assert near.sum() > 500
    again = requests.get(
        f"{where}&first={first}&second={second}",
        headers={"If-None-Match": answer.headers["etag"]},
        timeout=LIMIT_S,
    )
    assert again.status_code == 304
    for wrong in (f"&first={first}&second=999", f"&first={first}&second=..%2Fa"):
        assert requests.get(where + wrong, timeout=LIMIT_S).status_code == 404
    wrong = where.replace("index=8", "index=99")
    answer = requests.get(f"{wrong}&first={first}&second={second}", timeout=LIMIT_S)
    assert answer.status_code == 422


def test_a_note_is_said_on_the_page_that_is_open(page: Any, server: Server, client: Client) -> None:
    bring(server, "c", liver=(2, 5), spleen=(8, 11)).close()
    client.send("cleo", "c", slabs(liver=(2, 6), spleen=(8, 12)), looked_at="all")
    page.context.add_cookies([{"name": "atlas8k_name", "value": "cleo", "url": server.url}])
    with page.expect_response("**/atlas8k/cases/returned"):
        page.goto("/atlas8k/list")
    answer = requests.post(
        f"{server.url}/atlas8k/review/c/return",
        json={"note": "the dome is missing", "to": "annotator"},
        timeout=LIMIT_S,
    )
    assert answer.status_code == 200, answer.text
    page.wait_for_selector("text=c was returned to you: the dome is missing", timeout=60_000)


def test_returned_with_a_note(page: Any, server: Server, client: Client) -> None:
    conflict(server, client, "b")
    page.goto("/atlas8k/reviews/case?image=b")
    page.fill("#return [name=note]", "the dome <b>is</b> missing")
    page.click("#return button")
    page.wait_for_url("**/atlas8k/reviews")
    page.wait_for_selector("text=Returned, with the note")
    assert "the dome <b>is</b> missing" in page.inner_text("main")
    # Its annotator sees it before asking for anything.
    page.context.add_cookies([{"name": "atlas8k_name", "value": "anna", "url": server.url}])
    page.goto("/atlas8k/")
    assert "1 returned" in page.inner_text("nav")
    page.goto("/atlas8k/cases")
    assert "b was returned to you: the dome <b>is</b> missing" in page.inner_text("[role=alert]")
    check_accessible(page)
    page.goto("/atlas8k/reviews/case?image=b")
    page.click("text=Take it back")
    page.wait_for_selector("text=b is not given out again")
    assert not client.get("/atlas8k/cases/list?client_id=anna")["returned"]
    page.goto("/atlas8k/reviews/case?image=b")
    page.fill("#return [name=note]", "the dome <b>is</b> missing")
    page.click("#return button")
    page.wait_for_url("**/atlas8k/reviews")
    listed = client.get("/atlas8k/cases/list?client_id=anna")["returned"]
    assert [(one["image"], one["note"]) for one in listed] == [("b", "the dome <b>is</b> missing")]
    assert not client.get("/atlas8k/cases/list?client_id=ben")["returned"]
    sample = client.next("anna")
    assert sample["note"] == "the dome <b>is</b> missing"
    assert "given out again: the dome <b>is</b> missing" in sample["message"]
    page.goto("/atlas8k/cases")
    assert page.locator("[role=alert]").count() == 0
    assert "the dome <b>is</b> missing" in page.inner_text("article")


def test_a_disputed_organ_is_decided(page: Any, server: Server, client: Client) -> None:
    service = bring(server, "c", liver=(2, 5))
    service.keep_public(
        "c", slabs(liver=(2, 6)), GRID, {"liver": OrganSource("public", "present", "LiTS")}
    )
    service.close()
    client.send("anna", "c", slabs(liver=(2, 7)))
    page.goto("/atlas8k/reviews/case?image=c")
    assert page.input_value("[name=first]") == "public"
    page.click("text=the submission counts")
    page.wait_for_url("**/atlas8k/reviews")
    assert client.organ("c", 5) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("width", [380, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_every_screen(page: Any, server: Server, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    for name, path in (("reviews", "/atlas8k/reviews"), ("case", "/atlas8k/reviews/case?image=d")):
        page.goto(path)
        see_pictures(page)
        keep(page, f"{name}-{scheme}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        check_accessible(page)
