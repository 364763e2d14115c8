"""Lists by any ranking from one pass, and why a volume ranks so."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.store.kit import ANNA, BEN, check_consistent, query, scored, volumes_of

from atlas8k.core.errors import LedgerError
from atlas8k.core.rankings import RANKINGS
from atlas8k.store import Ledger, NotMeasuredError, OrganScore, OrganSource

FIGURES = {  # by volume: Eq. 4, salient, per slice, of liver and spleen
    "a": ((9, 1, 0.2), (1, 2, 0.1)),
    "b": ((5, 7, 0.1), (2, 1, 0.1)),
    "c": ((1, 3, 0.4), (3, 4, 0.5)),
}
ORDER = {"eq4": ["a", "b", "c"], "salient": ["b", "c", "a"], "per_slice": ["c", "a", "b"]}


LATER = {"pairwise_dice": 0.5, "epistemic_sum": 1.0, "findings": 0.0, "expected_error": 0.0}
"""Figures of rankings that came later."""


def score(ledger: Ledger, volume: str, model_version: str = "one") -> None:
    liver, spleen = (
        OrganScore(eq4, 0, 0, 0, {"salient": salient, "per_slice": slices, **LATER})
        for eq4, salient, slices in FIGURES[volume]
    )
    ledger.record_score(volume, model_version, {"liver": liver, "spleen": spleen})


@pytest.fixture
def full(ledger: Ledger) -> Ledger:
    ledger.sync_volumes(FIGURES)
    ledger.register_model_version("one")
    for volume in FIGURES:
        score(ledger, volume)
    return ledger


@pytest.mark.parametrize("ranking", ORDER)
def test_any_ranking_lists_and_gives_without_a_new_pass(full: Ledger, ranking: str) -> None:
    assert volumes_of(full, by=ranking) == ORDER[ranking]
    assert full.set_ranking(ranking) is (ranking != "eq4")
    assert full.ranked_by() == ranking
    check_consistent(full.path)
    assert volumes_of(full) == ORDER[ranking]
    first = full.next_sample(holder=ANNA, model_version="one")
    assert first is not None
    assert (first.volume, first.rank, first.ranking) == (ORDER[ranking][0], 1, ranking)
    assert first.attention_ml == pytest.approx(sum(o.attention_ml for o in first.organs))
    second = full.next_sample(holder=BEN, model_version="one")
    assert second is not None
    assert (second.volume, second.rank) == (ORDER[ranking][1], 2)
    check_consistent(full.path)


def test_the_figure_and_the_attention_size_are_both_listed(full: Ledger) -> None:
    top = full.ranking("one", by="salient")[0]
    assert (top.volume, top.score, top.attention_ml, top.ranking) == ("b", 8, 7, "salient")
    by_organ = full.ranking("one", by="per_slice", organs=["spleen"])
    assert [(line.volume, line.score) for line in by_organ] == [("c", 0.5), ("a", 0.1), ("b", 0.1)]
    assert full.ranking("one")[0].score == full.ranking("one")[0].attention_ml == 10


def test_an_organ_is_picked_by_the_ranking_in_force(full: Ledger) -> None:
    full.set_ranking("salient")
    sample = full.next_sample(holder=ANNA, model_version="one", organ="spleen")
    assert sample is not None
    assert sample.volume == "c"


@pytest.mark.parametrize("when", ["before", "after"])
def test_public_organs_do_not_count_in_any_ranking(full: Ledger, when: str) -> None:
    if when == "before":
        full.set_ranking("salient")
    full.set_sources("b", {"liver": OrganSource("public", "present", "LiTS")})
    full.set_ranking("salient")
    assert volumes_of(full) == ["c", "a", "b"]
    check_consistent(full.path)
    full.set_ranking("eq4")
    assert [line.score for line in full.ranking("one")] == [10, 4, 2]
    check_consistent(full.path)


def test_scores_without_the_figures_are_made_again(ledger: Ledger) -> None:
    scored(ledger, {"a": 9, "b": 5})  # as an earlier release kept them
    score(ledger, "b")
    assert ledger.set_ranking("per_slice")
    assert ledger.stale("one") == ["a"]
    check_consistent(ledger.path)
    with pytest.raises(LedgerError, match="per_slice"):
        ledger.record_score("a", "one", {"liver": OrganScore(3)})
    score(ledger, "a")
    assert volumes_of(ledger) == ["a", "b"]
    check_consistent(ledger.path)


def test_a_new_list_takes_the_ranking_that_is_proposed(ledger: Ledger) -> None:
    assert ledger.propose_ranking("salient")
    assert ledger.ranked_by() == "salient"
    assert not ledger.propose_ranking("per_slice")
    assert Ledger(ledger.path).ranked_by() == "salient"


def test_a_list_in_use_or_a_choice_made_is_left_alone(full: Ledger, tmp_path: Path) -> None:
    assert not full.propose_ranking("salient")
    assert full.ranked_by() == "eq4"
    chosen = Ledger(tmp_path / "chosen.sqlite")
    assert not chosen.propose_ranking("eq4")  # current already, and kept as a choice
    assert not chosen.propose_ranking("salient")
    assert chosen.ranked_by() == "eq4"


def test_the_others_are_refused(full: Ledger) -> None:
    with pytest.raises(LedgerError, match="eq4, salient, per_slice"):
        full.set_ranking("entropy")
    with pytest.raises(LedgerError, match="entropy"):
        full.ranking("one", by="entropy")


def disagreeing(ledger: Ledger) -> None:
    """`a` disagrees most in all, `b` on average over what was found."""
    figures = {"a": (0.3, 0.2, 0.1), "b": (0.25, 0.25, None), "c": (0.0, None, None)}
    ledger.sync_volumes(figures)
    ledger.register_model_version("one")
    for volume, values in figures.items():
        sizes = {
            organ: OrganScore(1, figures={"pairwise_dice": value})
            for organ, value in zip(("liver", "spleen", "aorta"), values, strict=True)
        }
        ledger.record_score(volume, "one", sizes)


def test_a_mean_is_over_the_organs_that_have_a_figure_and_are_ranked_by(ledger: Ledger) -> None:
    disagreeing(ledger)
    listed = ledger.ranking("one", by="pairwise_dice")
    assert [(line.volume, line.score) for line in listed] == [
        ("b", 0.25), ("a", pytest.approx(0.2)), ("c", 0.0),
    ]  # fmt: skip
    assert ledger.set_ranking("pairwise_dice")
    assert not ledger.stale("one")  # null was measured
    assert volumes_of(ledger) == ["b", "a", "c"]
    ledger.set_sources("a", {"aorta": OrganSource("public", "present", "LiTS")})
    assert [(line.volume, line.score) for line in ledger.ranking("one")][:2] == [
        ("a", 0.25), ("b", 0.25),
    ]  # fmt: skip
    check_consistent(ledger.path)
    ledger.record_score(
        "c",
        "one",
        {
            "liver": OrganScore(1, figures={"pairwise_dice": 0.9}),
            "spleen": OrganScore(1, figures={"pairwise_dice": None}),
        },
    )
    assert volumes_of(ledger)[0] == "c"
    for_spleen = ledger.next_sample(holder=ANNA, model_version="one", organ="spleen")
    assert for_spleen is not None
    assert for_spleen.volume == "b"


def test_no_list_is_in_the_order_of_figures_that_are_not_there(ledger: Ledger) -> None:
    scored(ledger, {"a": 9, "b": 5})  # as an earlier release kept them
    score(ledger, "b")
    assert ledger.measured_rankings("one") == ["eq4"]
    with pytest.raises(NotMeasuredError, match=r"1 of 2 volumes .* score again"):
        ledger.ranking("one", by="pairwise_dice")
    score(ledger, "a")
    assert volumes_of(ledger, by="epistemic_sum") == ["a", "b"]
    assert set(ledger.measured_rankings("one")) == set(RANKINGS)


def test_networks_served_again_are_scored_again_for_a_ranking_chosen_since(
    ledger: Ledger,
) -> None:
    scored(ledger, {"a": 9, "b": 5})
    ledger.register_model_version("two")
    score(ledger, "a", "two")
    score(ledger, "b", "two")
    assert ledger.set_ranking("pairwise_dice")
    assert not ledger.stale("one")  # superseded, and kept
    with pytest.raises(NotMeasuredError):
        ledger.ranking("one")
    ledger.register_model_version("one")
    assert ledger.stale("one") == ["a", "b"]
    assert not ledger.stale("two")
    check_consistent(ledger.path)


def test_another_process_finds_the_ranking(full: Ledger) -> None:
    full.set_ranking("salient")
    assert volumes_of(Ledger(full.path)) == ORDER["salient"]


def test_an_explanation_comes_and_goes_with_its_score(full: Ledger) -> None:
    assert full.explanation("a", "one") is None
    assert full.explanation("z", "one") is None
    text = {"organs": [{"organ": "liver", "ml": 9.0}], "regions": []}
    full.record_score("a", "one", {"liver": OrganScore(9)}, explanation=text)
    assert full.explanation("a", "one") == text
    full.record_failure("a", "one", "damaged")
    assert full.explanation("a", "one") is None
    check_consistent(full.path)


def test_explanations_of_superseded_networks_do_not_pile_up(full: Ledger) -> None:
    for model_version in ("one", "two", "three"):
        full.register_model_version(model_version)
        for volume in FIGURES:
            sizes = {"liver": OrganScore(1)}
            full.record_score(volume, model_version, sizes, explanation={"by": model_version})
    assert full.explanation("a", "three") == {"by": "three"}
    with closing(sqlite3.connect(full.path)) as connection:
        assert connection.execute("SELECT count(*) FROM explanation").fetchone()[0] <= 6


def test_reading_one_is_one_look_up(full: Ledger, tmp_path: Path) -> None:
    plan = query(
        full.path,
        "EXPLAIN QUERY PLAN SELECT e.text FROM explanation e"
        " WHERE e.volume = (SELECT id FROM volume WHERE name = 'a')"
        " AND e.model_version = (SELECT id FROM model_version WHERE name = 'one')",
    )
    assert not [step for step in plan if "SCAN" in str(step)]
