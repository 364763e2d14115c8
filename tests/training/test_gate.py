"""What the gate lets through, on scores made for it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.training.gate import ENOUGH, decide, judge

ORGANS = ("liver", "spleen", "pancreas")


def scores(n: int, change: float = 0.0, spread: float = 0.0, organs=ORGANS, seed: int = 0):
    """Every case's DSC about 0.8, with `change` to it."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).uniform(0.7, 0.9, (n, len(organs)))
    values = base + change + rng.normal(0, spread, base.shape) if spread else base + change
    return {
        f"c{i}": {organ: float(values[i, j]) for j, organ in enumerate(organs)} for i in range(n)
    }


def with_organ(made, organ, values):
    pairs = zip(made.items(), values, strict=True)
    return {case: {**of, organ: value} for (case, of), value in pairs}


@pytest.mark.parametrize("n", [1, 2, 4, 5, 8, 30])
@pytest.mark.parametrize("change", [0.0, 0.05, -0.01])
def test_equal_better_and_within_the_margin_pass(n, change):
    verdict = judge(scores(n), scores(n, change), basis="held out")
    assert verdict.passed, verdict.reasons
    assert (verdict.p_no_worse is None) == (n < ENOUGH)
    assert judge(scores(n), scores(n, change), basis="trained on").passed


@pytest.mark.parametrize("n", [1, 4, 5, 30])
@pytest.mark.parametrize("basis", ["held out", "trained on"])
def test_a_loss_beyond_the_margin_fails_and_names_the_organ(n, basis):
    worse = with_organ(scores(n), "spleen", [0.5] * n)
    verdict = judge(scores(n), worse, basis=basis)
    assert not verdict.passed
    assert any("spleen fell from" in reason for reason in verdict.reasons)
    assert not any("liver" in reason for reason in verdict.reasons)
    assert judge(scores(n), worse, basis=basis, margin=0.5).passed


def test_five_cases_are_the_fewest_a_test_can_decide_on():
    served, new = scores(5), scores(5, 0.03)
    assert judge(served, new, basis="held out").p_no_worse == pytest.approx(1 / 32)
    assert judge(scores(4), scores(4, 0.03), basis="held out").p_no_worse is None


def test_one_lucky_case_does_not_hide_what_the_others_lost():
    def lost(n: int):
        served = with_organ(scores(n), "pancreas", [0.5] * n)
        new = with_organ(scores(n), "pancreas", [0.45] * (n - 1) + [1.0])
        return judge(served, new, basis="held out").organs["pancreas"]

    assert lost(12).new > lost(12).served - 0.02
    assert "fell in most of 12 cases" in lost(12).reason
    assert lost(4).reason == ""  # few cases: the mean alone


def test_what_is_too_noisy_to_be_shown_is_refused():
    n = 6
    served = scores(n, organs=("liver",))
    change = [0.2, -0.15, 0.15, -0.12, 0.1, -0.1]
    new = {c: {"liver": served[c]["liver"] + d} for c, d in zip(served, change, strict=True)}
    verdict = judge(served, new, basis="held out")
    assert verdict.organs["liver"].reason == ""
    assert verdict.p_no_worse is not None
    assert verdict.p_no_worse > 0.05
    assert "do not show" in verdict.reasons[0]


def test_chance_lets_a_loss_of_the_margin_through_as_rarely_as_stated():
    passed = 0
    for seed in range(400):
        new = scores(12, -0.02, 0.03, seed=seed)
        verdict = judge(scores(12), new, basis="held out")
        passed += verdict.p_no_worse is not None and verdict.p_no_worse < 0.05
    assert passed / 400 < 0.08


def test_a_single_trained_case_may_not_be_forgotten():
    served, new = scores(6), scores(6, 0.05)
    new["c3"] = {**new["c3"], "liver": served["c3"]["liver"] - 0.1}
    assert "liver fell" in judge(served, new, basis="trained on").reasons[0]
    assert judge(served, new, basis="held out").organs["liver"].reason == ""


def test_nothing_to_measure_is_no_proof():
    assert not judge({}, {}, basis="held out").passed
    assert not judge({"a": {}}, {"a": {}}, basis="trained on").passed
    assert not judge({"a": {"liver": 0.9}}, {}, basis="held out").passed


def sets(names, served, new):
    """An ensemble that is as good as `new` says where any of it is new."""
    from itertools import combinations

    groups = [frozenset(g) for n in range(len(names) + 1) for g in combinations(names, n)]
    return {group: new if group else served for group in groups}


def test_a_network_that_fails_stays_and_the_others_are_published():
    served, better, worse = scores(6), scores(6, 0.03), scores(6, -0.1)
    single = {"unet": (served, better), "nnunet": (served, worse)}
    decision = decide(single, sets(list(single), served, better), basis="held out")
    assert decision.publish == ("unet",)
    assert set(decision.refused) == {"nnunet"}
    assert "nnunet: liver fell from" in decision.reason
    assert set(decision.verdicts) == {"unet", "nnunet", "ensemble"}
    json.dumps(decision.as_json(), allow_nan=False)


def test_networks_that_are_better_alone_and_worse_together_are_not_published():
    served, better, worse = scores(6), scores(6, 0.03), scores(6, -0.1)
    single = {"unet": (served, better), "nnunet": (served, better)}
    decision = decide(single, sets(list(single), served, worse), basis="held out")
    assert decision.publish == ()
    assert "liver fell" in decision.refused["ensemble"]


def test_a_network_that_forgot_what_nobody_labeled_is_refused():
    served, better = scores(2), scores(2, 0.03)
    single = {"unet": (served, better), "nnunet": (served, better)}
    drifted = {
        "unet": (scores(3), scores(3, -0.04)),
        "nnunet": (scores(3), with_organ(scores(3), "pancreas", [0.0] * 3)),
    }
    decision = decide(
        single, sets(list(single), served, better), basis="trained on", pseudo=drifted
    )
    assert decision.publish == ("unet",)
    assert "pseudo labels of 3 volumes" in decision.refused["nnunet"]


def test_what_could_not_be_looked_at_is_said():
    served = scores(3)
    single = {"unet": (served, served)}
    held = decide(single, sets(["unet"], served, served), basis="held out")
    assert held.publish == ("unet",)
    few, none = held.warnings
    assert "liver (3)" in few
    assert all(organ in none for organ in set(ORGAN_NAMES) - set(ORGANS))
    (trained,) = decide(single, sets(["unet"], served, served), basis="trained on").warnings
    assert "no held-out case" in trained


def test_what_was_not_measured_is_not_published():
    """No scores, or two sets of none, are no proof of anything."""
    served, new = scores(8), scores(8, 0.03)
    few = {case: new[case] for case in list(new)[:4]}
    kept = {"basis": "held out", "chosen": 8}
    sets = {frozenset(): served, frozenset({"unet"}): new}
    assert decide({"unet": (served, new)}, sets, **kept).publish == ("unet",)
    decision = decide({"unet": (served, few)}, sets, **kept)
    assert decision.publish == ()
    assert decision.refused == {"unet": "could be compared on 4 cases only, 5 are needed"}
    decision = decide({"unet": (served, new)}, {**sets, frozenset({"unet"}): few}, **kept)
    assert decision.publish == ()
    assert set(decision.refused) == {"ensemble"}
    assert decide({"unet": ({}, {})}, sets, **kept).publish == ()
    # Of fewer than the tests need, all.
    three = {case: new[case] for case in list(new)[:3]}
    small = {frozenset(): scores(3), frozenset({"unet"}): three}
    for chosen, published in ((3, ("unet",)), (4, ())):
        decision = decide({"unet": (scores(3), three)}, small, basis="trained on", chosen=chosen)
        assert decision.publish == published


def test_a_network_that_failed_is_refused_with_its_reason_and_others_are_not():
    served, new = scores(8), scores(8, 0.03)
    sets = {frozenset(g): new if g else served for g in ((), ("a",), ("b",), ("a", "b"))}
    decision = decide(
        {"a": (served, new), "b": (served, new)},
        sets,
        basis="held out",
        unfit={"a": "failed on 1 case: out of memory"},
        chosen=8,
        warnings=["2 cases cannot be read"],
    )
    assert decision.publish == ("b",)
    assert decision.refused == {"a": "failed on 1 case: out of memory"}
    assert "2 cases cannot be read" in decision.warnings
