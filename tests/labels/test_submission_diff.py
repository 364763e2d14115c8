from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.labels.kit import GRID, SHAPE, Labels, label

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.labels.ingest import Submitted
from atlas8k.labels.submission_diff import (
    Statement,
    add_unnamed_organs,
    compare_readings,
    compare_with_draft,
)
from atlas8k.store import OrganChange

LIVER, SPLEEN, AORTA = ORGAN_IDS["liver"], ORGAN_IDS["spleen"], ORGAN_IDS["aorta"]


def said(array: Labels, *named: str) -> Submitted:
    voxels = {name: int((array == ORGAN_IDS[name]).sum()) for name in named}
    return Submitted(array, GRID, frozenset(named), "label_info", voxels)


@pytest.mark.parametrize("order", ["C", "F"])
def test_each_state(order: str) -> None:
    start = np.asarray(label(LIVER, SPLEEN, AORTA, ORGAN_IDS["stomach"]), order=order)  # type: ignore[call-overload]
    sent = label(LIVER, SPLEEN, 0, 0)
    sent[1, 1, 2] = 0
    found = compare_with_draft(start, said(sent, "liver", "spleen", "aorta", "pancreas"))
    assert list(found) == list(ORGAN_NAMES)
    assert found["liver"] == OrganChange("not_assessed", 6, 6, 0, 1.0)  # as it went out
    assert found["spleen"] == OrganChange("revised", 6, 5, 1, 10 / 11)
    assert found["aorta"] == OrganChange("absent", 6, 0, 6, 0.0)  # erased
    assert found["pancreas"] == OrganChange("not_assessed", 0, 0, 0, None)
    assert found["stomach"] == OrganChange("not_assessed", 6, 6, 0, 1.0)  # not sent
    assert found["postcava"] == OrganChange("not_assessed", 0, 0, 0, None)


def test_what_was_looked_at_is_confirmed() -> None:
    start, sent = (
        label(LIVER, SPLEEN, AORTA),
        said(label(LIVER, SPLEEN), "liver", "spleen", "stomach"),
    )
    every = compare_with_draft(start, sent, Statement(all_looked_at=True))
    states = {organ: change.state for organ, change in every.items()}
    assert states["liver"] == states["spleen"] == "confirmed"
    # Nothing shows that somebody looked where nothing is, nor at what was not sent.
    assert set(states.values()) - {"confirmed"} == {"not_assessed"}
    assert states["aorta"] == states["stomach"] == "not_assessed"
    named = compare_with_draft(
        start, sent, Statement(looked_at=frozenset({"liver", "stomach", "aorta"}))
    )
    assert {organ: one.state for organ, one in named.items() if one.state != "not_assessed"} == {
        "liver": "confirmed",
        "stomach": "absent",
        "aorta": "confirmed",
    }


def test_the_same_number_of_other_voxels_is_revised() -> None:
    found = compare_with_draft(label(LIVER), said(label(0, LIVER), "liver"))
    assert found["liver"] == OrganChange("revised", 6, 6, 12, 0.0)


def test_absent_by_the_clients_own_word() -> None:
    sent = said(label(LIVER), "liver", "spleen")
    found = compare_with_draft(
        label(LIVER), sent, Statement.of({"absent": ["Spleen", "gallbladder"]})
    )
    assert found["spleen"].state == found["gall_bladder"].state == "absent"
    found = compare_with_draft(label(LIVER, AORTA), sent, Statement(absent=frozenset({"aorta"})))
    assert found["aorta"] == OrganChange("absent", 6, 0, 6, 0.0)


def test_without_a_start_label_what_is_drawn_is_revised() -> None:
    found = compare_with_draft(None, said(label(LIVER), "liver", "spleen"))
    assert found["liver"] == OrganChange("revised", 0, 6, 6, 0.0)
    assert found["spleen"].state == "not_assessed"


def test_two_readings_are_compared_whatever_was_said() -> None:
    found = compare_readings(label(LIVER, SPLEEN), label(LIVER, 0, SPLEEN), GRID)
    assert found["liver"] == OrganChange("confirmed", 6, 6, 0, 1.0)
    assert found["spleen"] == OrganChange("revised", 6, 6, 12, 0.0)


def test_an_organ_that_was_not_sent_is_kept() -> None:
    start = label(LIVER, SPLEEN, AORTA)
    sent = said(label(0, LIVER), "liver", "aorta")  # drawn over the spleen, which is not named
    start[1, 0, 0] = SPLEEN  # where nothing is drawn
    kept = add_unnamed_organs(start, sent, compare_with_draft(start, sent))
    due = label(0, LIVER)
    due[1, 0, 0] = SPLEEN
    assert np.array_equal(kept, due)
    assert start[1, 1, 2] == SPLEEN  # the draft label itself is not touched


def test_an_organ_said_to_be_absent_is_not_kept() -> None:
    start, sent = label(LIVER, SPLEEN), said(label(LIVER), "liver")
    found = compare_with_draft(start, sent, Statement(absent=frozenset({"spleen"})))
    assert np.array_equal(add_unnamed_organs(start, sent, found), label(LIVER))


def test_a_start_label_of_another_shape_is_refused() -> None:
    with pytest.raises(GridMismatchError, match="draft label"):
        compare_with_draft(np.zeros((2, 3, 4), dtype=np.uint8), said(label(LIVER), "liver"))


@given(
    st.integers(0, 999),
    st.sets(st.sampled_from(ORGAN_NAMES)),
    st.sampled_from("CF"),
    st.sampled_from("CF"),
)
def test_counts_and_completion_are_what_numpy_says(
    seed: int, named: set[str], one: str, other: str
) -> None:
    random = np.random.default_rng(seed)
    start, sent = random.integers(0, 10, (2, *SHAPE), dtype=np.uint8)
    sent[~np.isin(sent, [ORGAN_IDS[name] for name in named])] = 0
    start, sent = np.asarray(start, order=one), np.asarray(sent, order=other)  # type: ignore[call-overload]
    submitted = said(sent, *named)
    found = compare_with_draft(start, submitted)
    kept = add_unnamed_organs(start, submitted, found)
    for name, i in ORGAN_IDS.items():
        before, after = start == i, sent == i
        if name not in named:
            assert found[name].state == "not_assessed"
            assert np.array_equal(kept == i, before & (sent == 0))
            continue
        assert np.array_equal(kept == i, after)
        assert found[name].voxels_changed == (before != after).sum()
        assert (found[name].voxels_before, found[name].voxels_after) == (before.sum(), after.sum())
