"""Gold cases: one in each block of an annotator's samples, never twice, seen by nobody else."""

from __future__ import annotations

import json

import pytest
from tests.store.kit import ANNA, BEN, CARA, CONFIRMED, NOBODY, Clock, scored

from atlas8k.campaign.reviewed import of_round
from atlas8k.core.errors import LedgerError
from atlas8k.store import (
    Holder,
    Ledger,
    OrganChange,
    Sample,
    Submission,
    audit_trail,
    gold,
    plans,
)
from atlas8k.store.volumes import volume_row

GOLD = [f"g{i}" for i in range(8)]
PLAIN = [f"p{i:02d}" for i in range(60)]
REVISED = {"liver": OrganChange("revised", 10, 12, 4, 0.8)}


@pytest.fixture
def mixed(ledger: Ledger) -> Ledger:
    """Many CTs, a few of them gold at the end of the list; a quarter of the samples are these."""
    sizes = {name: 100.0 - i for i, name in enumerate(PLAIN)}
    scored(ledger, sizes | {name: 1.0 + i for i, name in enumerate(GOLD)})
    ledger.set_gold(GOLD)
    return ledger


def take(ledger: Ledger, holder: Holder = ANNA, percent: float = 25, **more: object) -> Sample:
    sample = ledger.next_sample(
        holder=holder,
        model_version="one",
        gold_percent=percent,
        **more,  # type: ignore[arg-type]
    )
    assert sample is not None
    return sample


def send(ledger: Ledger, volume: str, holder: Holder = ANNA, **more: object) -> Submission:
    said = {"start_sha256": "draft", "organs": CONFIRMED, **more}
    return ledger.submit(volume, holder, **said)  # type: ignore[arg-type]


def work(ledger: Ledger, holder: Holder, n: int, **more: object) -> list[str]:
    found = []
    for _ in range(n):
        found.append(take(ledger, holder, **more).volume)
        send(ledger, found[-1], holder)
    return found


def first_gold(ledger: Ledger, holder: Holder) -> Sample:
    """Work until a gold case comes, and hold that."""
    for _ in range(8):
        sample = take(ledger, holder)
        if sample.volume in GOLD:
            return sample
        send(ledger, sample.volume, holder)
    raise AssertionError("none came")


def test_one_of_each_block_is_gold_at_a_place_that_cannot_be_counted(mixed: Ledger) -> None:
    places: dict[str, list[int]] = {}
    for holder in (ANNA, BEN, CARA):
        given = work(mixed, holder, 16)
        blocks = [given[at : at + 4] for at in range(0, 16, 4)]
        found = [[i for i, one in enumerate(block) if one in GOLD] for block in blocks]
        assert [len(one) for one in found] == [1, 1, 1, 1]
        places[holder.key] = [one[0] for one in found]
        assert len(set(given)) == len(given)
    assert len({tuple(one) for one in places.values()}) > 1
    assert any(len(set(one)) > 1 for one in places.values())


def test_without_a_share_they_come_in_their_order(mixed: Ledger) -> None:
    assert not set(work(mixed, ANNA, 16, percent=0)) & set(GOLD)
    mixed.set_gold([])
    assert not set(work(mixed, BEN, 16)) & set(GOLD)


def test_an_anonymous_holder_gets_none(mixed: Ledger) -> None:
    assert not set(work(mixed, NOBODY, 16)) & set(GOLD)


def test_nobody_gets_one_twice_whatever_became_of_it(mixed: Ledger) -> None:
    skipped = first_gold(mixed, ANNA).volume
    released = first_gold(mixed, BEN).volume
    assert mixed.release(released, BEN)
    again = {ANNA: skipped, BEN: released}
    for holder, gone in again.items():
        given = work(mixed, holder, 24)
        assert gone not in given
        assert set(given) & set(GOLD)


def test_one_that_somebody_holds_goes_to_nobody_else(mixed: Ledger) -> None:
    mixed.set_gold(GOLD[:1])
    assert first_gold(mixed, ANNA).volume == GOLD[0]
    assert GOLD[0] not in work(mixed, BEN, 12)


def test_what_ranks_most_alike_comes_and_looks_as_an_audit_would(mixed: Ledger) -> None:
    mixed.set_gold(["p20", "g1"])
    assert take_gold(mixed, ANNA) == ("p20", False)
    mixed.set_gold(["g1"])
    assert take_gold(mixed, BEN) == ("g1", False)  # no audits are drawn here


def test_behind_the_budget_it_comes_as_an_audit(ledger: Ledger) -> None:
    ledger.set_campaign(audit_percent=10)
    scored(ledger, {name: 100.0 - i for i, name in enumerate(PLAIN)})
    ledger.set_gold(["p59"])
    assert ledger.plan(1) is None
    assert take_gold(ledger, ANNA) == ("p59", True)


def take_gold(ledger: Ledger, holder: Holder) -> tuple[str, bool]:
    names = ledger.gold()
    for _ in range(8):
        sample = take(ledger, holder)
        if sample.volume in names:
            return sample.volume, sample.audit
        send(ledger, sample.volume, holder)
    raise AssertionError("none came")


def test_only_of_the_source_that_is_asked_for(mixed: Ledger) -> None:
    assert mixed.next_sample(holder=ANNA, source="nowhere", gold_percent=50) is None


def second(mixed: Ledger) -> tuple[Sample, Submission]:
    """Anna reads a gold case first; Ben gets it, too, and has not submitted it."""
    mixed.set_gold(["g0"])
    first = first_gold(mixed, ANNA)
    assert first.purpose == "revise"
    one = send(mixed, "g0", ANNA, organs=REVISED)
    sample = first_gold(mixed, BEN)
    assert (sample.volume, sample.purpose) == ("g0", "gold")
    return sample, one


def test_a_later_reading_is_blind_and_asks_nobody_anything(mixed: Ledger) -> None:
    _, first = second(mixed)
    assert mixed.submission_context("g0", BEN).purpose == "gold"
    reviewed = mixed.rounds()[0].reviewed
    made = send(mixed, "g0", BEN, organs=REVISED, second_reading=True)
    assert (made.purpose, made.conflict, made.late) == ("gold", False, False)
    assert mixed.current_submission("g0") == first
    assert mixed.status("g0") == "submitted"
    assert mixed.reviews() == []
    assert mixed.agreements() == []
    assert mixed.offers() == []
    assert mixed.rounds()[0].reviewed == reviewed
    assert mixed.annotators() == [ANNA.key, BEN.key]
    # The first reader corrects it: that crosses nothing.
    assert not send(mixed, "g0", ANNA).conflict
    # Without a hand-out, too, where the caller says that nothing of it was shown.
    assert send(mixed, "g0", CARA, blind=True).purpose == "gold"
    assert mixed.reviews() == []


def test_a_gold_case_is_not_read_twice_on_purpose(mixed: Ledger) -> None:
    send(mixed, "g0", ANNA, second_reading=True)
    send(mixed, "p00", ANNA, second_reading=True)
    assert [one.volume for one in mixed.offers()] == ["p00"]


def test_to_put_a_blind_reading_back_changes_nothing_for_others(mixed: Ledger) -> None:
    _, first = second(mixed)
    old = send(mixed, "g0", BEN)
    send(mixed, "g0", BEN, organs=REVISED)
    made = mixed.restore("g0", old.id, BEN)
    assert (made.purpose, made.restored) == ("gold", old.id)
    assert mixed.current_submission("g0") == first
    assert mixed.gold_seen(BEN.key)["g0"].own == made.id
    assert made.id not in {one.id for one in of_round(mixed.worked(1))}  # it took no time
    with mixed.read() as tx:
        said = [json.loads(line) for line in audit_trail.lines(tx)][-1]
    assert (said["detail"]["decision"], said["detail"]["submission"]) == ("restored", made.id)


def test_a_reviewer_who_puts_a_blind_reading_back_makes_it_current(mixed: Ledger) -> None:
    second(mixed)
    read = send(mixed, "g0", BEN, organs=REVISED)
    ruth = Holder.identify(user="ruth")
    made = mixed.restore("g0", read.id, ruth)
    assert (made.purpose, mixed.current_submission("g0")) == ("restore", made)
    assert mixed.gold_seen(BEN.key)["g0"] == (BEN.key, made.id, True)
    assert mixed.annotators() == [ANNA.key, BEN.key]  # it is no work of hers


def test_a_blind_reading_keeps_no_reviewer_from_thinking_again(mixed: Ledger, clock: Clock) -> None:
    _, first = second(mixed)
    mixed.hand_back("g0", to=ANNA.key, note="the liver", reviewer="ruth")
    clock.minutes(1)
    send(mixed, "g0", BEN, organs=REVISED)
    assert mixed.ask_again("g0", "ruth") == 0
    assert (mixed.offers(), mixed.current_submission("g0")) == ([], first)


@pytest.mark.parametrize("offered", [True, False])
def test_one_that_is_open_again_is_corrected_like_any_other(
    mixed: Ledger, *, offered: bool
) -> None:
    _, first = second(mixed)
    if offered:
        mixed.hand_back("g0", note="the liver", reviewer="ruth")
    else:
        mixed.reopen("g0")
    # Who reads it blind, or has, does not see that, and is not given it.
    assert mixed.gold_seen(BEN.key)["g0"] == (BEN.key, None, False)
    read = send(mixed, "g0", BEN, organs=REVISED)
    assert (read.purpose, mixed.status("g0")) == ("gold", "open")
    assert mixed.gold_seen(BEN.key)["g0"] == (BEN.key, read.id, False)
    assert mixed.as_seen(BEN.key).listed("one", text="g0").lines[0].state == "submitted"
    for volume in [*PLAIN, *GOLD[1:]]:
        mixed.exclude(volume, "not this one", ANNA)
    assert mixed.next_sample(holder=BEN, model_version="one", gold_percent=25) is None
    # The others see it as what it is, but not his reading.
    assert mixed.gold_seen(CARA.key)["g0"] == (CARA.key, first.id, True)
    sample = take(mixed, CARA)
    assert (sample.volume, sample.purpose) == ("g0", "revise")
    assert (sample.note, sample.base_submission) == ("the liver" * offered, first.id)
    seen = mixed.as_seen(CARA.key).worked()
    assert [one.id for one in seen if one.volume == "g0"] == [first.id]
    made = send(mixed, "g0", CARA, blind=not mixed.gold_seen(CARA.key)["g0"].is_current)
    assert (made.purpose, made.conflict, mixed.current_submission("g0")) == ("revise", False, made)
    assert (mixed.status("g0"), mixed.offers()) == ("submitted", [])
    assert mixed.next_sample(holder=CARA, model_version="one", gold_percent=0) is None
    # And goes on as a gold case.
    with mixed.read() as tx:
        found = gold.next_volume(tx, "user:dora", None, None, None)
        assert found == (volume_row(tx, "g0"), "gold")


def test_annotators_have_the_same_numbers_for_everybody(mixed: Ledger) -> None:
    send(mixed, "g0", ANNA)
    send(mixed, "g0", BEN, blind=True)
    send(mixed, "p59", CARA)
    for holder in (ANNA, BEN, CARA):
        assert mixed.as_seen(holder.key).annotators() == [ANNA.key, BEN.key, CARA.key]


def test_each_sees_their_own_reading_alone(mixed: Ledger) -> None:
    begun = mixed.as_seen(CARA.key)
    before = begun.listed("one", text="g0")
    assert begun.states()["open"] == len(PLAIN + GOLD)
    sample, first = second(mixed)

    def line(holder: Holder) -> tuple[str, str | None, bool]:
        found = mixed.as_seen(holder.key).listed("one", text="g0").lines[0]
        return found.state, found.holder, found.submitted_at is not None

    assert line(ANNA) == ("submitted", None, True)
    assert line(BEN) == ("leased", BEN.key, False)
    assert line(CARA) == ("open", None, False)
    seen = mixed.as_seen(CARA.key)
    assert seen.listed("one", text="g0") == before
    assert seen.states()["submitted"] == mixed.states()["submitted"] - 1
    assert seen.listed("one", show="open", text="g0").total == 1
    assert mixed.listed("one", show="open", text="g0").total == 0
    assert ("g0" in [one.volume for one in seen.leases()]) is False

    # What was reviewed before the list was drawn takes nothing of the budget, hers neither.
    left = mixed.as_seen(BEN.key).budget().left  # type: ignore[union-attr]
    made = send(mixed, "g0", BEN, organs=REVISED)
    assert line(BEN) == line(ANNA) == ("submitted", None, True)
    assert mixed.gold_seen(BEN.key)["g0"] == (BEN.key, made.id, False)
    assert mixed.gold_seen(ANNA.key)["g0"] == (ANNA.key, first.id, True)
    assert mixed.given("g0", BEN.key).keys() == {"attention"}
    assert sample.base_submission is None
    # To him it was a volume of the budget like any other; nobody else's counts say so.
    assert mixed.as_seen(BEN.key).budget().left == left - 1  # type: ignore[union-attr]
    for holder, purposes in ((BEN, ["revise"]), (ANNA, ["revise"]), (CARA, [])):
        done = mixed.as_seen(holder.key).worked(1)
        assert [one.purpose for one in done if one.volume == "g0"] == purposes
    assert mixed.as_seen(BEN.key).rounds()[0].reviewed == mixed.rounds()[0].reviewed
    assert mixed.as_seen(CARA.key).rounds()[0].reviewed == mixed.rounds()[0].reviewed - 1
    # The connections are as they were.
    assert mixed.states()["submitted"] == mixed.as_seen(ANNA.key).states()["submitted"]
    with pytest.raises(LedgerError, match="read alone"):
        seen.release("g0", CARA)


def test_new_networks_rank_it_as_if_nobody_had_read_it(mixed: Ledger) -> None:
    send(mixed, "g0", ANNA, organs=REVISED)
    send(mixed, "p00", ANNA, organs=REVISED)
    scored(mixed, dict.fromkeys([*PLAIN, *GOLD], 5.0), "two")
    sizes = {one.volume: one.score for one in mixed.ranking("two")}
    assert (sizes["g0"], sizes["p00"]) == (5.0, 0.0)


def test_it_costs_time_and_says_nothing_of_the_pool(mixed: Ledger, clock: object) -> None:
    from atlas8k.campaign.effort import Times, effort
    from atlas8k.campaign.reviewed import reviewed

    second(mixed)
    clock.minutes(7)  # type: ignore[attr-defined]
    send(mixed, "g0", BEN, organs=REVISED)
    work_done = [one for one in mixed.worked(1) if one.volume == "g0"]
    assert Times(of_round(work_done)).minutes == [0.0, 7.0]
    assert list(reviewed(work_done)) == ["g0"]
    assert not reviewed(work_done[1:])
    assert effort(work_done[1:], {}).hours_by_hand == 0


def test_a_list_that_was_drawn_after_a_hidden_reading_has_its_whole_budget(ledger: Ledger) -> None:
    ledger.sync_volumes(["g0", *PLAIN])
    ledger.set_gold(["g0"])
    send(ledger, "g0", ANNA)
    scored(ledger, {name: 100.0 - i for i, name in enumerate(["g0", *PLAIN])})
    take(ledger, ANNA, percent=0)
    for holder in (ANNA, BEN):
        budget = ledger.as_seen(holder.key).budget()
        assert budget is not None
        assert (budget.reviewed, budget.total) == (0, 30)


def test_what_came_as_an_audit_takes_nothing_of_the_budget_that_its_reader_sees(
    ledger: Ledger,
) -> None:
    ledger.set_campaign(audit_percent=10)
    scored(ledger, {name: 100.0 - i for i, name in enumerate(PLAIN)})
    ledger.set_gold(["p59"])
    assert take_gold(ledger, ANNA) == ("p59", True)
    used, audits = ledger.budget(), drawn_audits(ledger)
    send(ledger, "p59", ANNA)
    assert ledger.budget() == used
    assert drawn_audits(ledger) == audits
    assert take_gold(ledger, BEN) == ("p59", True)
    before = ledger.as_seen(BEN.key).budget()
    send(ledger, "p59", BEN)
    assert ledger.as_seen(BEN.key).budget() == before


def drawn_audits(ledger: Ledger) -> object:
    """Which of the audits that were drawn is next."""
    with ledger.read() as tx:
        return plans.next_audit(tx, 1, CARA.key, None)
