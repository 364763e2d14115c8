from __future__ import annotations

import math

import pytest
from tests.store.kit import ANNA, BEN, query, scored, sizes, volumes_of

from atlas8k.core.errors import LedgerError
from atlas8k.store import Ledger, OrganScore, UnknownModelVersionError, UnknownVolumeError


def test_one_row_a_volume_organ_and_model_version(ledger: Ledger) -> None:
    scored(ledger, {"a": 3})
    ledger.register_model_version("two")
    for _ in range(2):  # again is instead, not beside
        ledger.record_score("a", "two", {"liver": OrganScore(4, 2, 1.5, 0.5)})
    rows = query(
        ledger.path,
        "SELECT s.name, count(*), sum(c.attention_ml), sum(c.overlap_ml) FROM score c"
        " JOIN model_version s ON s.id = c.model_version GROUP BY 1 ORDER BY 1",
    )
    assert rows == [("one", 9, 3.0, 0.5), ("two", 1, 4.0, 0.5)]


def test_stale_until_scored_or_failed(ledger: Ledger) -> None:
    ledger.sync_volumes(["a", "b", "c"])
    ledger.register_model_version("one")
    assert ledger.stale("one") == ["a", "b", "c"]
    assert ledger.stale("one", limit=2) == ["a", "b"]
    ledger.record_score("b", "one", sizes(1))
    ledger.record_failure("c", "one", "truncated gzip")
    assert ledger.stale("one") == ["a"]
    progress = ledger.progress("one")
    assert (progress.scored, progress.failed, progress.total) == (1, 1, 3)
    assert not progress.complete
    assert progress.completed_at is None
    ledger.record_score("a", "one", sizes(1))
    assert ledger.progress("one").complete
    assert ledger.progress("one").completed_at is not None
    assert ledger.failures("one") == {"c": "truncated gzip"}


def test_a_failure_can_be_tried_again(ledger: Ledger) -> None:
    scored(ledger, {"a": 1})
    ledger.sync_volumes(["a", "b"])
    ledger.record_failure("b", "one", "out of memory")
    assert ledger.to_review() == 1
    assert ledger.retry_failures("one") == 1
    assert ledger.stale("one") == ["b"]
    assert ledger.to_review() == 2
    ledger.record_failure("b", "one", "out of memory")
    ledger.record_score("b", "one", sizes(1))
    assert ledger.failures("one") == {}
    assert ledger.to_review() == 2


def test_the_likely_top_is_scored_first_and_reviewed_volumes_last(ledger: Ledger) -> None:
    scored(ledger, {"a": 1, "b": 5, "c": 3, "d": 4})
    ledger.submit("b", ANNA)
    ledger.sync_volumes(["a", "b", "c", "d", "e"])
    ledger.register_model_version("two")
    assert ledger.stale("two") == ["d", "c", "a", "e", "b"]


def test_ranked_by_the_last_complete_model_version_while_a_new_one_is_scored(
    ledger: Ledger,
) -> None:
    ledger.sync_volumes(["a", "b"])
    assert ledger.ranking_model_version("one") is None
    ledger.register_model_version("one")
    assert ledger.ranking_model_version("one") == "one"  # nothing better
    ledger.record_score("a", "one", sizes(1))
    ledger.record_score("b", "one", sizes(2))
    ledger.register_model_version("two")
    ledger.record_score("a", "two", sizes(9))
    assert ledger.ranking_model_version("two") == "one"
    sample = ledger.next_sample(holder=ANNA, model_version="two")
    assert sample is not None
    assert (sample.volume, sample.model_version) == ("b", "one")

    ledger.record_failure("b", "two", "truncated")
    assert ledger.ranking_model_version("two") == "two"
    sample = ledger.next_sample(holder=BEN, model_version="two")
    assert sample is not None
    assert (sample.volume, sample.model_version, sample.attention_ml) == ("a", "two", 9)
    # A volume that appears later does not throw the ranking back.
    ledger.sync_volumes(["a", "b", "c"])
    assert not ledger.progress("two").complete
    assert ledger.ranking_model_version("two") == "two"


def test_a_model_version_is_complete_when_the_unscored_volume_goes(ledger: Ledger) -> None:
    scored(ledger, {"a": 1})
    ledger.register_model_version("two")
    ledger.sync_volumes(["a", "b", "c"])
    ledger.record_score("a", "two", sizes(1))
    ledger.sync_volumes(["a", "b"])
    assert ledger.ranking_model_version("two") == "one"
    ledger.exclude("b", "motion")
    assert ledger.ranking_model_version("two") == "two"


def test_an_older_model_version_served_again_ranks_as_it_did(ledger: Ledger) -> None:
    scored(ledger, {"a": 1, "b": 2, "c": 3})
    scored(ledger, {"a": 3, "b": 2, "c": 1}, "two")
    ledger.submit("c", BEN)
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.model_version, sample.rank) == ("b", "one", 2)


def test_registering_again_changes_nothing(ledger: Ledger) -> None:
    assert ledger.register_model_version("one", {"unet": "sha"})
    assert not ledger.register_model_version("one", {"unet": "other"})
    assert ledger.model_version_detail("one") == {"unet": "sha"}
    assert [r.number for r in ledger.rounds()] == [1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_sizes_that_are_none_are_refused_and_the_old_score_stays(
    ledger: Ledger, bad: float
) -> None:
    scored(ledger, {"a": 3})
    with pytest.raises(LedgerError, match="a: liver: a size"):
        ledger.record_score("a", "one", {"liver": OrganScore(bad, 0, 0, 0)})
    assert ledger.ranking("one")[0].attention_ml == 3


def test_unknown_names_are_refused(ledger: Ledger) -> None:
    scored(ledger, {"a": 3})
    with pytest.raises(LedgerError, match="no organ is called heart"):
        ledger.record_score("a", "one", {"heart": OrganScore(1)})
    with pytest.raises(UnknownVolumeError, match="b"):
        ledger.record_score("b", "one", sizes(1))
    with pytest.raises(UnknownModelVersionError, match="register_model_version"):
        ledger.record_score("a", "two", sizes(1))
    with pytest.raises(UnknownModelVersionError, match="two"):
        ledger.stale("two")
    assert volumes_of(ledger) == ["a"]
