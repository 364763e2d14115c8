"""Orders of review compared: courses by hand, seeds, what is never reached."""

from __future__ import annotations

import math

import numpy as np
import pytest

from atlas8k.campaign.strategies import (
    MINUTES_A_VOLUME,
    MINUTES_AN_ORGAN,
    REFERENCE,
    Pool,
    Strategy,
    compare,
    course,
    order_of,
)
from atlas8k.core.selection import Candidate

NAN = math.nan
STRATEGIES = {
    "good": Strategy("good", "ranking"),
    "bad": Strategy("bad", "ranking"),
    "stratified": Strategy("good", "stratified"),
    REFERENCE: Strategy("good", "random_foreground"),
}


def pool(before: list[list[float]], after: list[list[float]] | None = None) -> Pool:
    """Volumes whose best ranking is by how wrong they are, and whose worst is by the contrary."""
    wrong = np.array(before, dtype=float)
    scores = {"good": 2 - np.nanmean(wrong, axis=1), "bad": np.nanmean(wrong, axis=1)}
    candidates = {
        name: [
            Candidate(f"v{i:03d}", float(score), "liver", True, float(i), ("portal", "whole", ""))
            for i, score in enumerate(own)
        ]
        for name, own in scores.items()
    }
    right = np.where(np.isnan(wrong), NAN, 1.0) if after is None else np.array(after)
    touched = np.sum(wrong < 1, axis=1).astype(float)
    return Pool(candidates, wrong, right, touched, 10 * np.nansum(1 - wrong, axis=1))


def test_a_course_is_what_adds_up_after_each_revision() -> None:
    found = course(pool([[0.8, 0.4], [0.6, NAN], [1.0, 0.6]]), [1, 0])
    assert found.dsc == pytest.approx([(0.8 + 0.5) / 2, (2.8 / 3 + 0.5) / 2, (3 / 3 + 0.8) / 2])
    assert found.dsc_unseen == pytest.approx([0.65, (0.9 + 0.5) / 2, (1.0 + 0.6) / 2])
    assert found.minutes == pytest.approx(
        [0, MINUTES_A_VOLUME + MINUTES_AN_ORGAN, 2 * MINUTES_A_VOLUME + 3 * MINUTES_AN_ORGAN]
    )
    assert found.removed == pytest.approx([0, 4 / 16, 12 / 16])
    assert found.area == pytest.approx(found.dsc.mean())
    assert found.reaches(0.65) == 0
    assert found.reaches(0.71) == 1
    assert found.reaches(0.99) is None


def test_an_organ_that_is_taken_away_counts_no_more() -> None:
    # Drawn where there is none: DSC 0, and after its removal no organ at all.
    found = course(pool([[0.0, 0.5], [NAN, 1.0]], [[NAN, 1.0], [NAN, 1.0]]), [0, 1])
    assert found.dsc == pytest.approx([(0.0 + 0.75) / 2, 1.0, 1.0])
    assert math.isnan(found.dsc_unseen[-1])  # nothing is left that nobody saw


def random_pool(n: int = 40) -> Pool:
    rng = np.random.default_rng(3)
    return pool((1 - rng.exponential(0.1, (n, 2)).clip(0, 0.9)).tolist())


def test_a_list_is_drawn_from_what_is_left_in_each_round() -> None:
    whole = random_pool()
    for strategy in STRATEGIES.values():
        order = order_of(whole, strategy, "0", rounds=4, budget=5)
        assert len(order) == len(set(order)) == 20
    best = order_of(whole, STRATEGIES["good"], "0", rounds=4, budget=5)
    by_hand = np.argsort(np.nanmean(whole.before, axis=1), kind="stable")[:20]
    assert best == by_hand.tolist()
    assert order_of(whole, STRATEGIES[REFERENCE], "0", 2, 5) != order_of(
        whole, STRATEGIES[REFERENCE], "1", 2, 5
    )


def test_the_worst_first_beats_random_and_the_best_first_does_not() -> None:
    found = compare(random_pool(), STRATEGIES, seeds=5, rounds=3, share=0.1, size=30)
    good, bad, random = (found[name] for name in ("good", "bad", REFERENCE))
    assert good.gain > good.gain_half > 0
    assert bad.gain < -bad.gain_half
    assert (random.gain, random.gain_half, random.revisions) == (0, 0, 1.0)
    assert good.revisions < 0.7
    assert good.minutes < 1
    assert good.removed > random.removed > bad.removed
    assert (good.reached, bad.reached) == (5, 0)
    assert bad.revisions >= 1  # never reached: all of them
    assert good.final_unseen > random.final_unseen > bad.final_unseen
    assert found == compare(random_pool(), STRATEGIES, seeds=5, rounds=3, share=0.1, size=30)


def test_one_seed_has_no_interval() -> None:
    found = compare(random_pool(), STRATEGIES, seeds=1, rounds=1, share=0.1, size=30)
    assert math.isnan(found["good"].gain_half)
