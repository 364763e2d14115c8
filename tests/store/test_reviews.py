"""Offers, reviews, choices and restored submissions, in the ledger alone."""

from __future__ import annotations

import pytest
from tests.store.kit import ANNA, BEN, CARA, NOBODY, Clock, check_consistent, query, scored

from atlas8k.core.errors import LedgerError
from atlas8k.store import Holder, Ledger, NumberTakenError, OrganChange, OrganSource

RITA = Holder.identify(user="rita")
REVISED = {"liver": OrganChange("revised", 5, 6, 1, 0.9)}
PUBLIC = {"liver": OrganSource("public", "present", "LiTS")}


@pytest.fixture
def three(ledger: Ledger) -> Ledger:
    scored(ledger, {"a": 3, "b": 2, "c": 1})
    return ledger


def take(ledger: Ledger, holder: Holder, **more: object) -> str | None:
    sample = ledger.next_sample(holder=holder, model_version="one", **more)  # type: ignore[arg-type]
    return None if sample is None else sample.volume


def test_a_returned_case_comes_first_and_only_to_its_annotator(three: Ledger) -> None:
    take(three, ANNA)
    three.submit("a", ANNA, organs=REVISED, sample=True)
    three.hand_back("a", to=ANNA.key, note="more", reviewer="rita")
    assert three.reviews() == []
    assert query(three.path, "SELECT decision, note FROM review") == [("returned", "more")]
    assert [take(three, BEN), take(three, CARA)] == ["b", "c"]
    assert take(three, ANNA, source="BTCV") is None  # a filter is kept
    sample = three.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.note, sample.purpose) == ("a", "more", "revise")
    # Skipped it comes back last, and is still nobody else's.
    three.release("b", BEN)
    assert take(three, ANNA) == "b"
    assert take(three, ANNA) == "a"
    three.submit("a", ANNA, organs=REVISED)
    assert three.offers() == []
    check_consistent(three.path)


def test_a_returned_case_for_anybody_is_open_and_first(three: Ledger) -> None:
    three.submit("c", ANNA, organs=REVISED)
    three.hand_back("c", note="who can")
    assert three.status("c") == "open"
    assert take(three, BEN) == "c"
    assert take(three, CARA) == "a"
    check_consistent(three.path)


def test_a_second_reading_never_goes_to_the_first_reader(three: Ledger, clock: Clock) -> None:
    assert take(three, NOBODY) == "a"
    three.submit("a", NOBODY, organs=REVISED, second_reading=True)
    assert [take(three, NOBODY), take(three, NOBODY), take(three, NOBODY)] == ["b", "c", None]
    assert take(three, BEN) == "a"
    assert three.read_twice() == ["a"]
    clock.minutes(61)
    assert three.read_twice() == ["a"]  # he let it run out; it is offered again
    assert take(three, CARA) == "a"
    late = three.submit("a", BEN, organs=REVISED, agreement={"liver": OrganChange("", 6, 6, 0, 1)})
    assert (late.purpose, late.conflict, late.late) == ("double_read", False, True)
    assert three.read_twice() == ["a"]  # Cara's still runs
    assert three.reviews() == []  # they agree
    current = three.current_submission("a")
    assert current is not None
    assert current.holder == NOBODY.key
    check_consistent(three.path)


def test_the_first_reading_is_hidden_from_who_may_be_the_second(three: Ledger) -> None:
    def hidden(one: Holder, *, reviews: bool = False, known: bool = True) -> bool:
        return three.hides_first("a", [one.key], reviews=reviews, known=known)

    assert not hidden(BEN)
    assert take(three, ANNA) == "a"
    three.submit("a", ANNA, organs=REVISED, second_reading=True)
    assert three.hides_first("nothing", [BEN.key], reviews=False, known=True) is False
    assert [hidden(one) for one in (ANNA, BEN, CARA)] == [False, True, True]
    assert not hidden(RITA, reviews=True)
    assert not hidden(BEN, known=False)  # who knows who that is
    assert take(three, BEN) == "a"
    assert [hidden(one) for one in (ANNA, BEN, CARA)] == [False, True, True]
    assert hidden(CARA, known=False)
    assert hidden(BEN, reviews=True)  # a reviewer may be the second reader
    assert not hidden(RITA, reviews=True)
    three.submit("a", BEN, organs=REVISED)
    assert [hidden(one) for one in (ANNA, BEN, CARA)] == [False] * 3
    assert three.read_twice() == []
    check_consistent(three.path)


def test_reviewers_get_other_peoples_cases_first_and_one_each(three: Ledger) -> None:
    three.submit("a", RITA, organs=REVISED, sample=True)
    three.submit("b", BEN, organs=REVISED, sample=True)
    sample = three.next_review(holder=RITA)
    assert sample is not None
    assert (sample.volume, sample.strategy, sample.over_budget) == ("b", "review", False)
    other = three.next_review(holder=CARA)
    assert other is not None
    assert other.volume == "a"
    assert three.next_review(holder=ANNA) is None
    # Asking again skips; when nothing else is left the skipped one comes back.
    again = three.next_review(holder=RITA)
    assert again is not None
    assert (again.volume, again.skipped_before) == ("b", True)
    assert three.accept("b", "rita") == 1
    assert three.next_review(holder=RITA) is None
    check_consistent(three.path)


def test_a_reviewers_submission_ends_conflict_and_dispute(three: Ledger) -> None:
    three.set_sources("a", PUBLIC)
    three.submit("a", ANNA, organs=REVISED)
    three.submit("a", BEN, organs=REVISED)
    assert [one.kind for one in three.reviews("a")] == ["dispute", "conflict"]
    assert three.next_review(holder=RITA) is not None
    kept = three.submit("a", RITA, organs={"liver": OrganChange("confirmed")})
    assert (kept.conflict, kept.purpose) == (False, "review")
    assert three.status("a") == "submitted"
    assert three.reviews() == []
    assert three.sources("a") == PUBLIC
    check_consistent(three.path)


def test_a_late_submission_after_the_reviewers_is_a_conflict_again(three: Ledger) -> None:
    take(three, ANNA)
    three.submit("a", BEN, organs=REVISED, sample=True)
    three.next_review(holder=RITA)
    three.submit("a", ANNA, organs=REVISED)  # while Rita looks at it
    kept = three.submit("a", RITA, organs=REVISED)
    assert kept.conflict
    assert three.status("a") == "conflict"
    check_consistent(three.path)


def test_choices_are_kept_and_the_last_one_counts(three: Ledger) -> None:
    three.set_sources("a", PUBLIC)
    with pytest.raises(LedgerError, match="nothing to choose"):
        three.choose("a", "liver", "revised", "rita")
    first = three.submit("a", ANNA, organs=REVISED)
    assert three.sources("a")["liver"].disputed
    three.choose("a", "liver", "revised", "rita")
    assert three.sources("a")["liver"] == OrganSource("revised", "revised", None, first.id)
    three.choose("a", "liver", "public", "roy")
    assert three.sources("a") == PUBLIC
    rows = query(three.path, "SELECT source, reviewer FROM choice ORDER BY id")
    assert rows == [("revised", "rita"), ("public", "roy")]
    with pytest.raises(LedgerError, match="public or revised"):
        three.choose("a", "liver", "pseudo", "rita")


def test_a_decision_is_undone(three: Ledger, clock: Clock) -> None:
    three.set_sources("a", PUBLIC)
    with pytest.raises(LedgerError, match="nothing was decided"):
        three.ask_again("b", "rita")
    first = three.submit("a", ANNA, organs=REVISED)
    second = three.submit("a", BEN, organs=REVISED)
    three.resolve("a", second.id, "rita")
    assert three.ask_again("a", "roy") == 1
    assert (three.status("a"), three.current_submission("a")) == ("conflict", second)
    open_again = [(one.kind, one.submission, one.other) for one in three.reviews("a")]
    assert open_again[-1] == ("conflict", second.id, first.id)
    with pytest.raises(LedgerError, match="open already"):
        three.ask_again("a", "roy")
    three.resolve("a", first.id, "rita")
    clock.minutes(1)
    # A choice for an organ: the public label counts, and is asked about.
    three.choose("a", "liver", "revised", "rita")
    assert three.ask_again("a", "roy") == 1
    assert three.sources("a")["liver"].disputed
    three.choose("a", "liver", "public", "rita")
    decided = [one.decision for one in three.reviews("a", closed=True)]
    assert decided.count("revised") == decided.count("public") == 1
    check_consistent(three.path)


def test_a_returned_case_is_not_given_out_where_that_is_undone(three: Ledger, clock: Clock) -> None:
    take(three, ANNA)
    three.submit("a", ANNA, organs=REVISED, sample=True)
    three.hand_back("a", note="more", reviewer="rita")
    assert three.status("a") == "open"
    assert three.ask_again("a", "rita") == 1
    assert (three.status("a"), three.offers()) == ("submitted", [])
    assert [one.kind for one in three.reviews("a")] == ["sample"]
    three.hand_back("a", note="more", reviewer="rita")
    assert take(three, BEN) == "a"
    with pytest.raises(LedgerError, match="works on it"):
        three.ask_again("a", "rita")
    clock.minutes(5)
    three.submit("a", BEN, organs=REVISED)
    with pytest.raises(LedgerError, match="submitted again"):
        three.ask_again("a", "rita")
    check_consistent(three.path)


def test_a_case_of_which_nothing_was_asked_is_taken_back_too(three: Ledger, clock: Clock) -> None:
    first = three.submit("a", ANNA, organs=REVISED)
    clock.minutes(1)
    three.hand_back("a", to=ANNA.key, note="more", reviewer="rita")
    assert three.ask_again("a", "rita") == 0
    assert (three.status("a"), three.offers(), three.reviews("a")) == ("submitted", [], [])
    assert three.current_submission("a") == first
    with pytest.raises(LedgerError, match="nothing was decided"):
        three.ask_again("a", "rita")
    # After an earlier decision: that one stays decided.
    three.submit("a", BEN, organs=REVISED)
    clock.minutes(1)
    three.resolve("a", first.id, "rita")
    clock.minutes(1)
    three.hand_back("a", note="more", reviewer="rita")
    assert three.ask_again("a", "rita") == 0
    assert (three.status("a"), three.offers(), three.reviews("a")) == ("submitted", [], [])
    check_consistent(three.path)


def test_restoring_is_a_new_entry_that_says_what_the_old_one_said(three: Ledger) -> None:
    take(three, ANNA)
    first = three.submit("a", ANNA, organs=REVISED, file="f", sha256="1" * 64)
    second = three.submit("a", ANNA, organs={"spleen": OrganChange("absent")}, begun_from=0)
    assert three.sources("a").keys() == {"spleen"}  # it began from nothing
    again = three.restore("a", first.id, RITA)
    assert (again.restored, again.file, again.sha256) == (first.id, "f", "1" * 64)
    assert three.sources("a") == {"liver": OrganSource("revised", "revised", None, first.id)}
    assert [one.id for one in three.submissions("a")] == [first.id, second.id, again.id]
    assert three.restore("a", again.id, RITA).restored == first.id
    with pytest.raises(LedgerError, match="no submission 99"):
        three.restore("a", 99, RITA)
    check_consistent(three.path)


def test_unknown_and_not_assessed_organs_stay_ranked(three: Ledger) -> None:
    three.set_sources(
        "a",
        {
            "liver": OrganSource("pseudo", "unknown", "MSD09"),
            "spleen": OrganSource("public", "absent", "MSD09"),
        },
    )
    assert three.ranking("one")[0].attention_ml == 3
    three.submit("b", ANNA, organs={"liver": OrganChange("not_assessed", 5, 1, 4, 0.3)})
    three.reopen("b")
    assert [one.attention_ml for one in three.ranking("one")] == [3, 2, 1]
    # Absent is known: nobody need look for it.
    three.submit("c", ANNA, organs={"liver": OrganChange("absent")})
    three.reopen("c")
    assert [one.attention_ml for one in three.ranking("one")] == [3, 2, 0]
    three.rank_all_organs(True)
    assert [one.attention_ml for one in three.ranking("one")] == [3, 2, 1]
    check_consistent(three.path)


def test_no_two_threads_get_one_number_and_a_taken_one_is_refused(three: Ledger) -> None:
    first, second = three.next_number(), three.next_number()
    assert first < second
    assert three.submit("b", ANNA, number=second).id == second
    with pytest.raises(NumberTakenError):
        three.submit("a", ANNA, number=second)
    assert three.submissions("a") == []
    other = Ledger(three.path)  # as another process
    assert other.next_number() == second + 1
    other.close()
    assert three.next_number() == second + 1
