from __future__ import annotations

import pytest
from tests.store.kit import ANNA, Clock, query, scored, sizes

from atlas8k.store import Counts, Ledger, UnknownVolumeError, VolumeEntry


def test_volumes_come_and_go_with_their_history(ledger: Ledger) -> None:
    scored(ledger, {"a": 3, "b": 2, "c": 1})
    assert ledger.sync_volumes(["a", "c", "d"]) == (1, 1)
    assert ledger.status("b") == "vanished"
    assert ledger.stale("one") == ["d"]
    assert [ranked.volume for ranked in ledger.ranking("one")] == ["a", "c"]
    assert ledger.progress("one").total == 3

    ledger.sync_volumes(["a", "b", "c", "d"])
    assert [ranked.volume for ranked in ledger.ranking("one")] == ["a", "b", "c"]


def test_sync_without_a_change_writes_nothing(ledger: Ledger) -> None:
    ledger.sync_volumes(["a", "b"])
    before = query(ledger.path, "PRAGMA data_version"), (ledger.path.parent).stat().st_mtime
    wal = ledger.path.with_name(ledger.path.name + "-wal")
    size = wal.stat().st_size
    assert ledger.sync_volumes(["b", "a"]) == (0, 0)
    assert wal.stat().st_size == size, before


def test_a_changed_file_is_stale_again(ledger: Ledger) -> None:
    ledger.sync_volumes([VolumeEntry("a", fingerprint="1"), VolumeEntry("b", fingerprint="1")])
    ledger.register_model_version("one")
    ledger.record_score("a", "one", sizes(5))
    ledger.record_failure("b", "one", "truncated")
    assert ledger.stale("one") == []
    ledger.sync_volumes([VolumeEntry("a", fingerprint="2"), VolumeEntry("b", fingerprint="2")])
    assert sorted(ledger.stale("one")) == ["a", "b"]
    assert ledger.failures("one") == {}
    # A listing that knows no fingerprints takes nothing back.
    ledger.record_score("a", "one", sizes(5))
    ledger.sync_volumes(["a", "b"])
    assert ledger.stale("one") == ["b"]


def test_volumes_are_added_one_by_one(ledger: Ledger) -> None:
    assert ledger.add_volumes(["a", "b"]) == {"a", "b"}
    assert ledger.add_volumes(["b"]) == set()
    ledger.sync_volumes(["b"])
    assert ledger.statuses() == {"a": "vanished", "b": "open"}


def test_an_excluded_volume_counts_nowhere(ledger: Ledger) -> None:
    scored(ledger, {"a": 3, "b": 2})
    ledger.sync_volumes(["a", "b", "c"])
    ledger.exclude("a", "chest CT")
    ledger.exclude("c", "motion")
    assert ledger.status("a") == "excluded"
    assert ledger.stale("one") == []
    assert [ranked.volume for ranked in ledger.ranking("one")] == ["b"]
    assert ledger.progress("one").total == 1
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.rank, sample.ranked, sample.budget) == ("b", 1, 1, 1)
    ledger.submit("b", ANNA)
    assert ledger.next_sample(holder=ANNA, model_version="one") is None

    ledger.include("a")
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert sample.volume == "a"


def test_counts_by_state(ledger: Ledger, clock: Clock) -> None:
    scored(ledger, dict.fromkeys("abcdef", 1.0))
    ledger.exclude("f", "motion")
    ledger.sync_volumes("abcdf")
    ledger.submit("a", ANNA)
    ledger.next_sample(holder=ANNA, model_version="one")
    assert ledger.counts() == Counts(total=4, leased=1, submitted=1, conflict=0, excluded=1)


def test_unknown_volume_is_named(ledger: Ledger) -> None:
    with pytest.raises(UnknownVolumeError, match="nope"):
        ledger.status("nope")
    with pytest.raises(UnknownVolumeError, match="nope"):
        ledger.exclude("nope", "motion")
    assert ledger.submitted("nope") is False
