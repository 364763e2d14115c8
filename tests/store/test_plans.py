from __future__ import annotations

from pathlib import Path

import pytest
from tests.store.kit import ANNA, BEN, CONFIRMED, Clock, full, give, sizes, take

from atlas8k.core.errors import LedgerError
from atlas8k.store import Ledger
from atlas8k.store.plans import drawn


def test_the_list_is_drawn_with_the_first_sample_and_stays(ledger: Ledger) -> None:
    names = full(ledger)
    assert ledger.plan(1) is None
    take(ledger)
    plan = ledger.plan(1)
    assert plan is not None
    assert [line.volume for line in plan.lines] == names
    assert (plan.top, plan.audits, plan.model_version) == (10, 0, "one")
    ledger.submit(names[0], ANNA)
    ledger.sync_volumes([*names[1:], "new"])
    take(ledger)
    later = ledger.plan(1)
    assert later is not None
    assert [line.volume for line in later.lines] == names
    assert later.lines[0].status == "vanished"


def test_there_is_no_list_before_everything_is_scored(ledger: Ledger) -> None:
    names = full(ledger, 4)
    take(ledger)
    ledger.register_model_version("two")
    sample = ledger.next_sample(holder=BEN, model_version="two")
    assert sample is not None
    assert sample.model_version == "one"  # the one before goes on
    assert ledger.plan(2) is None
    assert ledger.begin_round("two") == (2, False)
    for name in names:
        ledger.record_score(name, "two", sizes(1.0))
    assert ledger.begin_round("two") == (2, True)


def test_without_audits_the_order_is_that_of_the_list(ledger: Ledger) -> None:
    names = full(ledger)
    assert give(ledger, 20) == [(name, False) for name in names]


def test_the_draw_follows_from_the_seed_alone(ledger: Ledger, tmp_path: Path) -> None:
    full(ledger)
    ledger.set_campaign(audit_percent=30)
    ledger.begin_round("one")
    plan = ledger.plan(1)
    assert plan is not None
    low = [line.volume for line in plan.lines[plan.top :]]
    chosen = [
        line.volume for line in sorted(plan.lines, key=lambda one: one.audit or 0) if line.audit
    ]
    assert drawn(low, 30, plan.seed, 1) == drawn(low[::-1], 30, plan.seed, 1) == chosen
    assert len({tuple(drawn(low, 30, plan.seed, number)) for number in range(8)}) > 1
    backup = Ledger(ledger.backup(tmp_path / "copy.sqlite"))
    assert backup.plan(1) == plan


def test_a_second_round_lists_what_nobody_has_submitted(ledger: Ledger) -> None:
    names = full(ledger, 6)
    give(ledger, 3)
    assert ledger.close_round({"note": "x"}, only_reviewed=True) == 1
    take(ledger)
    plan = ledger.plan(2)
    assert plan is not None
    assert [line.volume for line in plan.lines] == names[3:]


def test_a_round_in_which_nothing_was_done_is_not_closed_by_itself(ledger: Ledger) -> None:
    full(ledger, 4)
    with pytest.raises(LedgerError, match="round 1 is not closed: nothing was submitted"):
        ledger.close_round(only_reviewed=True)
    assert ledger.rounds()[0].closed_at is None
    assert ledger.close_round() == 1
    assert ledger.close_round(only_reviewed=True) is None


@pytest.mark.parametrize(
    "given",
    [{"audit_percent": -1.0}, {"audit_percent": 101.0}, {"stop_after": 0}, {"budget": 1.5}],
)
def test_settings_out_of_bounds_are_refused(ledger: Ledger, given: dict[str, float]) -> None:
    with pytest.raises(LedgerError, match=next(iter(given))):
        ledger.set_campaign(**given)  # type: ignore[arg-type]
    assert ledger.campaign_settings() == (0.0, 10)
    assert ledger.rounds() == []


def test_who_was_never_told_audits_one_per_cent_and_stops_after_ten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    assert ledger.campaign_settings() == (1.0, 10)
    full(ledger)
    ledger.begin_round("one")
    plan = ledger.plan(1)
    assert plan is not None
    assert (plan.audits, plan.audit_percent, plan.stop_after) == (1, 1.0, 10)


def test_a_list_keeps_the_stop_rule_that_it_was_drawn_with(ledger: Ledger) -> None:
    full(ledger)
    ledger.set_campaign(stop_after=3)
    ledger.begin_round("one")
    ledger.set_campaign(stop_after=7)
    plan = ledger.plan(1)
    assert plan is not None
    assert plan.stop_after == 3
    assert ledger.campaign_settings().stop_after == 7


def budgets(ledger: Ledger) -> list[float]:
    return [one.budget for one in ledger.rounds()]


def test_a_budget_is_of_the_next_round_whoever_begins_it(ledger: Ledger) -> None:
    full(ledger)
    ledger.set_campaign(budget=0.3)  # nothing has come of this round
    ledger.begin_round("one")
    ledger.set_campaign(budget=0.2)  # the list of this one is drawn
    assert budgets(ledger) == [0.3]
    server = Ledger(ledger.path, budget=0.05)
    server.register_model_version("two")
    assert budgets(ledger) == [0.3, 0.2]
    server.register_model_version("three")
    assert budgets(ledger) == [0.3, 0.2, 0.05]  # asked for once


def test_what_was_reviewed_before_the_list_is_no_place_of_it(ledger: Ledger) -> None:
    full(ledger)
    for name in ("v03", "v04"):
        ledger.submit(name, BEN, organs=CONFIRMED)
    ledger.begin_round("one")
    plan = ledger.plan(1)
    assert plan is not None
    assert (plan.reviewed, plan.top, len(plan.lines)) == (2, 10, 18)
    budget = ledger.budget()
    assert budget is not None
    assert (budget.total, budget.reviewed) == (10, 0)  # all of it is for the list


def test_an_early_sample_makes_no_audit_of_the_first_place(ledger: Ledger) -> None:
    """A small budget that was used before the list was drawn: rank 1 is not low-ranked."""
    names = full(ledger, 12)
    ledger.set_campaign(audit_percent=10, budget=0.1)
    ledger.submit(names[5], BEN, organs=CONFIRMED)
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.rank, sample.audit) == (names[0], 1, False)
    assert not sample.over_budget
    plan = ledger.plan(1)
    assert plan is not None
    assert [line.audit for line in plan.lines[: plan.top]] == [None]
    assert plan.audits == 1


@pytest.mark.parametrize(
    "more", [{"strategy": "random"}, {"strategy": "first"}, {"organ": "liver"}]
)
def test_the_list_is_drawn_however_samples_are_asked_for(
    ledger: Ledger, more: dict[str, str]
) -> None:
    names = full(ledger)
    take(ledger, **more)
    plan = ledger.plan(1)
    assert plan is not None
    assert [line.volume for line in plan.lines] == names


def rescored(ledger: Ledger, names: list[str], model_version: str) -> None:
    """Scored under other attention settings, the last one the largest."""
    ledger.register_model_version(model_version, new_round=False)
    for place, name in enumerate(names):
        ledger.record_score(name, model_version, sizes(1.0 + place))


def test_another_order_ends_the_round_and_the_next_list_is_in_it(ledger: Ledger) -> None:
    names = full(ledger)
    give(ledger, 2)
    rescored(ledger, names, "other settings")
    assert ledger.begin_round("other settings") == (2, True)
    one, two = ledger.rounds()
    assert (one.closing, one.reviewed) == ({"note": "the order of the list was changed"}, 2)
    assert (two.model_version, two.budget) == ("other settings", 0.5)
    first, second = ledger.plan(1), ledger.plan(2)
    assert first is not None
    assert second is not None
    assert [line.volume for line in first.lines] == names
    assert [line.volume for line in second.lines] == names[:1:-1]
    assert ledger.begin_round("other settings") == (2, True)  # and that is that
    assert ledger.begin_round("one") == (2, True)  # nothing was done by it: drawn anew
    again = ledger.plan(2)
    assert again is not None
    assert (again.model_version, len(again.lines)) == ("one", 18)


def test_another_ranking_is_another_list_once_its_scores_are_there(ledger: Ledger) -> None:
    names = full(ledger, 4)
    give(ledger, 1)
    ledger.set_ranking("per_slice")  # these scores have no such figure
    take(ledger)
    assert [one.number for one in ledger.rounds()] == [1]
    more = {"per_slice": 1.0}
    figures = {v: {o: s._replace(figures=more) for o, s in sizes(2.0).items()} for v in names}
    for name, sized in figures.items():
        ledger.record_score(name, "one", sized)
    take(ledger)
    plan = ledger.plan(2)
    assert plan is not None
    assert (plan.ranking, len(plan.lines)) == ("per_slice", 3)


def test_a_volume_that_cannot_be_predicted_any_more_is_said_to_be_so(ledger: Ledger) -> None:
    full(ledger, 4)
    ledger.begin_round("one")
    assert ledger.to_review() == 4
    ledger.record_failure("v02", "one", "unreadable")
    plan = ledger.plan(1)
    assert plan is not None
    assert [line.status for line in plan.lines] == ["open", "open", "failed", "open"]
    assert ledger.to_review() == 3
    give(ledger, 3)
    assert ledger.to_review() == 0


def test_the_last_model_version_is_of_the_last_round_or_registered_since(
    ledger: Ledger, clock: Clock
) -> None:
    assert ledger.last_model_version() is None
    full(ledger, 2)
    clock.minutes(1)
    ledger.register_model_version("two", new_round=False)
    assert ledger.last_model_version() == "two"
    clock.minutes(1)
    ledger.close_round()
    ledger.begin_round("one")  # rolled back
    assert ledger.last_model_version() == "one"


def test_a_training_noted_twice_is_one(ledger: Ledger) -> None:
    full(ledger, 2)
    assert ledger.note_training(1, "k", {"message": "a"})
    assert not ledger.note_training(1, "k", {"message": "b"})
    assert [(one.round, one.detail) for one in ledger.trainings()] == [(1, {"message": "a"})]


def test_work_is_told_by_round_with_what_was_said(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 4)
    take(ledger)
    clock.minutes(7)
    ledger.submit("v00", ANNA, organs=CONFIRMED)
    ledger.close_round()
    ledger.submit("v01", BEN, organs=CONFIRMED)
    one, two = ledger.worked()
    assert (one.round, one.volume, one.minutes, one.organs) == (1, "v00", 7.0, CONFIRMED)
    assert (two.round, two.lease, two.minutes) == (2, None, None)
    assert ledger.worked(2) == [two]


@pytest.mark.parametrize("strategy", ["attention", "first", "random"])
def test_the_first_places_are_kept_for_others(ledger: Ledger, strategy: str) -> None:
    names = full(ledger)
    ledger.begin_round("one")
    hard = set(names[:3])  # of the ten of the budget
    given = []
    while sample := ledger.next_sample(
        holder=BEN, model_version="one", strategy=strategy, kept=0.21
    ):
        given.append(sample.volume)
        ledger.submit(sample.volume, BEN)
    assert len(given) == 17
    assert not hard & {*given}
    assert take(ledger)[0] == names[0]
    assert ledger.next_sample(holder=BEN, model_version="one", kept=0.21) is None
    # One that is returned to its annotator comes whatever its place is.
    ledger.submit(names[0], ANNA)
    ledger.hand_back(names[0], to=ANNA.key, note="again")
    again = ledger.next_sample(holder=ANNA, model_version="one", kept=0.21)
    assert again is not None
    assert again.volume == names[0]
