"""What counts for a round's list when cases come in late, or from elsewhere."""

from __future__ import annotations

import pytest
from tests.campaign.kit import CONFIRMED, REVISED, full, planned, review, worked
from tests.store.kit import ANNA, BEN, Clock, sizes

from atlas8k.campaign.effort import effort
from atlas8k.campaign.reviewed import Remaining, remaining, reviews_of
from atlas8k.campaign.status import status
from atlas8k.store import Budget, Ledger


def again(ledger: Ledger, model_version: str) -> None:
    """Every volume scored by new networks, in the same order."""
    ledger.register_model_version(model_version)
    for volume in ledger.stale(model_version):
        ledger.record_score(volume, model_version, sizes(50.0 - int(volume[1:])))


def test_an_audit_finished_late_is_its_own_rounds(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 20)
    ledger.set_campaign(audit_percent=5)
    review(ledger, clock, BEN)
    sample = ledger.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert sample.audit
    ledger.close_round()
    ledger.begin_round("one")
    clock.minutes(20)
    ledger.submit(sample.volume, ANNA, organs={"liver": REVISED}, lease=sample.lease)
    one, two = status(ledger).rounds
    assert (one.reviewed, one.audited, one.changed, one.effort.timed) == (2, 1, 1, 2)
    assert one.audit is not None
    assert (one.audit.volumes.audited, one.audit.volumes.wrong, one.audit.open) == (1, 1, 0)
    assert (two.reviewed, two.audited, two.changed, two.effort.hours) == (0, 0, 0, 0)


def test_a_label_of_earlier_networks_does_not_break_the_new_list(
    ledger: Ledger, clock: Clock
) -> None:
    full(ledger, 20)
    ledger.set_campaign(stop_after=2)
    held = ledger.next_sample(holder=ANNA, model_version="one")
    assert held is not None
    review(ledger, clock, BEN)
    again(ledger, "two")
    assert ledger.begin_round("two") == (2, True)
    ledger.submit(held.volume, ANNA, organs={"liver": REVISED}, lease=held.lease)
    stop = status(ledger, model_version="two").rounds[1].stop
    assert stop is not None
    # Nor does the new list wait for it: nobody will look at that volume's new labels.
    assert (stop.broken_by, stop.in_a_row, stop.waits_for) == (None, 0, "v02")
    plan = ledger.plan(2)
    assert plan is not None
    assert [line.volume for line in plan.lines[:2]] == ["v00", "v02"]


def test_handed_out_by_the_list_before_it_does_neither(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 20)
    review(ledger, clock, BEN)
    ledger.register_model_version("two")
    held = ledger.next_sample(holder=ANNA, model_version="two")  # while the new ones score
    assert held is not None
    assert (held.round, held.model_version) == (2, "one")
    again(ledger, "two")
    ledger.begin_round("two")
    clock.minutes(1)
    ledger.submit(held.volume, ANNA, organs={"liver": REVISED}, lease=held.lease)
    found = status(ledger, model_version="two").rounds[1]
    assert found.stop is not None
    assert (found.stop.broken_by, found.stop.waits_for) == (None, "v02")
    assert (found.reviewed, found.changed) == (1, 1)  # work of the round it is


def test_the_lists_of_earlier_rounds_are_not_finished_by_later_ones(
    ledger: Ledger, clock: Clock
) -> None:
    full(ledger, 20)
    ledger.set_campaign(stop_after=2)
    review(ledger, clock, ANNA)
    clock.minutes(1)
    ledger.close_round()
    review(ledger, clock, ANNA)
    one, two = status(ledger).rounds
    assert one.stop is not None
    assert two.stop is not None
    assert (one.stop.in_a_row, one.stop.reached, one.stop.waits_for) == (1, False, "v01")
    assert (two.stop.in_a_row, two.stop.waits_for) == (1, "v02")


def test_adopted_labels_are_nobodys_work(ledger: Ledger, clock: Clock) -> None:
    full(ledger, 20)
    ledger.begin_round("one")
    ledger.submit("v00", BEN, organs={"liver": REVISED}, adopted=True)
    review(ledger, clock, ANNA)
    found = status(ledger)
    (one,) = found.rounds
    assert (one.reviewed, one.changed, one.effort.hours_by_hand) == (1, 0, 9)
    assert [a.name for a in one.annotators] == ["annotator 1"]
    assert found.stop is not None
    assert (found.stop.in_a_row, found.stop.waits_for) == (1, "v02")


def test_a_reviewers_label_of_another_rounds_volume_is_no_change_of_this_one(
    ledger: Ledger, clock: Clock
) -> None:
    full(ledger, 20)
    ledger.submit("v00", ANNA, organs={"liver": CONFIRMED}, sample=True)
    ledger.close_round()
    ledger.begin_round("one")
    sample = ledger.next_review(holder=BEN, model_version="one")
    assert sample is not None
    ledger.submit("v00", BEN, organs={"liver": REVISED}, lease=sample.lease)
    two = status(ledger).rounds[1]
    assert (two.reviewed, two.changed, two.annotators) == (0, 0, [])


def test_networks_nobody_knows_of_are_taken_for_the_lists() -> None:
    plan = planned("abc", top=2)
    work = [
        worked(1, "a"),
        worked(2, "b", model_version="one"),
        worked(3, "c", model_version="old"),
    ]
    marked, volumes = reviews_of(plan, work)
    assert list(volumes) == ["a", "b"]
    assert [line.status for line in marked.lines] == ["open"] * 3  # reopened, it would seem


@pytest.mark.parametrize(
    ("total", "reviewed", "to_review", "expected"),
    [
        (4, 1, 9, Remaining(3, 0)),
        (4, 4, 9, Remaining(0, 0)),
        (4, 1, 2, Remaining(2, 0)),
        (4, 1, 0, Remaining(0, 0)),
    ],
)
def test_what_is_left_without_a_list(
    total: int, reviewed: int, to_review: int, expected: Remaining
) -> None:
    assert remaining(None, Budget(1, total, reviewed), to_review) == expected


def test_what_is_left_of_a_list() -> None:
    plan = planned("abcdef", top=2, audits="ef")
    assert remaining(plan, Budget(1, 2, 0), 9) == Remaining(2, 2)
    assert remaining(plan, Budget(1, 9, 0), 9) == Remaining(4, 2)  # no more than the list has
    gone = planned("abcdef", top=2, audits="ef", gone="abcde")
    assert remaining(gone, Budget(1, 2, 0), 9) == Remaining(0, 1)
    assert (str(Remaining(1, 2)), str(Remaining(2, 0)), str(Remaining(0, 1))) == (
        "1 volume and 2 audits", "2 volumes", "1 audit",
    )  # fmt: skip
    assert not Remaining(0, 0)


def test_a_second_reading_is_no_volume_of_the_round() -> None:
    found = effort([worked(1, "a"), worked(2, "b", purpose="double_read")], {})
    assert (found.hours_by_hand, found.timed) == (9, 2)
