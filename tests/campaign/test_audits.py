from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint
from tests.campaign.kit import CONFIRMED, REVISED, UNNAMED, planned

from atlas8k.campaign.audits import audit, bounds, interval
from atlas8k.campaign.reviewed import Reviewed
from atlas8k.store import Plan


def tail(population: int, total: int, drawn: int, wrong: range) -> Fraction:
    """Probability of so many wrong among those drawn, in whole numbers."""
    ways = sum(comb(total, k) * comb(population - total, drawn - k) for k in wrong)
    return Fraction(ways, comb(population, drawn))


@given(st.data())
def test_bounds_are_the_tests_turned_around_in_exact_arithmetic(data: st.DataObject) -> None:
    population = data.draw(st.integers(1, 40))
    drawn = data.draw(st.integers(1, population))
    wrong = data.draw(st.integers(0, drawn))
    half = Fraction(25, 1000)
    likely = [
        total
        for total in range(wrong, population - drawn + wrong + 1)
        if tail(population, total, drawn, range(wrong, drawn + 1)) > half
        and tail(population, total, drawn, range(wrong + 1)) > half
    ]
    assert bounds(population, drawn, wrong) == (likely[0], likely[-1])


def test_a_tail_of_just_the_limit_is_out() -> None:
    assert bounds(40, 1, 0) == (0, 38)
    assert bounds(40, 1, 1) == (2, 40)


def test_whoever_is_wrong_is_in_the_interval_as_often_as_it_says() -> None:
    population, total, drawn = 60, 12, 15
    inside = sum(
        tail(population, total, drawn, range(k, k + 1))
        for k in range(drawn + 1)
        if k <= total
        and drawn - k <= population - total
        and bounds(population, drawn, k)[0] <= total <= bounds(population, drawn, k)[1]
    )
    assert inside >= Fraction(95, 100)


def test_of_a_long_list_it_is_the_interval_of_clopper_and_pearson() -> None:
    low, high = proportion_confint(3, 40, alpha=0.05, method="beta")
    found = interval(100_000, 40, 3)
    assert found.share == 3 / 40
    assert (found.low, found.high) == (pytest.approx(low, abs=2e-4), pytest.approx(high, abs=2e-4))
    short = interval(60, 40, 3)
    assert short.low is not None
    assert short.high is not None
    assert low < short.low < short.high < high  # a short list leaves less to guess


def test_who_looked_at_all_knows() -> None:
    assert bounds(20, 20, 3) == (3, 3)


@pytest.mark.parametrize("case", [(5, 0, 0), (5, 6, 0), (5, 2, 3)])
def test_impossible_samples_are_refused(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="not possible"):
        bounds(*case)


def volumes(confirmed: str, changed: str) -> dict[str, Reviewed]:
    return {v: Reviewed(v, {"liver": CONFIRMED, "spleen": CONFIRMED}) for v in confirmed} | {
        v: Reviewed(v, {"liver": REVISED}) for v in changed
    }


def test_an_audit_counts_what_is_left() -> None:
    plan = planned("abcdefghijkl", top=2, audits="lgd")  # ten low-ranked, three drawn
    found = audit(plan, volumes("alg", "bd"))
    assert (found.low_ranked, found.drawn, found.open, found.unseen) == (10, 3, 0, 7)
    assert (found.volumes.audited, found.volumes.wrong) == (3, 1)
    low, high = bounds(10, 3, 1)
    assert (found.left, found.left_low, found.left_high) == (round(10 / 3) - 1, low - 1, high - 1)
    assert found.text.startswith("1 of 3 audited volumes had an error: about 2 (0 to")
    assert found.text.endswith(
        "of the 7 low-ranked volumes nobody looked at, by the networks of round 1"
    )
    organs = {one.organ: one for one in found.organs}
    assert (organs["liver"].wrong, organs["liver"].audited) == (1, 3)
    assert (organs["spleen"].wrong, organs["spleen"].audited) == (0, 2)
    assert (organs["aorta"].share, organs["aorta"].high) == (None, None)


def test_errors_that_others_found_are_not_left() -> None:
    plan = planned("abcdefghijkl", top=2, audits="lgd")
    one, two = (audit(plan, volumes("lg", changed)) for changed in ("d", "dc"))
    assert (one.left, two.left) == (2, 1)
    assert two.unseen == 6
    assert two.volumes == one.volumes  # `c` was not drawn by chance


def test_no_audit_is_unknown_and_not_zero() -> None:
    waiting = audit(planned("abcdefghijkl", top=2, audits="lgd"), volumes("ab", ""))
    assert (waiting.left, waiting.volumes.share, waiting.open) == (None, None, 3)
    assert "unknown (3 drawn, none reviewed yet)" in waiting.text
    none = audit(planned("abc", top=2), {})
    assert "unknown (10 % of 1 low-ranked volumes are none" in none.text


def test_what_vanished_is_no_part_of_it() -> None:
    plan = planned("abcdefghijkl", top=2, audits="lgd", gone="lk")
    found = audit(plan, volumes("g", ""))
    assert (found.low_ranked, found.drawn, found.open) == (8, 2, 1)


def test_audits_count_in_the_order_in_which_they_were_drawn() -> None:
    plan = planned("abcdefghijkl", top=2, audits="lgdc")
    found = audit(plan, volumes("abl", "dc"))  # `g` is still at it
    assert (found.volumes.audited, found.volumes.wrong) == (1, 0)
    assert (found.drawn, found.open, found.waiting, found.waits_for) == (4, 1, 2, "g")
    assert found.text.endswith("; 2 more count when g is reviewed")
    first = audit(plan, volumes("ab", "dc"))
    assert (first.left, first.waits_for) == (None, "l")
    assert "unknown (4 drawn, the first is not reviewed yet); 2 more count when l" in first.text
    done = audit(plan, volumes("ablg", "dc"))
    assert (done.volumes.audited, done.volumes.wrong, done.waits_for) == (4, 2, None)


def test_an_audit_of_which_nothing_was_said_is_not_done() -> None:
    plan = planned("abcdefghijkl", top=2, audits="lg")
    silent = {"g": Reviewed("g", {"liver": UNNAMED})}
    partly = {"l": Reviewed("l", {"liver": CONFIRMED, "spleen": UNNAMED})}
    found = audit(plan, volumes("l", "") | silent)
    assert (found.volumes.audited, found.open, found.waits_for) == (1, 1, "g")
    assert audit(plan, volumes("g", "") | partly).left is None


def state(plan: Plan, names: str, status: str) -> Plan:
    lines = (line._replace(status=status) if line.volume in names else line for line in plan.lines)
    return replace(plan, lines=tuple(lines))


def test_nobody_looked_at_is_of_all_rounds_and_the_top_has_its_own_number() -> None:
    plan = state(planned("abcdefghijkl", top=2, audits="lg"), "acdefhij", "submitted")
    found = audit(plan, volumes("al", "g"))
    assert (found.low_ranked, found.unseen, found.top_unseen) == (10, 1, 1)
    low, high = bounds(10, 2, 1)
    assert (low - 1, high - 1) == (0, 8)
    assert (found.left_low, found.left_high) == (0, 1)  # of `k` alone
    assert found.left == round((5 - 1) * 1 / 8)
    assert found.text.endswith("; not reviewed of the budget's, either: 1")
