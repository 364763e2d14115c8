"""Which cases are measured, where datasets have labeled some organs each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.training.data import TrainingCase
from atlas8k.training.gate import ENOUGH
from atlas8k.training.generated import PhantomTrainingCase
from atlas8k.training.split import QUOTA, by_hash, stratified

SOME = ("liver", "kidney_left", "kidney_right", "spleen", "pancreas")


def cases(prefix: str, n: int, *organs: str) -> list[TrainingCase]:
    return [TrainingCase(f"{prefix}{i}", Path("x"), Path("y"), organs) for i in range(n)]


def counts(chosen: list[TrainingCase]) -> Counter[str]:
    return Counter(organ for case in chosen for organ in case.known_organs)


@pytest.mark.parametrize("complete", [9, 16, 40])
def test_a_rare_organ_is_measured_where_it_is_held_out(complete: int) -> None:
    held = cases("A", 300, *SOME) + cases("L", 190, "liver") + cases("R", complete, *ORGAN_NAMES)
    chosen = stratified(held, 50)
    assert len(chosen) == 50
    assert all(counts(chosen)[organ] >= min(complete, QUOTA) for organ in ORGAN_NAMES)


def test_each_organ_has_as_many_as_a_test_needs_even_where_no_case_has_two() -> None:
    held = [case for organ in ORGAN_NAMES for case in cases(organ, 30, organ)]
    assert min(counts(stratified(held, 50)).values()) >= ENOUGH
    assert len(counts(stratified(held, 50))) == 9


def test_a_few_that_are_watched_hold_every_organ() -> None:
    held = cases("A", 30, *SOME) + cases("B", 3, "stomach", "postcava")
    held += cases("C", 1, "aorta", "gall_bladder")
    chosen = stratified(held, 8)
    assert len(chosen) == 8
    assert set(counts(chosen)) == set(ORGAN_NAMES)


def test_the_order_that_cases_come_in_is_nothing_and_other_cases_change_little() -> None:
    held = cases("A", 300, *SOME) + cases("R", 20, *ORGAN_NAMES)
    chosen = stratified(held, 50)
    assert stratified(held[::-1], 50) == chosen == by_hash(chosen)
    more = stratified([*held, *cases("N", 3, *SOME)], 50)
    assert len(set(more) & set(chosen)) >= 47


def test_few_cases_are_all_taken_but_for_those_with_nothing_to_measure() -> None:
    held = cases("A", 4, "liver")
    assert stratified([*held, *cases("P", 3)], 8) == by_hash(held)
    phantoms = [PhantomTrainingCase(seed, None) for seed in range(20)]  # all organs, unsaid
    assert stratified(phantoms, 8) == by_hash(phantoms)[:8]
