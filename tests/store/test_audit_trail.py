"""The audit trail: what gets into it, that it grows only, and what a change of it looks like."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.store.kit import ANNA, BEN, CONFIRMED, Clock, scored

from atlas8k.core.acting import Actor, act_as
from atlas8k.core.errors import LedgerError
from atlas8k.store import Ledger, OrganChange, OrganSource, audit_trail
from atlas8k.store.audit_trail import Head, verify

REVISED = {"liver": OrganChange("revised", 9, 8, 3, 0.8)}
PATIENT = "MUELLER^PETER-19520301"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "l.sqlite", clock=Clock())) as opened:
        yield opened


def lines_of(ledger: Ledger) -> list[bytes]:
    with ledger.read() as tx:
        return list(audit_trail.lines(tx))


def records(ledger: Ledger) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(ledger)]


def campaign(ledger: Ledger) -> None:
    """Two people work on two volumes, one of whose names is a patient's."""
    scored(ledger, {PATIENT: 9.0, "b": 2.0})
    ledger.next_sample(holder=ANNA, model_version="one")
    ledger.submit(PATIENT, ANNA, file="x.nii.gz", sha256="ab" * 32, organs=REVISED)
    ledger.submit(PATIENT, BEN, organs=CONFIRMED | {"spleen": OrganChange("absent", 0, 0, 0, None)})
    ledger.resolve(PATIENT, 1, ANNA.key)
    ledger.next_sample(holder=BEN, model_version="one")
    ledger.exclude("b", f"motion, says {PATIENT}", BEN)
    ledger.include("b", "", ANNA)
    ledger.hand_back(PATIENT, to=BEN.key, note="the tail", reviewer=ANNA.key)
    ledger.restore(PATIENT, 2, BEN)
    ledger.set_sources(PATIENT, {"liver": OrganSource("public", "present", "LiTS")})
    ledger.set_ranking("salient")
    ledger.close_round()
    ledger.register_model_version("two", {"networks": "two"})


def test_who_did_what_with_which_volume(ledger: Ledger) -> None:
    campaign(ledger)
    found = [(one["action"], one["by"], one.get("volume")) for one in records(ledger)]
    assert found == [
        ("begun", "", None),
        ("publish", "", None),
        ("sample", "user:anna", 1),
        ("label", "user:anna", 1),
        ("confirm", "client:ben", 1),
        ("review", "user:anna", 1),
        ("sample", "client:ben", 2),
        ("exclude", "client:ben", 2),
        ("include", "user:anna", 2),
        ("review", "user:anna", 1),
        ("review", "client:ben", 1),
        ("import", "", 1),
        ("settings", "", None),
        ("round", "", None),
        ("publish", "", None),
    ]
    label = records(ledger)[3]
    assert label["detail"]["file_sha256"] == "ab" * 32
    assert label["detail"]["organs"] == {"liver": "revised"}
    assert label["at"] == "2023-11-14T22:13:20.000+00:00"
    assert records(ledger)[5]["detail"] == {"decision": "resolved", "submission": 1}


def test_nothing_of_a_patient_is_in_it(ledger: Ledger) -> None:
    campaign(ledger)
    text = b"".join(lines_of(ledger)).decode()
    assert "MUELLER" not in text
    assert "the tail" not in text
    # Why is in the store all the same, and known by its hash.
    whys = [one["why_sha256"] for one in records(ledger) if "why_sha256" in one]
    with ledger.read() as tx:
        kept = dict(tx.run("SELECT sha256, text FROM audit_reason").fetchall())
        assert audit_trail.lost_reasons(tx) == (0, 0)
    assert [kept[why] for why in whys] == [f"motion, says {PATIENT}", "the tail"]


def test_a_record_is_there_exactly_where_what_it_records_is(ledger: Ledger) -> None:
    scored(ledger, {"a": 1.0})
    before = lines_of(ledger)

    def fails(end: type[BaseException]) -> None:
        with ledger.write() as tx:
            audit_trail.note(tx, "export", volume="a")
            raise end

    with pytest.raises(KeyboardInterrupt):
        fails(KeyboardInterrupt)
    with ledger.preview() as tx:
        audit_trail.note(tx, "export", volume="a")
    assert lines_of(ledger) == before
    ledger.note("export", volume="a", why="for the paper")
    ledger.note("export", volume="nobody knows it")
    assert [one.get("volume") for one in records(ledger)[-2:]] == [1, None]


def test_from_where_it_was_done(ledger: Ledger) -> None:
    ledger.sync_volumes(["a", "b"])

    def anna() -> None:
        act_as(Actor("user:anna", "10.0.0.7", "Slicer"))
        ledger.lease("a", ANNA)
        ledger.note("export")

    thread = threading.Thread(target=anna)
    thread.start()
    thread.join()
    ledger.lease("b", BEN)  # of another context
    found = [(one["by"], one["address"], one["software"]) for one in records(ledger)[1:]]
    assert found == [
        ("user:anna", "10.0.0.7", "Slicer"),
        ("user:anna", "10.0.0.7", "Slicer"),
        ("client:ben", "", ""),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_trail SET text = '{}' WHERE id = 2",
        "DELETE FROM audit_trail",
        "DELETE FROM audit_trail WHERE id = 3",
        "INSERT OR REPLACE INTO audit_trail VALUES (2, '{}', 'x')",
        "INSERT OR REPLACE INTO audit_trail VALUES (3, '{}', 'x')",
        "REPLACE INTO audit_trail SELECT * FROM audit_trail WHERE id = 1",
        "INSERT INTO audit_trail VALUES (99, '{}', 'x')",
        "INSERT INTO audit_trail VALUES (0, '{}', 'x')",
        "UPDATE OR REPLACE audit_trail SET id = 1 WHERE id = 2",
        "UPDATE audit_reason SET text = 'other'",
        "DELETE FROM audit_reason",
    ],
)
def test_nothing_is_changed_or_removed_through_the_store(ledger: Ledger, sql: str) -> None:
    ledger.sync_volumes(["a"])
    ledger.exclude("a", "motion", ANNA)
    ledger.include("a")
    before = lines_of(ledger)
    with pytest.raises(LedgerError, match="audit trail"), ledger.write() as tx:
        tx.run(sql)
    assert lines_of(ledger) == before
    assert verify(before).fault == ""


def test_the_chain_verifies(ledger: Ledger) -> None:
    campaign(ledger)
    lines = lines_of(ledger)
    found = verify(lines)
    assert (found.number, found.fault, found.noted) == (len(lines), "", None)
    head = ledger.audit_head()
    assert head == Head(found.number, found.sha256)
    assert json.loads(lines[-1])["sha256"] == head.sha256


def test_one_altered_byte_does_not(ledger: Ledger) -> None:
    campaign(ledger)
    lines = lines_of(ledger)
    whole, ends = b"".join(lines), 0
    assert len(whole) > 3000
    for number, line in enumerate(lines, 1):
        for at in range(ends, ends + len(line)):
            for other in (whole[at] ^ 1, 0x0A if whole[at] != 0x0A else 0x20):
                changed = whole[:at] + bytes([other]) + whole[at + 1 :]
                found = verify(changed.splitlines(keepends=True))
                assert found.fault, (number, at)
                # It is found in that record, or where a line end came in or went.
                assert found.fault.startswith(f"record {number}:"), (number, at, found)
        ends += len(line)


def test_nor_does_one_that_was_removed_put_in_or_moved(ledger: Ledger) -> None:
    campaign(ledger)
    lines = lines_of(ledger)
    for at in range(len(lines) - 1):
        without = lines[:at] + lines[at + 1 :]
        assert verify(without).fault.startswith(f"record {at + 1}: the one that is here has number")
        moved = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        assert verify(moved).number == at
        twice = [*lines[: at + 1], *lines[at:]]
        assert verify(twice).number == at + 1
    other = b'{"number":2,"previous":"","at":"","action":"label","by":"user:eve"}'
    sha256 = audit_trail._hash(other.decode())
    forged = other[:-1] + f',"sha256":"{sha256}"}}\n'.encode()
    assert "does not follow" in verify([lines[0], forged, *lines[2:]]).fault


def test_a_cut_end_is_seen_by_the_head_that_was_noted(ledger: Ledger) -> None:
    campaign(ledger)
    lines, head = lines_of(ledger), ledger.audit_head()
    ledger.note("export")
    assert verify(lines_of(ledger), head).noted is True  # it has grown since
    assert verify(lines[:-1]).fault == ""  # nothing is to be seen of it
    assert verify(lines[:-1], head).noted is False
    assert verify(lines, Head(head.number, "0" * 64)).noted is False
    assert verify([*lines[:-1], lines[-1][:-1]]).fault.endswith("is no record, or is cut off")
    assert audit_trail.read_head(f"{head.number}:{head.sha256}\n") == head
    with pytest.raises(LedgerError, match="number and hash"):
        audit_trail.read_head("12")


def test_who_goes_around_the_store_is_found_out(ledger: Ledger) -> None:
    campaign(ledger)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_trail_is_as_it_was")
        connection.execute("DROP TRIGGER audit_reason_is_as_it_was")
        connection.execute("UPDATE audit_trail SET text = replace(text, 'anna', 'mary')")
        connection.execute("UPDATE audit_reason SET text = 'all is well'")
    assert verify(lines_of(ledger)).fault.startswith("record 3: was changed")
    with ledger.read() as tx:
        assert audit_trail.lost_reasons(tx) == (2, 0)


def test_threads_make_one_chain(ledger: Ledger) -> None:
    def work(name: str) -> None:
        for number in range(25):
            ledger.note("export", by=name, number=number)

    threads = [threading.Thread(target=work, args=(f"user:{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(lines_of(ledger)).number == 101


def test_a_start_says_which_settings_are_others(ledger: Ledger) -> None:
    ledger.note_start({"version": "1"}, {"budget": 0.05, "gate": True})
    ledger.note_start({"version": "1"}, {"budget": 0.05, "gate": True})
    ledger.note_start({"version": "2"}, {"budget": 0.1, "gate": True})
    found = [(one["action"], one["detail"]) for one in records(ledger)[1:]]
    assert found == [
        ("started", {"version": "1"}),
        ("settings", {"changed": {"budget": [None, 0.05], "gate": [None, True]}}),
        ("started", {"version": "1"}),
        ("started", {"version": "2"}),
        ("settings", {"changed": {"budget": [0.05, 0.1]}}),
    ]


def test_a_client_id_of_any_text_is_recorded(ledger: Ledger) -> None:
    ledger.note("export", by="client:\ud800 \n\x00", why="\ud800")
    assert records(ledger)[-1]["by"] == "client:\ud800 \n\x00"
    assert verify(lines_of(ledger)).fault == ""
