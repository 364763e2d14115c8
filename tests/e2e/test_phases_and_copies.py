"""Near-duplicates and contrast phases on the pages, of the real server."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, small_server

from atlas8k.store import Holder, Ledger, alike, phases, volumes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("alike")
    more = ("--conf", "score_new_s", "0", "--conf", "find_duplicates", "off")
    with small_server(folder, *more) as started:
        get(started, "/atlas8k/list")  # every CT is known to the store
        ledger = Ledger(started.studies / ".atlas8k/ledger.sqlite")
        with ledger.write() as tx:
            rows = sorted(volumes.volume_row(tx, name) for name in "ab")
            assert alike.keep_compared(tx, {}, [], [(*rows, "copy", 0.0, 0.0)])
            phases.say(tx, "a", "arterial", Holder("user:anna"))
        ledger.close()
        yield started


def get(server: Server, path: str) -> str:
    answer = requests.get(server.url + path, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    return answer.text


def listed(page: str) -> list[str]:
    return re.findall(r'<tr><td class="picture">.*?thumbnail\?image=(\w+)"', page, re.DOTALL)


def test_the_list_shows_near_duplicates_alone(server: Server) -> None:
    assert sorted(listed(get(server, "/atlas8k/list"))) == ["a", "b", "c"]
    page = get(server, "/atlas8k/list?show=alike")
    assert sorted(listed(page)) == ["a", "b"]
    assert "near-duplicates (2)" in page
    assert page.count("copy of") == 2


def test_the_campaigns_page_counts_them(server: Server) -> None:
    page = get(server, "/atlas8k/")
    assert '<a href="/atlas8k/list?show=alike">1 group of near-duplicates</a> (2 CTs:' in page


def test_phases_are_shown_and_filtered_by(server: Server) -> None:
    page = get(server, "/atlas8k/list?phase=arterial")
    assert listed(page) == ["a"]
    assert "arterial (1)" in page
    assert "not known (2)" in page
    assert re.search(r'data-name="phase">arterial<br><span class="soft">said', page)
    assert sorted(listed(get(server, "/atlas8k/list?phase="))) == ["b", "c"]
    assert listed(get(server, "/atlas8k/list?phase=delayed")) == []
    assert sorted(listed(get(server, "/atlas8k/list?phase=*"))) == ["a", "b", "c"]
    assert "Contrast phase: arterial, as somebody has said" in get(server, "/atlas8k/case?image=a")
    assert "Contrast phase" not in get(server, "/atlas8k/case?image=b")
