from __future__ import annotations

import random

import pytest
from tests.store.kit import ANNA, scored, sizes, volumes_of

from atlas8k.core.errors import LedgerError
from atlas8k.store import Ledger, OrganAttention, OrganSource, VolumeEntry


def test_most_attention_first_ties_in_order_of_name(ledger: Ledger) -> None:
    scored(ledger, {"d": 1, "c": 7.5, "b": 1, "a": 0})
    assert volumes_of(ledger) == ["c", "b", "d", "a"]
    assert [ranked.rank for ranked in ledger.ranking("one")] == [1, 2, 3, 4]
    assert volumes_of(ledger, limit=2) == ["c", "b"]


def test_rank_of_a_sample_is_its_place_in_the_list(ledger: Ledger) -> None:
    """Sizes that are nearly the same, tie, and are zero."""
    rng = random.Random(3)
    attention = {
        f"v{i:03d}": rng.choice([0.0, 1.0, 1.0 + rng.random() / 1000, rng.lognormvariate(0, 3)])
        for i in range(200)
    }
    scored(ledger, attention)
    listed = {ranked.volume: ranked.rank for ranked in ledger.ranking("one")}
    for _ in range(200):
        sample = ledger.next_sample(holder=ANNA, model_version="one", strategy="random")
        assert sample is not None
        assert (sample.rank, sample.ranked) == (listed[sample.volume], 200)


def test_a_submitted_volume_keeps_its_rank(ledger: Ledger) -> None:
    scored(ledger, {"a": 3, "b": 2, "c": 1})
    ledger.submit("a", ANNA)
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.rank) == ("b", 2)
    assert [ranked.status for ranked in ledger.ranking("one")] == ["submitted", "leased", "open"]
    assert volumes_of(ledger, open_only=True) == ["c"]
    assert ledger.ranking("one", open_only=True)[0].rank == 3


def test_organs_in_order_and_ranking_by_organs(ledger: Ledger) -> None:
    ledger.sync_volumes(["a", "b", "c"])
    ledger.register_model_version("one")
    ledger.record_score("a", "one", sizes(10, pancreas=1, stomach=1))
    ledger.record_score("b", "one", sizes(9, pancreas=3))
    ledger.record_score("c", "one", sizes(5, pancreas=2, stomach=3))
    assert ledger.ranking("one")[0].organs[:3] == (
        OrganAttention("liver", 8),
        OrganAttention("pancreas", 1),
        OrganAttention("stomach", 1),
    )
    assert volumes_of(ledger, organs=["pancreas"]) == ["b", "c", "a"]
    assert volumes_of(ledger, organs=["pancreas", "stomach"]) == ["c", "b", "a"]
    sample = ledger.next_sample(holder=ANNA, model_version="one", organ="pancreas")
    assert sample is not None
    assert (sample.volume, sample.rank, sample.attention_ml) == ("b", 2, 9)
    assert sample.organs[0] == OrganAttention("liver", 6)
    with pytest.raises(LedgerError, match="heart: no such organ"):
        ledger.next_sample(holder=ANNA, model_version="one", organ="heart")


@pytest.mark.parametrize("strategy", ["attention", "first", "random"])
def test_only_volumes_of_one_source(ledger: Ledger, strategy: str) -> None:
    ledger.sync_volumes([VolumeEntry(f"{s}{i}", s) for s in ("BTCV", "LiTS") for i in range(4)])
    ledger.register_model_version("one")
    for i in range(3):
        ledger.record_score(f"BTCV{i}", "one", sizes(10 + i))
        ledger.record_score(f"LiTS{i}", "one", sizes(i, spleen=i / 2))
    got = []
    while sample := ledger.next_sample(
        holder=ANNA,
        model_version="one",
        strategy=strategy,
        source="LiTS",  # type: ignore[arg-type]
    ):
        got.append(sample.volume)
        ledger.submit(sample.volume, ANNA)
    assert sorted(got) == ["LiTS0", "LiTS1", "LiTS2", "LiTS3"]
    if strategy == "attention":
        assert got == ["LiTS2", "LiTS1", "LiTS0", "LiTS3"]
    if strategy == "first":
        assert got == sorted(got)
    assert volumes_of(ledger, source="BTCV") == ["BTCV2", "BTCV1", "BTCV0"]
    by_organ = ledger.next_sample(holder=ANNA, model_version="one", organ="spleen", source="BTCV")
    assert by_organ is not None
    assert by_organ.volume.startswith("BTCV")


def test_public_organs_are_not_ranked_by_unless_asked(ledger: Ledger) -> None:
    ledger.sync_volumes(["a", "b"])
    ledger.register_model_version("one")
    ledger.record_score("a", "one", sizes(10, pancreas=1))
    ledger.record_score("b", "one", sizes(5, pancreas=2))
    ledger.set_sources("a", {"liver": OrganSource("public", "present", "LiTS")})
    assert volumes_of(ledger) == ["b", "a"]
    assert ledger.ranking("one")[1].attention_ml == 1
    # Under a model version scored later, too.
    scored(ledger, {"a": 10, "b": 5}, "two")
    assert volumes_of(ledger, "two") == ["b", "a"]
    ledger.rank_all_organs(True)
    assert volumes_of(ledger, "two") == ["a", "b"]
    ledger.rank_all_organs(False)
    assert volumes_of(ledger, "two") == ["b", "a"]
