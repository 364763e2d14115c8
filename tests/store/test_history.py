from __future__ import annotations

import pytest
from tests.store.kit import ANNA, BEN, CARA, NOBODY, Clock, query, scored

from atlas8k.core.errors import LedgerError
from atlas8k.store import (
    Holder,
    Ledger,
    NewLabel,
    OrganChange,
    OrganSource,
    UnknownModelVersionError,
    label_files,
)
from atlas8k.store.label_files import FileStamp


@pytest.fixture
def three(ledger: Ledger) -> Ledger:
    scored(ledger, {"a": 3, "b": 2, "c": 1})
    return ledger


def take(ledger: Ledger, holder: Holder) -> str | None:
    sample = ledger.next_sample(holder=holder, model_version="one")
    return None if sample is None else sample.volume


def test_a_submission_is_kept_with_who_when_and_what(three: Ledger, clock: Clock) -> None:
    assert take(three, ANNA) == "a"
    clock.minutes(17)
    organs = {"liver": OrganChange("revised", 100, 110, 14, 0.93), "spleen": OrganChange("absent")}
    kept = three.submit("a", ANNA, file="labels/final/a.nii.gz", sha256="ab" * 32, organs=organs)
    assert (kept.volume, kept.holder, kept.minutes, kept.submitted_at) == (
        "a",
        "user:anna",
        17,
        clock.now,
    )
    assert (kept.model_version, kept.round, kept.late, kept.conflict) == ("one", 1, False, False)
    assert three.submissions("a") == [kept]
    assert three.changes(kept.id) == {
        "liver": OrganChange("revised", 100, 110, 14, 0.93),
        "spleen": OrganChange("absent"),
    }
    assert three.sources("a") == {
        "liver": OrganSource("revised", "revised", submission=kept.id),
        "spleen": OrganSource("revised", "absent", submission=kept.id),
    }
    assert three.submitted("a")
    assert three.status("a") == "submitted"
    assert three.leases() == []
    assert take(three, BEN) == "b"


def test_late_and_without_a_lease_is_accepted(three: Ledger, clock: Clock) -> None:
    assert take(three, ANNA) == "a"
    clock.minutes(61)
    late = three.submit("a", ANNA)
    assert (late.late, late.minutes, late.conflict) == (True, 61, False)
    without = three.submit("b", BEN)
    assert (without.late, without.minutes, without.conflict) == (True, None, False)
    assert three.submitted("a")
    assert three.submitted("b")


def test_skipped_then_submitted_after_all(three: Ledger) -> None:
    assert [take(three, ANNA), take(three, ANNA)] == ["a", "b"]
    kept = three.submit("a", ANNA)
    assert (kept.late, kept.conflict) == (True, False)
    assert [lease.volume for lease in three.leases()] == ["b"]


def test_both_stay_and_are_in_conflict_when_another_landed_meanwhile(
    three: Ledger, clock: Clock
) -> None:
    assert take(three, ANNA) == "a"
    clock.minutes(61)
    assert take(three, BEN) == "a"
    first = three.submit("a", ANNA)  # late, but nobody else's is there
    assert not first.conflict
    second = three.submit("a", BEN)
    assert second.conflict
    assert three.status("a") == "conflict"
    assert three.submitted("a")
    assert [s.id for s in three.submissions("a")] == [first.id, second.id]
    (review,) = three.reviews()
    assert (review.kind, review.volume, review.submission, review.other) == (
        "conflict",
        "a",
        second.id,
        first.id,
    )
    assert take(three, CARA) == "b"

    with pytest.raises(LedgerError, match="no submission 99"):
        three.resolve("a", 99)
    three.resolve("a", second.id, reviewer="rita")
    assert three.status("a") == "submitted"
    assert three.reviews() == []
    assert query(three.path, "SELECT reviewer, decision FROM review") == [
        ("rita", f"submission {second.id}")
    ]


def test_the_earlier_of_a_conflict_stays_in_force_until_decided(three: Ledger) -> None:
    revised = {"liver": OrganChange("revised", 1, 2, 1, 0.5)}
    first = three.submit("a", ANNA, organs=revised)
    second = three.submit("a", BEN, organs=revised)
    third = three.submit("a", CARA, organs=revised)
    assert (second.conflict, third.conflict) == (True, True)
    assert three.sources("a")["liver"].submission == first.id
    three.resolve("a", third.id)
    assert three.sources("a")["liver"].submission == third.id


def test_saving_again_corrects_oneself(three: Ledger) -> None:
    assert take(three, ANNA) == "a"
    three.submit("a", ANNA)
    again = three.submit("a", ANNA)
    assert (again.conflict, again.late) == (False, False)
    assert three.status("a") == "submitted"
    budget = three.budget()
    assert budget is not None
    assert budget.reviewed == 1


def test_a_reopened_volume_is_served_with_its_last_revision(three: Ledger) -> None:
    assert take(three, ANNA) == "a"
    first = three.submit("a", ANNA)
    three.reopen("a")
    sample = three.next_sample(holder=BEN, model_version="one")
    assert sample is not None
    assert (sample.volume, sample.base_submission) == ("a", first.id)
    second = three.submit("a", BEN)
    assert not second.conflict  # it began from Anna's
    three.reopen("a")
    assert not three.submit("a", CARA).conflict  # without a lease, too
    assert three.submit("a", ANNA).conflict  # hers began before


def test_anonymous_submission_ends_the_lease_of_that_volume_only(three: Ledger) -> None:
    assert [take(three, NOBODY), take(three, NOBODY)] == ["a", "b"]
    kept = three.submit("a", NOBODY)
    assert (kept.anonymous, kept.late) == (True, False)
    assert [lease.volume for lease in three.leases()] == ["b"]


def test_a_submission_for_a_volume_not_seen_yet_is_not_lost(three: Ledger) -> None:
    three.submit("new", ANNA, sha256="cd" * 32)
    assert three.submitted("new")
    three.exclude("b", "motion")
    three.sync_volumes(["a", "b"])
    assert three.submit("b", ANNA).id
    assert three.submit("c", ANNA).id


def test_a_refused_submission_leaves_nothing_behind(three: Ledger) -> None:
    with pytest.raises(LedgerError, match="heart"):
        three.submit("a", ANNA, organs={"heart": OrganChange("revised")})
    with pytest.raises(LedgerError, match="CHECK constraint"):
        three.submit("a", ANNA, organs={"liver": OrganChange("improved")})
    with pytest.raises(UnknownModelVersionError):
        three.submit("new", ANNA, model_version="nope")
    assert three.submissions("a") == []
    assert not three.submitted("a")
    assert "new" not in three.statuses()


def test_changing_a_public_organ_disputes_it(three: Ledger) -> None:
    three.set_sources(
        "a",
        {
            "liver": OrganSource("public", "present", "LiTS"),
            "spleen": OrganSource("public", "present", "LiTS"),
        },
    )
    kept = three.submit(
        "a",
        ANNA,
        organs={
            "liver": OrganChange("revised"),
            "spleen": OrganChange("confirmed"),
            "pancreas": OrganChange("not_assessed", 5, 5, 0, 1.0),
            "stomach": OrganChange("not_assessed", 5, 900, 895, 0.01, "900 ml"),
        },
    )
    assert three.sources("a") == {
        "liver": OrganSource("public", "present", "LiTS", None, disputed=True),
        "spleen": OrganSource("public", "present", "LiTS"),
        "stomach": OrganSource("revised", "not_assessed", submission=kept.id),
    }
    (review,) = three.reviews()
    assert (review.kind, review.organ, review.submission) == ("dispute", "liver", kept.id)


def test_saying_nothing_takes_no_revision_back(three: Ledger) -> None:
    first = three.submit("a", ANNA, organs={"liver": OrganChange("revised")})
    three.submit("a", ANNA, organs={"liver": OrganChange("not_assessed", 5, 5, 0, 1.0)})
    assert three.sources("a")["liver"] == OrganSource("revised", "revised", submission=first.id)


def test_what_was_drawn_and_not_vouched_for_is_shown_and_no_more(three: Ledger) -> None:
    three.submit("a", ANNA, organs={"liver": OrganChange("confirmed", 5, 5, 0, 1.0)})
    drawn = OrganChange("not_assessed", 5, 1, 4, 0.3, "0.5 ml")
    second = three.submit("a", ANNA, organs={"liver": drawn})
    assert three.changes(second.id) == {"liver": drawn}
    assert three.sources("a")["liver"] == OrganSource("revised", "not_assessed", None, second.id)
    assert three.revised_organs(second.id) == {}


def test_a_source_that_is_none_is_refused(three: Ledger) -> None:
    with pytest.raises(LedgerError, match="nothing a public label says"):
        three.set_sources("a", {"liver": OrganSource("guessed", "present")})
    assert three.sources("a") == {}


def kept(tag: str, digit: str) -> NewLabel:
    file, sha256 = f"labels/.history/{tag}/a/{digit}.nii.gz", digit * 64
    return NewLabel(tag, file, ".nii.gz", sha256, FileStamp(1, 1), {"model_version": "one"})


def test_every_label_file_is_remembered(three: Ledger, clock: Clock) -> None:
    for label in (kept("original", "1"), kept("original", "2"), kept("final", "3")):
        with three.write() as tx:
            number = label_files.add(tx, "a", label)
            label_files.make_current(tx, "a", label.tag, number, label.info)
    found = three.labels("a")
    assert [(f.tag, (f.sha256 or "")[0], f.replaced_at) for f in found] == [
        ("original", "1", clock.now),
        ("original", "2", None),
        ("final", "3", None),
    ]
    assert {f.model_version for f in found} == {"one"}
    # One that is current again is not replaced any more, and a draft may be the final label.
    with three.write() as tx:
        label_files.make_current(tx, "a", "original", 1, {})
        label_files.make_current(tx, "a", "final", 1, {})
    assert [f.replaced_at is None for f in three.labels("a")] == [True, False, False]
    with three.read() as tx:
        current = label_files.current(tx, "a", "final")
        assert current is not None
        assert (current.version, current.ext) == (1, ".nii.gz")


def test_rounds_follow_the_model_versions(ledger: Ledger, clock: Clock) -> None:
    scored(ledger, {f"v{i}": float(i) for i in range(10)})
    ledger.submit("v9", ANNA)
    ledger.submit("v9", ANNA)
    ledger.submit("v8", ANNA)
    clock.minutes(60)
    ledger.register_model_version("two")
    first, second = ledger.rounds()
    assert (first.number, first.model_version, first.reviewed) == (1, "one", 2)
    assert (first.closed_at, first.closing) == (clock.now, {"model_version": "two"})
    assert (second.number, second.model_version, second.reviewed, second.closed_at) == (
        2,
        "two",
        0,
        None,
    )
    # Other attention settings are no new round.
    ledger.register_model_version("two, other settings", new_round=False)
    assert len(ledger.rounds()) == 2


def test_budget_is_a_fraction_rounded_down_but_one_at_least(ledger: Ledger) -> None:
    ledger.sync_volumes([f"v{i:04d}" for i in range(8448)])
    ledger.register_model_version("one")
    for fraction, total in ((0.05, 422), (1e-9, 1), (1.0, 8448), (0.25, 2112)):
        ledger.set_campaign(budget=fraction)
        budget = ledger.budget()
        assert budget is not None
        assert (budget.total, budget.left) == (total, total)
    ledger.sync_volumes([f"v{i:04d}" for i in range(100)])
    ledger.set_campaign(budget=0.29)  # 0.29 * 100 is 28.999999999999996
    budget = ledger.budget()
    assert budget is not None
    assert budget.total == 29
    with pytest.raises(LedgerError, match="fraction"):
        ledger.set_campaign(budget=5)


def test_a_closed_round_is_followed_by_the_next_sample(three: Ledger) -> None:
    assert three.close_round({"note": "fine-tuned elsewhere"}) == 1
    assert three.close_round() is None
    assert three.budget() is None
    sample = three.next_sample(holder=ANNA, model_version="one")
    assert sample is not None
    assert sample.round == 2
