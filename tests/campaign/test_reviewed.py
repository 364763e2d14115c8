from __future__ import annotations

import pytest
from tests.campaign.kit import (
    ADDED,
    AGREED_ABSENT,
    CONFIRMED,
    REVISED,
    SILENT,
    TAKEN,
    UNNAMED,
    worked,
)

from atlas8k.campaign.reviewed import by_organ, kind, needed, of_round, reviewed
from atlas8k.store import OrganChange


@pytest.mark.parametrize(
    ("change", "expected", "wrong"),
    [
        (CONFIRMED, "confirmed", False),
        (REVISED, "changed", True),
        (ADDED, "added", True),
        (TAKEN, "absent", True),
        (AGREED_ABSENT, "confirmed", False),
        (SILENT, "nothing_said", False),
        (UNNAMED, "nothing_said", False),
        (OrganChange("revised"), "changed", True),
    ],
)
def test_what_became_of_an_organ(change: OrganChange, expected: str, wrong: bool) -> None:
    assert (kind(change), needed(change)) == (expected, wrong)


def test_a_volume_corrected_twice_counts_once_with_the_larger_change() -> None:
    small = REVISED._replace(dsc=0.95)
    work = [
        worked(1, "a", organs={"liver": small, "spleen": REVISED}),
        worked(2, "a", organs={"liver": REVISED, "spleen": CONFIRMED}),
        worked(3, "b", organs={"liver": UNNAMED}),
    ]
    found = reviewed(work)
    assert found["a"].organs == {"liver": REVISED, "spleen": REVISED}
    assert found["a"].wrong == ["liver", "spleen"]
    assert [found[v].outcome for v in "ab"] == ["changed", "not_assessed"]
    assert reviewed(reversed(work))["a"].organs == found["a"].organs


def test_second_readings_and_restores_change_nothing() -> None:
    work = [
        worked(1, "a"),
        worked(2, "a", purpose="double_read", organs={"liver": REVISED}),
        worked(3, "a", purpose="restore", organs={"liver": REVISED}),
    ]
    assert reviewed(work)["a"].outcome == "confirmed"
    assert reviewed(work[1:]) == {}


def test_confirmed_is_said_of_every_organ_that_is_there() -> None:
    def outcome(**organs: OrganChange) -> str:
        return reviewed([worked(1, "a", organs=organs)])["a"].outcome

    not_there = UNNAMED._replace(voxels_before=0, voxels_after=0)
    assert outcome(liver=CONFIRMED, spleen=UNNAMED) == "not_assessed"
    assert outcome(liver=CONFIRMED, spleen=not_there, aorta=SILENT) == "confirmed"
    assert outcome(liver=UNNAMED, spleen=AGREED_ABSENT) == "not_assessed"
    assert outcome(liver=REVISED, spleen=UNNAMED) == "changed"


def test_a_reviewers_label_counts_beside_a_persons_of_the_round_only() -> None:
    mine = worked(1, "a")
    by_reviewer = [
        worked(2, v, purpose="review", holder="user:rita", organs={"liver": REVISED}) for v in "ab"
    ]
    adopted = worked(4, "c", None, purpose="adopted", holder="folder:labels/final")
    again = worked(5, "a", purpose="restore")
    second = worked(6, "a", purpose="double_read", holder="user:ben")
    work = [mine, *by_reviewer, adopted, again, second]
    assert of_round(work) == [mine, by_reviewer[0], second]
    assert {v: one.outcome for v, one in reviewed(work).items()} == {"a": "changed"}


def test_counts_by_organ_add_up_to_the_volumes() -> None:
    said = [CONFIRMED, REVISED, ADDED, TAKEN, AGREED_ABSENT, SILENT, UNNAMED]
    found = reviewed(worked(i, str(i), organs={"liver": one}) for i, one in enumerate(said))
    liver, spleen = (
        next(one for one in by_organ(found.values()) if one.organ == organ)
        for organ in ("liver", "spleen")
    )
    assert (liver.confirmed, liver.changed, liver.added, liver.absent, liver.nothing_said) == (
        2, 1, 1, 1, 2,
    )  # fmt: skip
    assert liver.mean_dsc == pytest.approx((0.8 + 0 + 0) / 3)
    assert liver.voxels_changed == 6 + 5 + 7
    assert (spleen.nothing_said, spleen.mean_dsc) == (len(said), None)
