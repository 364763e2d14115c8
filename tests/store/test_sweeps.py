"""Looks of a sweep: what waits, what a look and a flag do, what counts."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest
from tests.store.kit import Clock

from atlas8k.campaign.sweeps import report, sweep
from atlas8k.store import Holder, Ledger, NewLabel, OrganChange, SweepLine
from atlas8k.store.label_files import FileStamp, add, make_current
from atlas8k.store.sweeps import NOTE, place_at_random

ANNA, BERT = Holder("user:anna", False), Holder("user:bert", False)
RIGHT = {"liver": OrganChange("confirmed", 10, 10, 0, 1.0)}
WRONG = {"liver": OrganChange("revised", 10, 12, 2, 0.9)}


@pytest.fixture(autouse=True)
def labelled(ledger: Ledger) -> None:
    ledger.add_volumes([f"ct_{number}" for number in range(6)])
    for number in range(5):  # the last one has no label
        put(ledger, f"ct_{number}")


def sha(volume: str, version: int = 1) -> str:
    return f"{volume}-{version}".encode().hex().ljust(64, "0")


def put(ledger: Ledger, volume: str, version: int = 1, tag: str = "original") -> None:
    with ledger.write() as tx:
        label = NewLabel(tag, f"x/{volume}", ".nii.gz", sha(volume, version), FileStamp(1, 1), {})
        make_current(tx, volume, tag, add(tx, volume, label), {})


def names(ledger: Ledger, order: str = "worst", **more: bool) -> list[str]:
    return [one.volume for one in ledger.sweep_waiting(order, None, **more)]


def hand_in(ledger: Ledger, volume: str, organs: dict[str, OrganChange], version: int = 2) -> None:
    ledger.submit(volume, ANNA, organs=organs)
    put(ledger, volume, version)


def test_a_look_confirms_nothing(ledger: Ledger) -> None:
    assert names(ledger) == [f"ct_{number}" for number in range(5)]
    before = {name: ledger.sources(name) for name in names(ledger)}
    assert ledger.sweep_look("ct_1", sha("ct_1"), "fine", ANNA)
    assert "ct_1" not in names(ledger)
    assert ledger.status("ct_1") == "open"
    assert ledger.sources("ct_1") == before["ct_1"]
    assert not ledger.offers()


def test_a_look_at_a_label_that_was_replaced_is_not_taken(ledger: Ledger) -> None:
    put(ledger, "ct_1", 2)
    assert ledger.sweep_look("ct_1", sha("ct_1"), "flag", ANNA) is None
    assert not ledger.offers()
    assert ledger.sweep_look("ct_1", sha("ct_1", 2), "fine", ANNA)
    put(ledger, "ct_1", 3)  # as other networks predict
    assert "ct_1" in names(ledger)


def test_the_draft_label_is_shown_before_the_pseudo_label(ledger: Ledger) -> None:
    put(ledger, "ct_1", 7, "pseudo")
    assert {one.volume: one.sha256 for one in ledger.sweep_waiting("worst", None)}["ct_1"] == sha(
        "ct_1"
    )


def test_a_flag_is_given_out_first_until_it_is_taken_back(ledger: Ledger) -> None:
    look = ledger.sweep_look("ct_3", sha("ct_3"), "flag", ANNA)
    assert [(one.volume, one.note) for one in ledger.offers()] == [("ct_3", NOTE)]
    assert [(one.volume, one.holder) for one in ledger.sweep_flags()] == [("ct_3", ANNA.key)]
    assert ledger.sweep_undo(look, BERT) is None
    assert ledger.sweep_undo(look, ANNA) == "ct_3"
    assert ledger.sweep_undo(look, ANNA) is None
    assert not ledger.offers()
    assert not ledger.sweep_flags()
    assert "ct_3" in names(ledger)
    ledger.sweep_look("ct_3", sha("ct_3"), "flag", ANNA)
    sample = ledger.next_sample(holder=BERT)
    assert sample is not None
    assert sample.volume == "ct_3"
    assert sample.note == NOTE


def test_the_flag_of_a_submitted_volume_is_a_reviewers(ledger: Ledger) -> None:
    hand_in(ledger, "ct_2", RIGHT)
    assert "ct_2" not in names(ledger)
    assert "ct_2" in names(ledger, seen=True)
    look = ledger.sweep_look("ct_2", sha("ct_2", 2), "flag", BERT)
    assert [one.kind for one in ledger.reviews("ct_2")] == ["sample"]
    assert ledger.status("ct_2") == "submitted"
    assert not ledger.offers()
    ledger.sweep_undo(look, BERT)
    assert not ledger.reviews("ct_2")


def test_what_others_offered_or_asked_stays(ledger: Ledger) -> None:
    hand_in(ledger, "ct_2", RIGHT)
    hand_in(ledger, "ct_4", RIGHT)
    ledger.hand_back("ct_4", note="mind the spleen", reviewer="user:carl")
    for volume in ("ct_2", "ct_4"):
        label = sha(volume, 2)
        first = ledger.sweep_look(volume, label, "flag", ANNA)
        second = ledger.sweep_look(volume, label, "flag", BERT)
        ledger.sweep_undo(second, BERT)
        assert ledger.sweep_flags(), "the first flag stands"
        if volume == "ct_2":
            assert len(ledger.reviews("ct_2")) == 1
        ledger.sweep_undo(first, ANNA)
    assert [one.note for one in ledger.offers()] == ["mind the spleen"]


def test_every_look_is_in_the_audit_trail(ledger: Ledger) -> None:
    look = ledger.sweep_look("ct_1", sha("ct_1"), "fine", ANNA)
    ledger.sweep_undo(look, ANNA)
    with ledger.read() as tx:
        rows = tx.run(
            "SELECT json_extract(text, '$.by'), json_extract(text, '$.detail.verdict')"
            " FROM audit_trail WHERE json_extract(text, '$.action') = 'sweep'"
        ).fetchall()
    assert rows == [(ANNA.key, "fine"), (ANNA.key, "taken back")]


def test_the_random_order_is_drawn_once_and_can_be_made_again(ledger: Ledger) -> None:
    seed = ledger.ensure_sweep_seed()
    assert ledger.ensure_sweep_seed() == seed == ledger.sweep_seed()
    assert names(ledger, "random") == sorted(
        names(ledger), key=lambda name: place_at_random(seed, name)
    )


def test_what_became_of_flags(ledger: Ledger, clock: Clock) -> None:
    assert sweep(ledger) is None
    for volume in ("ct_0", "ct_1", "ct_2", "ct_3"):
        verdict = "fine" if volume == "ct_3" else "flag"
        ledger.sweep_look(volume, sha(volume), verdict, BERT)
    clock.minutes(5)
    hand_in(ledger, "ct_0", WRONG)
    hand_in(ledger, "ct_1", RIGHT)
    hand_in(ledger, "ct_3", WRONG)
    found = sweep(ledger)
    assert found is not None
    assert (found.volumes, found.looked, found.flagged) == (5, 4, 3)
    assert (found.changed, found.right, found.open, found.missed) == (1, 1, 1, 1)
    assert found.unseen == 1
    hand_in(ledger, "ct_4", WRONG)  # before anybody looked: no part of the sample
    found = sweep(ledger)
    assert found is not None
    assert (found.unseen, found.estimate.audited, found.estimate.wrong) == (0, 4, 3)
    assert "no volume is left" in found.text


def test_only_the_first_of_the_random_order_are_a_sample() -> None:
    order = sorted((f"v{n}" for n in range(8448)), key=lambda one: place_at_random("s", one))
    lines = [SweepLine(name, None, seen=False, decided=False, changed=False) for name in order]
    for at in range(200):
        lines[at] = lines[at]._replace(verdict="flag" if at % 20 == 0 else "fine")
    for at in range(300, 400):  # worst first: all of them wrong
        lines[at] = lines[at]._replace(verdict="flag")
    found = report(lines[::-1], "s")
    assert (found.estimate.audited, found.estimate.wrong) == (200, 10)
    exact = binomtest(10, 200).proportion_ci(method="exact")
    assert found.estimate.low == pytest.approx(exact.low, abs=2e-3)
    assert found.estimate.high == pytest.approx(exact.high, abs=2e-3)
    assert found.unseen == 8448 - 300
    assert found.left == round(0.05 * 8448) - 110
    assert "about 312" in found.text
    # Where all were looked at, nothing is uncertain.
    every = [one._replace(verdict=one.verdict or "fine") for one in lines]
    assert report(every, "s").estimate.low == report(every, "s").estimate.high == 110 / 8448
