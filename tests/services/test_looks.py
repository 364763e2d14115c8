"""Who looks at what gets into the audit trail, and nobody waits for it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from atlas8k.core.acting import Actor, act_as
from atlas8k.services import looks as module
from atlas8k.services.looks import Looks
from atlas8k.store import Ledger, audit_trail

ANNA = Actor("user:anna", "10.0.0.7", "OHIF")
BEN = Actor("user:ben", "10.0.0.8", "Slicer")
NEVER = 3600.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "l.sqlite", timeout_s=0.2)) as opened:
        opened.sync_volumes(["a", "b"])
        yield opened


def seen(ledger: Ledger) -> list[dict[str, Any]]:
    with ledger.read() as tx:
        lines = list(audit_trail.lines(tx))
    assert audit_trail.verify(lines).fault == ""
    return [one for one in map(json.loads, lines) if one["action"] in ("look", "sign_in")]


def test_the_same_look_is_one_record_of_a_batch(ledger: Ledger) -> None:
    looks = Looks(ledger, every_s=NEVER)
    looks.note("sign_in", by=ANNA, roles=["annotator"])
    looks.flush()  # the thread's own first batch may have been that
    for _ in range(300):  # OHIF gets a series frame by frame
        looks.note("look", "a", by=ANNA, kind="image")
    looks.note("look", "a", by=BEN, kind="image")
    looks.note("look", "a", by=ANNA, kind="label")
    looks.close()
    found = [(one["by"], one.get("volume"), one["detail"]) for one in seen(ledger)]
    assert found[0] == ("user:anna", None, {"roles": ["annotator"]})
    assert sum(one.get("times", 1) for one in seen(ledger)[1:]) == 302
    assert len(found) <= 5  # and the thread may have come in between
    assert {one["address"] for one in seen(ledger)} == {"10.0.0.7", "10.0.0.8"}


def test_it_is_written_by_itself_and_who_acts_is_known(ledger: Ledger) -> None:
    looks = Looks(ledger, every_s=0.01)

    def request() -> None:
        act_as(BEN)
        looks.note("look", "b", kind="image")

    thread = threading.Thread(target=request)
    thread.start()
    thread.join()
    until = time.monotonic() + 60
    while not seen(ledger) and time.monotonic() < until:
        time.sleep(0.01)
    (one,) = seen(ledger)
    assert (one["by"], one["volume"], one["software"]) == ("user:ben", 2, "Slicer")
    looks.close()


def test_whoever_looks_does_not_wait_for_a_writer(ledger: Ledger) -> None:
    looks = Looks(ledger, every_s=NEVER)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        looks.note("look", "a", by=ANNA, kind="image")  # the thread waits, and gives up
        looks.flush()
        looks.note("look", "a", by=ANNA, kind="image")
        assert seen(ledger) == []
        other.execute("ROLLBACK")
    looks.close()
    assert [one.get("times", 1) for one in seen(ledger)] == [2]


def test_what_is_too_much_is_counted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    looks = Looks(ledger, every_s=NEVER)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(10):
            looks.note("look", "a", by=ANNA, kind="label", submission=number)
        looks.flush()
        other.execute("ROLLBACK")
    looks.close()
    found = seen(ledger)
    assert [one["detail"].get("not_recorded") for one in found] == [None, None, None, 7]


def test_a_process_that_ends_writes_what_waits(ledger: Ledger) -> None:
    code = f"""
from atlas8k.services.looks import Looks
from atlas8k.store import Ledger
looks = Looks(Ledger({str(ledger.path)!r}), every_s=3600)
looks.note("look", "a", kind="image")
looks.flush()
looks.note("look", "b", kind="image")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert sorted(one["volume"] for one in seen(ledger)) == [1, 2]


def test_it_can_be_closed_and_used_again(ledger: Ledger) -> None:
    before = set(threading.enumerate())
    looks = Looks(ledger, every_s=NEVER)
    for _ in range(3):
        looks.note("look", "a", by=ANNA, kind="image")
        looks.close()
        looks.close()
    assert len(seen(ledger)) == 3
    assert "looks" not in [thread.name for thread in set(threading.enumerate()) - before]
