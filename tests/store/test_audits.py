"""Audits: which volumes, when, and for whom."""

from __future__ import annotations

import pytest
from tests.store.kit import ANNA, BEN, CONFIRMED, full, give, query, take

from atlas8k.store import Ledger, VolumeEntry
from atlas8k.store.plans import drawn


def test_audits_come_in_step_and_outside_of_the_budget(ledger: Ledger) -> None:
    names = full(ledger)
    ledger.set_campaign(audit_percent=50)  # of ten: five
    given = give(ledger, 15)
    assert [audit for _, audit in given] == [False, True, False] * 5
    assert [name for name, audit in given if not audit] == names[:10]
    audited = [name for name, audit in given if audit]
    assert set(audited) < set(names[10:])
    plan = ledger.plan(1)
    assert plan is not None
    in_order = sorted((line.audit, line.volume) for line in plan.lines if line.audit is not None)
    assert [name for _, name in in_order] == audited
    (round_,) = ledger.rounds()
    assert (round_.reviewed, round_.audited) == (15, 5)
    budget = ledger.budget()
    assert budget is not None
    assert (budget.reviewed, budget.left) == (10, 0)
    assert query(ledger.path, "SELECT count(*) FROM lease WHERE strategy = 'audit'") == [(5,)]


@pytest.mark.parametrize(
    ("n", "percent", "count"),
    [(0, 1, 0), (1, 1, 1), (49, 1, 1), (100, 1, 1), (101, 1, 2), (100, 29, 29), (8026, 1, 81),
     (49, 0, 0), (7, 100, 7)],
)  # fmt: skip
def test_the_share_is_rounded_up(n: int, percent: float, count: int) -> None:
    assert len(drawn([str(i) for i in range(n)], percent, "s", 1)) == count


def test_every_low_ranked_volume_is_drawn_as_often_as_another() -> None:
    names = [str(i) for i in range(20)]
    times = [sum(name in drawn(names, 25, str(seed), 1) for seed in range(2000)) for name in names]
    assert all(400 < n < 600 for n in times)  # 500 expected, a standard deviation is 19


def test_a_skipped_audit_is_not_pressed_on_who_skipped_it(ledger: Ledger) -> None:
    full(ledger)
    ledger.set_campaign(audit_percent=50)
    give(ledger, 1)
    first, audit = take(ledger)
    second, again = take(ledger)  # asking again skips
    assert audit
    assert again
    assert first != second
    other, to_ben = take(ledger, BEN)
    assert not to_ben  # one is due, and Anna holds one
    assert other == "v01"
    ledger.release(second, ANNA)
    assert take(ledger, BEN)[1]


def test_filters_and_other_strategies_meet_audits_by_chance_only(ledger: Ledger) -> None:
    names = full(ledger)
    ledger.set_campaign(audit_percent=100)
    give(ledger, 1)
    assert take(ledger, BEN, organ="liver") == ("v01", False)
    assert take(ledger, ANNA, strategy="first") == ("v02", False)
    ledger.release("v02", ANNA)
    ledger.release("v01", BEN)
    ledger.sync_volumes(VolumeEntry(name, "A" if name == "v15" else "B") for name in names)
    assert take(ledger, source="A") == ("v15", True)


def test_offers_come_first_and_are_no_audits(ledger: Ledger) -> None:
    full(ledger, 6)
    ledger.set_campaign(audit_percent=100)
    ledger.submit("v00", BEN, organs=CONFIRMED, second_reading=True)
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.purpose, sample.audit) == ("v00", "double_read", False)


def test_the_only_audit_has_its_turn_before_the_budget_is_used(ledger: Ledger) -> None:
    full(ledger, 20)
    ledger.set_campaign(audit_percent=10)
    assert [audit for _, audit in give(ledger, 11)] == [False, True, *[False] * 9]


def test_where_the_budget_was_used_before_the_list_its_first_places_are_no_audits(
    ledger: Ledger,
) -> None:
    full(ledger, 8)  # four places
    ledger.set_campaign(audit_percent=50)
    for name in ("v04", "v05"):
        ledger.submit(name, BEN, organs=CONFIRMED)
    ledger.begin_round("one")
    plan = ledger.plan(1)
    assert plan is not None
    assert (plan.top, plan.reviewed, len(plan.lines), plan.audits) == (4, 2, 6, 1)
    assert all(line.audit is None for line in plan.lines[:4])


def test_only_what_was_given_out_as_an_audit_is_called_one(ledger: Ledger) -> None:
    full(ledger, 4)
    ledger.set_campaign(audit_percent=100)
    sample = ledger.next_sample(holder=ANNA, model_version="one", strategy="random")
    assert sample is not None
    assert not sample.audit
    drawn_one = next(line.volume for line in ledger.plan(1).lines if line.audit)  # type: ignore[union-attr]
    ledger.lease(drawn_one, BEN)
    ledger.submit(drawn_one, BEN, organs=CONFIRMED)
    assert query(ledger.path, "SELECT count(*) FROM lease WHERE strategy = 'audit'") == [(0,)]
    assert ledger.rounds()[0].audited == 1  # it is not the budget's all the same
