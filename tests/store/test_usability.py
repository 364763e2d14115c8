"""Volumes that are not usable: who said so, and what their content is held against."""

from __future__ import annotations

import pytest
from tests.store.kit import scored

from atlas8k.core.errors import LedgerError
from atlas8k.store import Holder, Ledger, UnknownVolumeError, VolumeEntry

ME = Holder("client:me")


@pytest.fixture
def three(ledger: Ledger) -> Ledger:
    ledger.sync_volumes([VolumeEntry(name, "", "1") for name in "abc"])
    return ledger


def reasons(ledger: Ledger) -> dict[str, str]:
    return {one.volume: one.reason for one in ledger.not_usable()}


def test_people_exclude_and_include_and_both_are_kept(three: Ledger) -> None:
    three.exclude("a", " motion ", ME)
    assert three.status("a") == "excluded"
    (line,) = three.not_usable()
    assert (line.volume, line.reason, line.kind, line.holder) == ("a", "motion", "person", ME.key)
    assert three.include("a", "looked again", ME)
    assert not three.include("a")
    assert three.not_usable() == []
    assert [(one.usable, one.reason) for one in three.usability("a")] == [
        (False, "motion"),
        (True, "looked again"),
    ]


def test_an_exclusion_needs_a_reason_and_a_volume(three: Ledger) -> None:
    with pytest.raises(LedgerError, match="say why"):
        three.exclude("a", "  ")
    with pytest.raises(UnknownVolumeError):
        three.exclude("z", "motion")
    with pytest.raises(UnknownVolumeError):
        three.include("z")


def test_what_is_set_aside_for_its_content_counts_once_somebody_includes_it(
    three: Ledger,
) -> None:
    assert three.judge_content("a", "not_hu", "no HU")
    assert not three.judge_content("a", "not_hu", "no HU")
    assert reasons(three) == {"a": "no HU"}
    assert three.counts().total == 2
    three.include("a", holder=ME)
    assert not three.judge_content("a", "not_hu", "no HU")
    assert three.status("a") == "open"


def test_a_mended_file_counts_again_and_another_file_is_looked_at_anew(three: Ledger) -> None:
    three.judge_content("a", "not_hu", "no HU")
    assert three.judge_content("a", None)
    assert three.status("a") == "open"
    three.judge_content("b", "no_abdomen", "a head")
    three.include("b", holder=ME)
    three.sync_volumes([VolumeEntry(n, "", "2" if n == "b" else "1") for n in "abc"])
    assert three.judge_content("b", "no_abdomen", "another head")
    assert reasons(three) == {"b": "another head"}


def test_what_a_person_excluded_is_not_let_in_by_a_look(three: Ledger) -> None:
    three.exclude("a", "motion", ME)
    assert not three.judge_content("a", None)
    assert not three.judge_content("a", "no_abdomen", "a head")
    three.sync_volumes([VolumeEntry(n, "", "2") for n in "abc"])
    assert not three.judge_content("a", None)
    assert reasons(three) == {"a": "motion"}


def test_it_is_out_of_list_budget_and_audits_and_comes_back(ledger: Ledger) -> None:
    scored(ledger, {f"v{i:02d}": 100.0 - i for i in range(40)})
    ledger.exclude("v00", "chest CT")
    assert "v00" not in [one.volume for one in ledger.ranking("one")]
    assert ledger.progress("one").total == 39
    first = ledger.next_sample(holder=ME, model_version="one")
    assert first is not None
    assert first.volume == "v01"
    assert first.budget == 19
    plan = ledger.plan(first.round)
    assert plan is not None
    assert "v00" not in [line.volume for line in plan.lines]
    ledger.include("v00")
    assert ledger.ranking("one")[0].volume == "v00"


def test_who_excludes_a_volume_no_longer_holds_it(three: Ledger) -> None:
    three.lease("a", ME)
    three.lease("b", Holder("client:other"))
    three.exclude("a", "motion", ME)
    three.exclude("b", "motion", ME)
    assert [one.volume for one in three.leases()] == ["b"]
