"""What a page shows of the volumes: against the functions that read everything."""

from __future__ import annotations

import pytest
from tests.store.kit import ANNA, BEN, CONFIRMED, Clock, full, scored, sizes, take

from atlas8k.campaign.reviewed import of_round
from atlas8k.core.errors import LedgerError
from atlas8k.store import Ledger, VolumeEntry


def names(ledger: Ledger, **asked: object) -> list[str]:
    return [line.volume for line in ledger.listed("one", **asked).lines]  # type: ignore[arg-type]


def test_parts_put_together_are_the_priority_list(ledger: Ledger) -> None:
    full(ledger, 23)
    parts = [ledger.listed("one", offset=offset, limit=5) for offset in range(0, 25, 5)]
    assert {part.total for part in parts} == {23}
    shown = [line for part in parts for line in part.lines]
    ranked = ledger.ranking("one")
    assert [(one.volume, one.place, one.figure) for one in shown] == [
        (one.volume, one.rank, one.score) for one in ranked
    ]
    assert shown[0].organs == (("liver", 23.0, None),)


def test_the_place_is_that_of_the_whole_list_however_it_is_filtered(ledger: Ledger) -> None:
    full(ledger, 12)
    (line,) = ledger.listed("one", text="V07").lines
    assert (line.volume, line.place) == ("v07", ledger.rank("v07", "one"))
    assert names(ledger, text="v0", order="name") == [f"v0{i}" for i in range(10)]
    assert names(ledger, text="%") == []
    assert names(ledger, text="' OR 1") == []


def test_states(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 6)
    first, _ = take(ledger)
    ledger.submit(first, ANNA, organs=CONFIRMED)
    held, _ = take(ledger, BEN)
    ledger.exclude("v05", "metal", ANNA)
    ledger.sync_volumes([f"v0{i}" for i in range(7)])
    ledger.record_failure("v06", "one", "no abdomen")
    by_name = {line.volume: line for line in ledger.listed("one").lines}
    assert {name: line.state for name, line in by_name.items()} == {
        first: "submitted",
        held: "leased",
        "v02": "open",
        "v03": "open",
        "v04": "open",
        "v05": "excluded",
        "v06": "failed",
    }
    assert by_name[held].holder == BEN.key
    assert by_name[first].submitted_at == clock.now
    assert (by_name["v05"].reason, by_name["v06"].reason) == ("metal", "no abdomen")
    assert by_name["v05"].place is None
    counts = ledger.states()
    assert counts == {
        "open": 3,
        "leased": 1,
        "submitted": 1,
        "conflict": 0,
        "failed": 1,
        "excluded": 1,
        "review": 0,
        "alike": 0,
    }
    for state, count in counts.items():
        found = ledger.listed("one", show=state)  # type: ignore[arg-type]
        assert found.total == len(found.lines) == count
    clock.minutes(61)  # nobody has told the store that the lease has run out
    assert ledger.states()["leased"] == 0
    assert names(ledger, show="leased") == []
    assert held in names(ledger, show="open")


def test_what_cannot_be_predicted_is_found_when_it_was_submitted_too(ledger: Ledger) -> None:
    full(ledger, 3)
    ledger.lease("v01", ANNA)
    ledger.submit("v01", ANNA, organs=CONFIRMED)
    ledger.record_failure("v01", "one", "damaged")
    (line,) = ledger.listed("one", show="failed").lines
    assert (line.volume, line.state, line.reason) == ("v01", "submitted", "damaged")
    assert (ledger.states()["failed"], ledger.states()["submitted"]) == (1, 1)
    ledger.exclude("v01", "metal", ANNA)
    assert (ledger.states()["failed"], ledger.states()["excluded"]) == (0, 1)


def test_predicted_quality_is_that_noted_with_the_score(ledger: Ledger) -> None:
    scored(ledger, {"a": 1.0})
    noted = {"quality": {"liver": {"dice": 0.91}, "spleen": {"dice": None}}}
    ledger.record_score(
        "a", "one", sizes(9.0, spleen=2.0, aorta=1.0), explanation={"regions": [], **noted}
    )
    assert ledger.listed("one").lines[0].organs == (
        ("liver", 6.0, noted["quality"]["liver"]),
        ("spleen", 2.0, noted["quality"]["spleen"]),
        ("aorta", 1.0, None),
    )


def test_vanished_volumes_are_not_listed(ledger: Ledger) -> None:
    full(ledger, 3)
    ledger.sync_volumes(["v00", "v02"])
    assert names(ledger) == ["v00", "v02"]
    assert ledger.sources_there() == {"": 2}


def test_sources_and_orders(ledger: Ledger, clock: Clock) -> None:
    ledger.sync_volumes(
        [VolumeEntry("a", "LiTS"), VolumeEntry("b", "BTCV"), VolumeEntry("c", "LiTS")]
    )
    scored(ledger, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert ledger.sources_there() == {"BTCV": 1, "LiTS": 2}
    assert names(ledger, source="LiTS") == ["c", "a"]
    assert names(ledger, source="") == []
    assert names(ledger, order="source") == ["b", "c", "a"]
    for volume in ("b", "a"):
        ledger.lease(volume, ANNA)
        clock.minutes(1)
        ledger.submit(volume, ANNA, organs=CONFIRMED)
    assert names(ledger, order="changed") == ["a", "b", "c"]
    assert names(ledger, order="state") == ["c", "b", "a"]
    with pytest.raises(LedgerError, match="no such"):
        ledger.listed("one", order="name; DROP TABLE volume")  # type: ignore[arg-type]


def test_without_scores_volumes_are_listed(ledger: Ledger) -> None:
    ledger.sync_volumes(["b", "a"])
    lines = ledger.listed(None, order="name").lines
    assert [(one.volume, one.place, one.figure, one.organs) for one in lines] == [
        ("a", None, None, ()),
        ("b", None, None, ()),
    ]


@pytest.mark.parametrize("most", [1, 4, 7, 20, 50])
def test_bins_hold_every_place_once(ledger: Ledger, most: int) -> None:
    full(ledger, 20)
    for number in (None, ledger.begin_round("one")[0]):
        bins = ledger.distribution("one", number, most)
        assert len(bins) == min(most, 20)
        places = [place for one in bins for place in range(one.first, one.last + 1)]
        assert places == list(range(1, 21))
        total = sum(one.mean * one.count for one in bins)
        assert total == pytest.approx(sum(one.score for one in ledger.ranking("one")))
    ledger.submit(take(ledger)[0], ANNA, organs=CONFIRMED)
    assert [one.done for one in ledger.distribution("one", None, most)] == [1] + [0] * (
        len(bins) - 1
    )


def test_annotators_have_the_numbers_of_every_report(ledger: Ledger) -> None:
    full(ledger, 10)
    for holder in (BEN, ANNA, BEN):
        ledger.submit(take(ledger, holder)[0], holder, organs=CONFIRMED)
    work = ledger.worked()
    by_round = [of_round(w for w in work if w.round == one.number) for one in ledger.rounds()]
    ordered = sorted((one for part in by_round for one in part), key=lambda one: one.id)
    ordered_keys = list(dict.fromkeys(one.holder for one in ordered))
    assert ledger.annotators() == ordered_keys == [BEN.key, ANNA.key]


def test_means_and_seconds(ledger: Ledger) -> None:
    assert ledger.mean_figures() == {}
    scored(ledger, {"a": 1.0, "b": 5.0})
    assert ledger.mean_figures() == {"one": 3.0}
    assert ledger.seconds_each("one") is None
    ledger.sync_volumes(["a", "b", "c"])
    ledger.record_score("c", "one", sizes(3.0), seconds=4.0)
    assert ledger.seconds_each("one") == 4.0
