from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from tests.store.kit import ANNA, BEN, CARA, NOBODY, Clock, held_twice, scored, sizes

from atlas8k.core.errors import LedgerError
from atlas8k.store import Holder, Ledger, Sample, UnknownVolumeError, VolumeEntry


def take(ledger: Ledger, holder: Holder, strategy: str = "attention") -> str | None:
    sample = ledger.next_sample(holder=holder, model_version="one", strategy=strategy)  # type: ignore[arg-type]
    return None if sample is None else sample.volume


@pytest.fixture
def four(ledger: Ledger) -> Ledger:
    scored(ledger, {"a": 4, "b": 3, "c": 2, "d": 1})
    return ledger


def test_the_holder_is_the_user_else_the_client_else_the_address() -> None:
    assert Holder.identify("anna", "c1", "10.0.0.7", "Slicer") == Holder("user:anna")
    assert Holder.identify(None, "c1", "10.0.0.7", "Slicer") == Holder("client:c1")
    # 3D Slicer's default client id is everybody's.
    for client in (None, "", "user-xyz"):
        holder = Holder.identify("", client, "10.0.0.7", "Slicer")
        assert holder == Holder("anonymous:10.0.0.7 Slicer", anonymous=True)
    assert Holder.identify(client_id="anna") != Holder.identify(user="anna")


def test_everybody_gets_another_volume(four: Ledger) -> None:
    assert [take(four, holder) for holder in (ANNA, BEN, CARA)] == ["a", "b", "c"]
    assert [(lease.volume, lease.holder) for lease in four.leases()] == [
        ("a", "user:anna"),
        ("b", "client:ben"),
        ("c", "user:cara"),
    ]
    assert four.status("a") == "leased"


@pytest.mark.parametrize("strategy", ["attention", "first", "random"])
def test_every_strategy_leases(four: Ledger, strategy: str) -> None:
    taken = {take(four, Holder.identify(user=str(i)), strategy) for i in range(4)}
    assert taken == {"a", "b", "c", "d"}
    assert take(four, ANNA, strategy) is None


def test_strategies_share_the_leases(four: Ledger) -> None:
    assert take(four, ANNA, "attention") == "a"
    assert take(four, BEN, "first") == "b"
    assert take(four, CARA, "random") in {"c", "d"}


def test_an_unknown_strategy_leases_nothing(four: Ledger) -> None:
    with pytest.raises(LedgerError, match="there are attention, first, random"):
        take(four, ANNA, "best")
    assert four.leases() == []


def test_asking_again_skips_and_the_skipped_come_back_later(four: Ledger, clock: Clock) -> None:
    assert [take(four, ANNA) for _ in range(4)] == ["a", "b", "c", "d"]
    # Nothing else is left, so the one skipped longest ago comes back, and says so.
    sample = four.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.skipped_before) == ("a", True)
    # For somebody else "b" was never skipped.
    assert take(four, BEN) == "b"
    four.submit("b", BEN)
    four.submit("a", ANNA)
    assert take(four, ANNA) == "c"


def test_a_skipped_volume_is_first_again_after_a_while(four: Ledger, clock: Clock) -> None:
    assert [take(four, ANNA) for _ in range(2)] == ["a", "b"]
    clock.minutes(59)
    assert take(four, ANNA) == "c"
    clock.minutes(2)
    assert take(four, ANNA) == "a"


def test_the_only_volume_left_is_given_again(ledger: Ledger) -> None:
    scored(ledger, {"a": 1})
    assert [take(ledger, ANNA), take(ledger, ANNA)] == ["a", "a"]
    assert take(ledger, BEN) is None


def test_an_anonymous_second_request_does_not_release_the_first(four: Ledger) -> None:
    first, second = (four.next_sample(holder=NOBODY, model_version="one") for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.volume, second.volume, first.anonymous) == ("a", "b", True)
    assert take(four, ANNA) == "c"
    assert [lease.volume for lease in four.leases()] == ["a", "b", "c"]


def test_a_lease_runs_out(four: Ledger, clock: Clock) -> None:
    sample = four.next_sample(holder=NOBODY, model_version="one")
    assert sample is not None
    assert sample.expires_at == clock.now + 3600
    clock.minutes(59.9)
    assert take(four, ANNA) == "b"
    clock.minutes(0.2)
    assert take(four, BEN) == "a"
    assert held_twice(four.path) == []


def test_many_leases_run_out_at_once(ledger: Ledger, clock: Clock) -> None:
    scored(ledger, {f"v{i:03d}": 200 - i for i in range(120)})
    while take(ledger, NOBODY):
        pass
    assert len(ledger.leases()) == 120
    clock.minutes(61)
    assert ledger.leases() == []
    # The first requests clear some of them each; nobody is told that nothing is left.
    assert {take(ledger, NOBODY) for _ in range(120)} == {f"v{i:03d}" for i in range(120)}


def test_one_that_is_left_is_found_behind_many_that_ran_out(ledger: Ledger, clock: Clock) -> None:
    ledger.sync_volumes([*(VolumeEntry(f"a{i}", "A") for i in range(60)), VolumeEntry("b", "B")])
    while ledger.next_sample(holder=NOBODY, strategy="first"):
        clock.now += 0.001  # "b" is the last to be leased, and so the last to be cleared
    clock.minutes(61)
    sample = ledger.next_sample(holder=ANNA, source="B")
    assert sample is not None
    assert sample.volume == "b"


def test_giving_back(four: Ledger) -> None:
    assert take(four, ANNA) == "a"
    assert not four.release("a", BEN)
    assert four.release("a", ANNA)
    assert not four.release("a", ANNA)
    assert take(four, BEN) == "a"


def test_a_volume_can_be_leased_by_name(four: Ledger, clock: Clock) -> None:
    assert take(four, ANNA) == "a"
    assert four.lease("a", BEN) is None
    taken = four.lease("c", ANNA, model_version="one")
    assert taken is not None
    assert [lease.volume for lease in four.leases()] == ["a", "c"]
    clock.minutes(50)
    longer = four.lease("c", ANNA)
    assert longer is not None
    assert (longer.id, longer.taken_at) == (taken.id, taken.taken_at)
    assert longer.expires_at == clock.now + 3600
    clock.minutes(30)
    again = four.lease("a", BEN)  # Anna's has run out
    assert again is not None
    assert four.submit("c", ANNA).minutes == 80
    # Two anonymous clients look alike.
    assert four.lease("d", NOBODY) is not None
    assert four.lease("d", NOBODY) is None
    assert held_twice(four.path) == []
    # A submitted one is opened on purpose, say by a reviewer.
    assert four.lease("c", CARA) is not None
    with pytest.raises(UnknownVolumeError):
        four.lease("nope", CARA)


def test_unscored_volumes_only_when_nothing_scored_is_open(ledger: Ledger) -> None:
    scored(ledger, {"m": 1})
    ledger.sync_volumes(["m", "a", "b", "broken"])
    ledger.record_failure("broken", "one", "truncated")
    first = ledger.next_sample(holder=ANNA, model_version="one")
    second = ledger.next_sample(holder=BEN, model_version="one")
    assert first is not None
    assert second is not None
    assert (first.volume, first.unscored) == ("m", False)
    assert (second.volume, second.unscored) == ("a", True)
    assert (second.attention_ml, second.rank, second.organs) == (None, None, ())
    # Skipped and scored still comes before unscored.
    ledger.release("m", ANNA)
    assert take(ledger, ANNA) == "m"
    assert take(ledger, ANNA) == "m"
    # What cannot be read is not given out.
    assert take(ledger, CARA) == "b"
    assert take(ledger, Holder.identify(user="dora")) is None


def test_without_networks_volumes_are_given_by_name(ledger: Ledger) -> None:
    ledger.sync_volumes(["b", "a"])
    sample = ledger.next_sample(holder=ANNA)
    assert sample is not None
    assert (sample.volume, sample.model_version, sample.unscored, sample.round) == (
        "a",
        None,
        True,
        1,
    )


def test_an_empty_folder_has_nothing(ledger: Ledger) -> None:
    assert ledger.next_sample(holder=ANNA) is None
    ledger.sync_volumes([])
    assert ledger.next_sample(holder=ANNA, model_version=None, strategy="random") is None


def test_the_reply_says_what_budget_is_left(ledger: Ledger) -> None:
    scored(ledger, {f"v{i}": float(i) for i in range(5)})  # half of 5, rounded down, is 2
    seen: list[Sample] = []
    for _ in range(4):
        sample = ledger.next_sample(holder=ANNA, model_version="one")
        assert sample is not None
        seen.append(sample)
        ledger.submit(sample.volume, ANNA)
    assert [(s.budget, s.budget_left, s.over_budget) for s in seen] == [
        (2, 2, False),
        (2, 1, False),
        (2, 0, True),
        (2, 0, True),
    ]
    assert {s.round for s in seen} == {1}
    assert seen[0].as_dict()["organs"][0] == {"organ": "liver", "attention_ml": 4.0}


def test_random_is_a_uniform_order(ledger: Ledger) -> None:
    """Of 200 sets of 4, each letter is first about as often, within five standard deviations."""
    ledger.sync_volumes(f"{letter}{i}" for letter in "abcd" for i in range(200))
    first: dict[str, str] = {}
    for _ in range(800):
        sample = ledger.next_sample(holder=NOBODY, strategy="random")
        assert sample is not None
        first.setdefault(sample.volume[1:], sample.volume[0])
    counts = [list(first.values()).count(letter) for letter in "abcd"]
    assert all(abs(n - 50) < 5 * 37.5**0.5 for n in counts), counts


def test_a_vanished_volume_is_not_given_out(four: Ledger) -> None:
    four.sync_volumes(["b", "c", "d"])
    assert take(four, ANNA) == "b"
    four.sync_volumes(["c"])
    assert take(four, ANNA) == "c"
    four.record_score("b", "one", sizes(99))
    assert take(four, BEN) is None


def test_the_database_itself_refuses_two_holders(four: Ledger) -> None:
    take(four, ANNA)
    with closing(sqlite3.connect(four.path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(
            "INSERT INTO lease (volume, holder, anonymous, strategy, taken_at, expires_at)"
            " SELECT volume, 'x', 0, 'first', 0, 1 FROM lease"
        )


def test_a_sample_says_what_its_holder_had_until_then(ledger: Ledger) -> None:
    scored(ledger, {"a": 3.0, "b": 2.0, "c": 1.0})
    first = ledger.next_sample(holder=ANNA, model_version="one")
    assert first is not None
    assert first.given_back == ()
    ledger.lease("c", ANNA)
    second = ledger.next_sample(holder=ANNA, model_version="one")
    assert second is not None
    assert (second.volume, second.given_back) == ("b", ("a", "c"))
    ledger.submit("b", ANNA)
    third = ledger.next_sample(holder=ANNA, model_version="one")
    assert third is not None
    assert third.given_back == ()
