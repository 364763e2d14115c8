"""Predicted beside found: by model version, whom each stands for, contradictions."""

from __future__ import annotations

import pytest
from tests.store.kit import ANNA, BEN, full, take

from atlas8k.core.organ_states import QualityFound
from atlas8k.store import Ledger, OrganChange


def found(dice: float) -> QualityFound:
    return QualityFound(0.9, 0.05, 5.0, 0.9, 0.8, 1.0, 0, dice, 10.0)


def submit(ledger: Ledger, volume: str, who: object = ANNA, dice: float | None = 0.9,
           dsc: float = 1.0) -> None:  # fmt: skip
    state = "confirmed" if dsc == 1 else "revised"
    ledger.submit(
        volume, who, model_version="one",  # type: ignore[arg-type]
        organs={"liver": OrganChange(state, 9, 9, 1, dsc)},
        detail={} if dice is None else {"quality": {"liver": found(dice)}},
    )  # fmt: skip


def test_nothing_is_known_of_a_campaign_without_submissions(ledger: Ledger) -> None:
    full(ledger)
    assert ledger.quality_seen("one") == ((), 0)
    assert ledger.quality_seen("unheard of") == ((), 0)


def test_it_belongs_to_the_model_version_that_predicted(ledger: Ledger) -> None:
    full(ledger)
    name, _ = take(ledger)
    submit(ledger, name)
    mark = ledger.quality_mark()
    (seen,) = ledger.quality_seen("one").seen
    assert (seen.volume, seen.organ, seen.quality) == (name, "liver", found(0.9))
    ledger.register_model_version("two")
    assert ledger.quality_seen("two").seen == ()
    submit(ledger, "v19")
    assert ledger.quality_mark() > mark


def test_a_place_of_the_budget_stands_for_itself_and_an_audit_for_the_rest(
    ledger: Ledger,
) -> None:
    ledger.set_campaign(audit_percent=20)
    full(ledger)  # ten places of the budget, ten behind
    took = []
    for _ in range(12):
        took.append(take(ledger))
        submit(ledger, took[-1][0])
    assert sum(audit for _, audit in took) == 2
    seen = {one.volume: (one.weight, one.drawn) for one in ledger.quality_seen("one").seen}
    assert {seen[name] for name, audit in took if audit} == {(5.0, True)}
    assert {seen[name] for name, audit in took if not audit} == {(1.0, False)}


@pytest.mark.parametrize(
    ("second", "dsc", "kept"), [(0.88, 0.95, 1), (0.5, 0.6, 0), (None, 0.99, 1), (None, 0.6, 0)]
)
def test_submissions_that_contradict_each_other_are_left_out_and_counted(
    ledger: Ledger, second: float | None, dsc: float, kept: int
) -> None:
    full(ledger)
    name, _ = take(ledger)
    submit(ledger, name)
    submit(ledger, name, BEN, second, dsc)
    seen = ledger.quality_seen("one")
    assert (len(seen.seen), seen.contradicting) == (kept, 1 - kept)


def test_worked_has_it_by_organ(ledger: Ledger) -> None:
    full(ledger)
    name, _ = take(ledger)
    submit(ledger, name)
    (one,) = ledger.worked()
    assert one.quality == {"liver": found(0.9)}
