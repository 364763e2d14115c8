"""What counts in which round: the one a volume was given out in, and reviews of its labels only."""

from __future__ import annotations

import pytest
from tests.store.kit import ANNA, BEN, CONFIRMED, Clock, full, scored, take

from atlas8k.core.errors import LedgerError
from atlas8k.store import Ledger


def counted(ledger: Ledger) -> list[tuple[int, int]]:
    return [(one.reviewed, one.audited) for one in ledger.rounds()]


def test_work_in_hand_at_the_end_of_a_round_is_that_rounds(ledger: Ledger, clock: Clock) -> None:
    full(ledger)
    held, _ = take(ledger)
    ledger.close_round()
    ledger.begin_round("one")
    clock.minutes(20)
    kept = ledger.submit(held, ANNA, organs=CONFIRMED)
    assert (kept.round, kept.minutes) == (1, 20)
    assert counted(ledger) == [(1, 0), (0, 0)]
    budget = ledger.budget()
    assert budget is not None
    assert (budget.round, budget.left) == (2, 10)
    assert [one.round for one in ledger.worked()] == [1]


def test_an_ended_round_is_opened_again(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no round was ended"):
        ledger.reopen_round()
    full(ledger)
    held, _ = take(ledger)
    with pytest.raises(LedgerError, match="round 1 is open"):
        ledger.reopen_round()
    ledger.close_round({"note": "by mistake"})
    assert ledger.reopen_round() == 1
    ledger.submit(held, ANNA, organs=CONFIRMED)
    assert [(one.number, one.closed_at, one.closing) for one in ledger.rounds()] == [(1, None, {})]
    assert counted(ledger) == [(1, 0)]
    ledger.close_round({"model_version": "two"})
    with pytest.raises(LedgerError, match="new networks"):
        ledger.reopen_round()


def test_an_audit_in_hand_is_its_own_rounds(ledger: Ledger) -> None:
    full(ledger)
    ledger.set_campaign(audit_percent=10)
    ledger.submit(take(ledger)[0], ANNA, organs=CONFIRMED)
    held, audit = take(ledger)
    assert audit
    ledger.close_round()
    ledger.begin_round("one")
    ledger.submit(held, ANNA, organs=CONFIRMED)
    assert counted(ledger) == [(2, 1), (0, 0)]


def test_a_correction_after_the_end_counts_nowhere_anew(ledger: Ledger, clock: Clock) -> None:
    full(ledger)
    held, _ = take(ledger)
    ledger.submit(held, ANNA, organs=CONFIRMED)
    ledger.close_round()
    ledger.begin_round("one")
    clock.minutes(300)
    assert ledger.submit(held, ANNA, organs=CONFIRMED).round == 1
    assert counted(ledger) == [(1, 0), (0, 0)]


def test_what_comes_in_while_no_round_is_open_opens_none(ledger: Ledger) -> None:
    full(ledger)
    held, _ = take(ledger)
    ledger.close_round()
    ledger.submit(held, ANNA, organs=CONFIRMED)
    assert [one.closed_at is None for one in ledger.rounds()] == [False]
    ledger.submit("v01", BEN, organs=CONFIRMED)  # given out by nobody: a round is needed
    assert counted(ledger) == [(1, 0), (1, 0)]


def test_only_reviews_of_the_rounds_labels_use_its_budget(ledger: Ledger) -> None:
    full(ledger)
    first = ledger.submit("v00", ANNA, organs=CONFIRMED, second_reading=True)
    ledger.submit("v01", ANNA, organs=CONFIRMED, sample=True)
    ledger.close_round()
    held, _ = take(ledger, BEN)
    assert ledger.submit(held, BEN, organs=CONFIRMED).purpose == "double_read"
    ledger.restore("v00", first.id, BEN)
    sample = ledger.next_review(holder=BEN, model_version="one")
    assert sample is not None
    assert ledger.submit(sample.volume, BEN, organs=CONFIRMED).purpose == "review"
    assert ledger.submit("v02", BEN, adopted=True).purpose == "adopted"
    assert counted(ledger) == [(2, 0), (0, 0)]
    budget = ledger.budget()
    assert budget is not None
    assert budget.left == 10
    assert ledger.status("v02") == "submitted"
    # The first revision of a volume counts, whatever came before it.
    ledger.reopen("v02")
    ledger.submit("v02", ANNA, organs=CONFIRMED)
    assert counted(ledger)[1] == (1, 0)


def test_a_label_booked_late_took_as_long_as_it_took(ledger: Ledger, clock: Clock) -> None:
    scored(ledger, {"a": 2, "b": 1})
    held, _ = take(ledger)
    clock.minutes(12)
    at = clock.now  # written, and the process was killed
    clock.minutes(12 * 60)
    assert take(ledger, BEN)[0] == held  # its lease has run out meanwhile
    ledger.release(held, BEN)
    kept = ledger.submit(held, ANNA, organs=CONFIRMED, at=at)
    assert (kept.submitted_at, kept.minutes, kept.late) == (at, 12, False)


def test_a_label_booked_late_does_not_end_what_its_holder_was_given_since(
    ledger: Ledger, clock: Clock
) -> None:
    scored(ledger, {"a": 2, "b": 1})
    held, _ = take(ledger)
    clock.minutes(12)
    at = clock.now
    clock.minutes(12 * 60)
    again = ledger.lease(held, ANNA)
    assert again is not None
    assert ledger.submit(held, ANNA, organs=CONFIRMED, at=at).minutes == 12
    assert [one.id for one in ledger.leases()] == [again.id]
