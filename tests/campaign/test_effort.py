from __future__ import annotations

import pytest
from tests.campaign.kit import worked

from atlas8k.campaign.effort import annotators, by_hand_minutes, effort
from atlas8k.core.structure_sets import from_dict
from atlas8k.core.structures import using


def test_minutes_are_added_up_and_idle_ones_cut() -> None:
    work = [worked(1, "a", 12.0), worked(2, "b", 600.0), worked(3, "c", None)]
    found = effort(work, {"a": {1, 2, 3, 4}})
    assert found.hours == pytest.approx((12 + 60) / 60)
    assert (found.timed, found.untimed, found.idle) == (2, 1, 1)
    assert found.hours_at_15 == pytest.approx(0.75)
    assert found.hours_by_hand == 5 + 9 + 9  # nobody draws what is public
    assert found.hours_saved == pytest.approx(23 - (12 + 60 + 36) / 60)


def test_minutes_are_those_of_the_structures_that_somebody_would_draw() -> None:
    said = {"liver": {"minutes": 60}, "spleen": {"minutes": 200}, "aorta": {"minutes": 1}}
    with using(from_dict({"name": "three", "structures": said})):
        assert by_hand_minutes({2}) == 61
        found = effort([worked(1, "a", 5.0), worked(2, "b", 5.0)], {"a": {2, 3}})
        assert found.hours_by_hand == pytest.approx((60 + 261) / 60)


def test_a_correction_of_the_same_hand_out_is_not_timed_again() -> None:
    work = [worked(1, "a", 12.0, lease=7), worked(2, "a", 400.0, lease=7)]
    found = effort(work, {})
    assert (found.hours, found.idle, found.timed) == (pytest.approx(0.2), 0, 1)


def test_no_time_is_unknown_and_not_nothing() -> None:
    found = effort([worked(1, "a", None)], {})
    assert (found.minutes_each, found.hours_saved, found.untimed) == (None, None, 1)


def test_annotators_are_numbered_and_keep_their_number() -> None:
    work = [
        worked(1, "a", 10.0),
        worked(2, "b", 20.0, holder="client:ben"),
        worked(3, "c", 30.0, holder="client:ben", round=2),
    ]
    order = ["user:anna", "client:ben"]
    hidden = annotators(work[2:], order, names=False)
    assert [(one.name, one.volumes, one.hours) for one in hidden] == [("annotator 2", 1, 0.5)]
    assert [one.name for one in annotators(work, order, names=True)] == ["user:anna", "client:ben"]
