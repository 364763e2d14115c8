"""Lists that are drawn: the same for the same seed, with a place for every class."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from atlas8k.core.rankings import RANKINGS
from atlas8k.core.selection import (
    SELECTIONS,
    Candidate,
    drawn,
    noisy,
    stratified,
    traits_of,
)

ORGANS = ("liver", "pancreas", "gall_bladder")


def one(name: str, score: float, worst: str = "liver", **more: object) -> Candidate:
    fields: dict[str, object] = {
        "foreground": True, "body": None, "traits": ("portal-venous", "whole", "LiTS"),
    }  # fmt: skip
    return Candidate(name, score, worst, **(fields | more))  # type: ignore[arg-type]


def pool(n: int = 90) -> list[Candidate]:
    """The liver is worst in nine of ten, and by far the largest there."""
    worst = ["liver"] * 9 + ["gall_bladder"]
    return [
        one(f"v{i:03d}", 1000.0 - i if i % 10 < 9 else 5.0 - i / 100, worst[i % 10])
        for i in range(n)
    ]


def ranked(members: list[Candidate]) -> list[Candidate]:
    return sorted(members, key=lambda each: -each.score)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_volume_once_and_the_same_list_for_the_same_seed(selection) -> None:
    members = pool()
    first = drawn(selection, members, 9, "seed", 2)
    assert sorted(first) == [each.volume for each in members]
    shuffled = random.Random(1).sample(members, len(members))
    assert drawn(selection, shuffled, 9, "seed", 2) == first
    if selection != "ranking":
        assert drawn(selection, members, 9, "another", 2) != first
        assert drawn(selection, members, 9, "seed", 1) != first


def test_by_the_ranking_is_the_largest_first() -> None:
    scores = {each.volume: each.score for each in pool()}
    order = [scores[name] for name in drawn("ranking", pool(), 9, "seed", 1)]
    assert order == sorted(order, reverse=True)


def test_foreground_comes_first_and_in_it_every_volume_is_as_likely() -> None:
    members = [one(f"v{i}", 1.0, foreground=i % 2 == 0) for i in range(10)]
    firsts = Counter(
        drawn("random_foreground", members, 1, str(seed), 1)[0] for seed in range(2000)
    )
    assert set(firsts) == {f"v{i}" for i in range(0, 10, 2)}
    # Binomial of 2000 at a fifth: 400 with a standard deviation of 18.
    assert all(abs(count - 400) < 90 for count in firsts.values())


def test_a_class_of_small_organs_has_its_places() -> None:
    members = pool()
    top = [each.worst for each in ranked(members)[:9]]
    assert set(top) == {"liver"}
    first = set(stratified(ranked(members), 9, "seed", 3)[:9])
    classes = Counter(each.worst for each in members if each.volume in first)
    assert classes["gall_bladder"] == 3  # of six places by class, in turn
    none = set(stratified(ranked(members), 9, "seed", 3, share=0.0)[:9])
    assert all(each.worst == "liver" for each in members if each.volume in none)


def test_a_place_goes_to_what_was_seen_least() -> None:
    members = [one(f"v{i:02d}", 100.0 - i) for i in range(20)]
    members[11] = one("arterial", 89.0, traits=("arterial", "whole", "LiTS"))
    members[12] = one("cut", 88.0, traits=("portal-venous", "cut below", "LiTS"))
    members[13] = one("other", 87.0, traits=("portal-venous", "whole", "CHAOS"))
    members = [each._replace(body=300.0) for each in members]
    members[14] = members[14]._replace(volume="large", body=900.0)
    first = stratified(members, 6, "seed", 9, share=1.0)[:6]
    assert {"arterial", "cut", "other", "large"} <= set(first)


def test_the_budget_and_what_is_behind_it_come_in_the_order_of_the_ranking() -> None:
    members = ranked(pool())
    scores = {each.volume: each.score for each in members}
    order = [scores[name] for name in stratified(members, 9, "seed", 1)]
    assert order[:9] == sorted(order[:9], reverse=True)
    assert order[9:] == sorted(order[9:], reverse=True)


def test_noise_decays_until_the_ranking_decides() -> None:
    scores = [100.0 * 0.97**i for i in range(200)]

    def misplaced(round_: int) -> float:
        order = sorted(range(200), key=lambda i: -noisy(scores[i], "seed", round_, str(i)))
        return sum(abs(place - i) for place, i in enumerate(order)) / 200

    first, second, third = misplaced(1), misplaced(2), misplaced(3)
    assert first > 3 * second > 9 * third
    assert 0 < misplaced(1000) < 3 * third  # it stays there


def test_a_draw_is_in_proportion_to_the_score() -> None:
    wins = sum(
        noisy(3.0, str(seed), 1, "a") > noisy(1.0, str(seed), 1, "b") for seed in range(4000)
    )
    assert abs(wins - 3000) < 140  # five standard deviations
    assert noisy(0.0, "seed", 1, "a") == float("-inf")


@pytest.mark.parametrize("budget", [0, 1, 3, 50])
def test_small_pools(budget: int) -> None:
    assert stratified([], budget, "seed", 1) == []
    nothing = [one(f"v{i}", 0.0, "") for i in range(3)]
    assert stratified(nothing, budget, "seed", 1) == ["v0", "v1", "v2"]
    assert sorted(stratified(pool(5), budget, "seed", 1)) == [f"v{i:03d}" for i in range(5)]


def test_what_is_kept_of_a_ct_is_tiny_and_makes_a_candidate() -> None:
    features = [
        {"name": "phase", "value": "portal-venous", "words": "contrast phase", "trained": {}},
        {"name": "coverage", "value": "cut above and below and at a side", "like": None},
        {"name": "organs", "value": 9.0},
        {"name": "body_cm2", "value": 812.3},
        {"name": "noise_hu", "value": 12.0},
    ]
    kept = traits_of(features)
    assert len(str(kept)) < 150
    made = Candidate.of("a", 3.0, {"liver": 1.0, "spleen": 2.0, "aorta": None}, kept, "")
    assert made == Candidate(
        "a", 3.0, "spleen", True, 812.3,
        ("portal-venous", "cut above and below and at a side", "unknown"),
    )  # fmt: skip
    empty = Candidate.of("a", 0.0, {}, {"organs": 0.0, "phase": None}, "LiTS")
    assert empty == Candidate("a", 0.0, "", False, None, ("unknown", "unknown", "LiTS"))


def test_the_mean_of_a_ranking_leaves_out_organs_without_a_figure() -> None:
    assert RANKINGS["pairwise_dice"].score([0.2, None, 0.4]) == pytest.approx(0.3)
    assert RANKINGS["salient"].score([0.2, None, 0.4]) == pytest.approx(0.6)
    assert RANKINGS["pairwise_dice"].score([None, None]) == 0
