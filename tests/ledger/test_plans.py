from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.ledger.kit import ANNA, BEN, Clock, query, scored, sizes

from atlas8k.errors import LedgerError
from atlas8k.ledger import Ledger, OrganChange, VolumeEntry
from atlas8k.ledger.plans import drawn

CONFIRMED = {"liver": OrganChange("confirmed", 1, 1, 0, 1.0)}


def full(ledger: Ledger, n: int = 20) -> list[str]:
    """So many scored volumes, the largest first; half of them are the budget's."""
    names = [f"v{i:02d}" for i in range(n)]
    scored(ledger, {name: float(n - i) for i, name in enumerate(names)})
    return names


def take(ledger: Ledger, holder: object = ANNA, **more: object) -> tuple[str, bool]:
    sample = ledger.next_sample(holder=holder, signature="one", **more)  # type: ignore[arg-type]
    assert sample is not None
    return sample.volume, sample.audit


def give(ledger: Ledger, n: int) -> list[tuple[str, bool]]:
    found = []
    for _ in range(n):
        found.append(take(ledger))
        ledger.submit(found[-1][0], ANNA, organs=CONFIRMED)
    return found


def test_the_list_is_drawn_with_the_first_sample_and_stays(ledger: Ledger) -> None:
    names = full(ledger)
    assert ledger.plan(1) is None
    take(ledger)
    plan = ledger.plan(1)
    assert plan is not None
    assert [line.volume for line in plan.lines] == names
    assert (plan.top, plan.audits, plan.signature) == (10, 0, "one")
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
    ledger.register_signature("two")
    sample = ledger.next_sample(holder=BEN, signature="two")
    assert sample is not None
    assert sample.signature == "one"  # the one before goes on
    assert ledger.plan(2) is None
    assert ledger.begin_round("two") == (2, False)
    for name in names:
        ledger.record_score(name, "two", sizes(1.0))
    assert ledger.begin_round("two") == (2, True)


def test_audits_come_in_step_and_outside_of_the_budget(ledger: Ledger) -> None:
    names = full(ledger)
    ledger.set_campaign(audit_percent=50)  # of ten: five
    given = give(ledger, 15)
    assert [audit for _, audit in given] == [False, False, True] * 5
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


def test_nothing_is_audited_unless_it_was_set(ledger: Ledger) -> None:
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


@pytest.mark.parametrize(("n", "percent", "count"), [(49, 1, 0), (50, 1, 1), (8026, 1, 80)])
def test_the_share_is_rounded_to_the_nearest(n: int, percent: float, count: int) -> None:
    assert len(drawn([str(i) for i in range(n)], percent, "s", 1)) == count


def test_every_low_ranked_volume_is_drawn_as_often_as_another() -> None:
    names = [str(i) for i in range(20)]
    times = [sum(name in drawn(names, 25, str(seed), 1) for seed in range(2000)) for name in names]
    assert all(400 < n < 600 for n in times)  # 500 expected, a standard deviation is 19


def test_a_skipped_audit_is_not_pressed_on_who_skipped_it(ledger: Ledger) -> None:
    full(ledger)
    ledger.set_campaign(audit_percent=50)
    give(ledger, 2)
    first, audit = take(ledger)
    second, again = take(ledger)  # asking again skips
    assert audit
    assert again
    assert first != second
    other, to_ben = take(ledger, BEN)
    assert not to_ben  # one is due, and Anna holds one
    assert other == "v02"
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
    sample = ledger.next_sample(holder=ANNA, signature="one")
    assert sample is not None
    assert (sample.volume, sample.purpose, sample.audit) == ("v00", "double_read", False)


def test_the_last_audits_are_given_out_when_the_budget_is_used(ledger: Ledger) -> None:
    full(ledger, 6)  # three and three
    ledger.set_campaign(audit_percent=100)
    for name in ("v00", "v01", "v02"):
        ledger.submit(name, BEN, organs=CONFIRMED)
    ledger.begin_round("one")
    plan = ledger.plan(1)
    assert plan is not None
    assert (plan.top, len(plan.lines)) == (1, 3)  # the list is what was left then
    assert take(ledger) == ("v03", False)
    ledger.submit("v03", ANNA, organs=CONFIRMED)
    assert [audit for _, audit in give(ledger, 2)] == [True, True]


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
    "given", [{"audit_percent": -1.0}, {"audit_percent": 101.0}, {"stop_after": 0}]
)
def test_settings_out_of_bounds_are_refused(ledger: Ledger, given: dict[str, float]) -> None:
    with pytest.raises(LedgerError, match=next(iter(given))):
        ledger.set_campaign(**given)  # type: ignore[arg-type]
    assert ledger.campaign_settings() == (0.0, 10)


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


def test_a_ledger_of_the_version_before_draws_the_list_of_its_open_round(tmp_path: Path) -> None:
    from atlas8k.ledger import migrations as steps

    path = tmp_path / "l.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for script in steps.MIGRATIONS[:4]:
            for statement in steps.statements(script):
                connection.execute(statement)
        connection.execute("PRAGMA user_version = 4")
        connection.execute(f"PRAGMA application_id = {steps.APPLICATION_ID}")
        connection.executescript("""
            INSERT INTO volume (name, first_seen, shuffle) VALUES ('a', 1, 5), ('b', 1, 3);
            INSERT INTO signature (name, detail, registered_at, completed_at)
              VALUES ('one', '{}', 1, 2);
            INSERT INTO round (signature, opened_at, budget, reviewed) VALUES (1, 1, 0.05, 1);
            INSERT INTO result VALUES (1, 1, 2, NULL, 7, 7, 179, NULL, 1);
            INSERT INTO result VALUES (2, 1, 2, NULL, 5, 5, 170, NULL, 1);
            INSERT INTO submission (volume, holder, anonymous, submitted_at, round)
              VALUES (1, 'user:anna', 0, 3, 1);
            UPDATE volume SET status = 'submitted', current_submission = 1 WHERE id = 1;
        """)
    ledger = Ledger(path)
    (round_,) = ledger.rounds()
    assert (round_.reviewed, round_.audited) == (1, 0)
    assert ledger.begin_round("one") == (1, True)
    plan = ledger.plan(1)
    assert plan is not None
    assert [line.volume for line in plan.lines] == ["b"]
