from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.labels.kit import SHAPE, Labels, label

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.labels.fusion import PRIORITY, Overlap, SourceKind, SourceLabel, fuse
from atlas8k.store import OrganSource

LIVER, SPLEEN, AORTA = ORGAN_IDS["liver"], ORGAN_IDS["spleen"], ORGAN_IDS["aorta"]
PSEUDO = {organ: OrganSource("pseudo", "unknown") for organ in ORGAN_NAMES}


def pseudo(array: Labels) -> SourceLabel:
    return SourceLabel("pseudo", array, PSEUDO)


def public(array: Labels | None, **states: str) -> SourceLabel:
    return SourceLabel(
        "public", array, {o: OrganSource("public", s, "BTCV") for o, s in states.items()}
    )


def revised(array: Labels | None, submission: int = 7, **states: str) -> SourceLabel:
    organs = {o: OrganSource("revised", s, None, submission) for o, s in states.items()}
    return SourceLabel("revised", array, organs)


def slabs(**organs: int) -> Labels:
    """Six voxels of each organ in the slab of that number."""
    array = label()
    for organ, x in organs.items():
        array[x, 1:4, 2:4] = ORGAN_IDS[organ]
    return array


def test_public_before_revised_before_pseudo() -> None:
    made = fuse(
        SHAPE,
        [
            pseudo(slabs(liver=0, spleen=1, aorta=2)),
            revised(slabs(liver=3, spleen=4), liver="confirmed", spleen="revised"),
            public(slabs(liver=5), liver="present"),
        ],
    )
    assert np.array_equal(made.array, slabs(liver=5, spleen=4, aorta=2))
    assert made.organs["liver"] == OrganSource("public", "present", "BTCV", None, True)
    assert made.organs["spleen"] == OrganSource("revised", "revised", None, 7)
    assert made.organs["aorta"] == OrganSource("pseudo", "unknown")
    assert made.overlaps == ()


@pytest.mark.parametrize(
    "source",
    [public(None, liver="absent"), revised(None, liver="absent"), revised(slabs(), liver="absent")],
    ids=["public", "revised", "revised, with voxels of others"],
)
def test_an_absent_organ_beats_a_false_positive(source: SourceLabel) -> None:
    made = fuse(SHAPE, [pseudo(slabs(liver=0, spleen=1)), source])
    assert np.array_equal(made.array, slabs(spleen=1))
    assert made.organs["liver"].state == "absent"


def test_voxels_of_an_organ_said_to_be_absent_are_not_used() -> None:
    made = fuse(SHAPE, [public(slabs(liver=0), liver="absent")])
    assert not made.array.any()


def test_what_is_unknown_is_left_to_the_next_source() -> None:
    made = fuse(
        SHAPE,
        [
            pseudo(slabs(liver=0, spleen=1, aorta=2)),
            revised(slabs(), liver="unknown", aorta="unknown"),
            public(slabs(), liver="unknown", spleen="unknown"),
        ],
    )
    assert np.array_equal(made.array, slabs(liver=0, spleen=1, aorta=2))
    assert set(made.organs.values()) == {OrganSource("pseudo", "unknown")}


def test_a_drawn_organ_that_nobody_vouches_for_yet_is_shown() -> None:
    drawn = revised(slabs(liver=1), liver="not_assessed")
    made = fuse(SHAPE, [pseudo(slabs(liver=0, spleen=2)), drawn])
    assert np.array_equal(made.array, slabs(liver=1, spleen=2))
    assert made.organs["liver"][:2] == ("revised", "not_assessed")


def test_an_organ_nobody_names_is_not_in_it_and_an_unknown_one_is() -> None:
    made = fuse(SHAPE, [public(slabs(liver=0), liver="present", spleen="unknown")])
    assert made.organs == {
        "liver": OrganSource("public", "present", "BTCV"),
        "spleen": OrganSource("pseudo", "unknown"),
    }


def test_voxels_of_organs_a_source_says_nothing_about_are_not_used() -> None:
    made = fuse(SHAPE, [public(slabs(liver=0, spleen=1), liver="present")])
    assert np.array_equal(made.array, slabs(liver=0))


def test_nothing_at_all() -> None:
    made = fuse(SHAPE, [])
    assert made.array.shape == SHAPE
    assert (made.array.any(), made.organs, made.overlaps) == (False, {}, ())


@pytest.mark.parametrize(
    ("there", "here", "disputed"),
    [
        (public(slabs(liver=0), liver="present"), revised(slabs(liver=0), liver="confirmed"), 0),
        (public(slabs(liver=0), liver="present"), revised(slabs(liver=1), liver="revised"), 1),
        (public(slabs(liver=0), liver="present"), revised(None, liver="absent"), 1),
        (public(slabs(liver=0), liver="present"), revised(slabs(), liver="unknown"), 0),
        (public(None, liver="absent"), revised(slabs(liver=1), liver="revised"), 1),
        (public(None, liver="absent"), revised(slabs(liver=1), liver="absent"), 0),
        (public(None, liver="absent"), revised(None, liver="absent"), 0),
    ],
)
def test_a_submission_that_changes_a_public_organ_disputes_it(
    there: SourceLabel, here: SourceLabel, disputed: int
) -> None:
    made = fuse(SHAPE, [pseudo(slabs(liver=2)), here, there])
    alone = fuse(SHAPE, [there])
    assert np.array_equal(made.array, alone.array)
    assert made.organs["liver"] == alone.organs["liver"]._replace(disputed=bool(disputed))


def test_a_dispute_lasts_until_it_is_decided() -> None:
    known = OrganSource("public", "present", "BTCV", None, disputed=True)
    there = SourceLabel("public", slabs(liver=0), {"liver": known})
    here = revised(slabs(liver=1), liver="revised")
    assert fuse(SHAPE, [there]).organs["liver"].disputed
    for kind, x in (("public", 0), ("revised", 1), ("pseudo", 2)):
        made = fuse(SHAPE, [pseudo(slabs(liver=2)), there, here], {"liver": kind})
        assert np.array_equal(made.array, slabs(liver=x))
        assert (made.organs["liver"].source, made.organs["liver"].disputed) == (kind, False)


def test_a_decision_for_a_source_that_is_gone_does_not_count() -> None:
    there = public(slabs(liver=0), liver="present")
    here = revised(slabs(liver=1), liver="unknown")
    made = fuse(SHAPE, [there, here], {"liver": "revised", "spleen": "public"})
    assert np.array_equal(made.array, slabs(liver=0))
    assert list(made.organs) == ["liver"]


def test_overlaps_go_to_the_higher_source_and_are_reported() -> None:
    mid, high = slabs(spleen=0, stomach=2), slabs(liver=0)
    mid[1, 1, 2] = SPLEEN
    made = fuse(
        SHAPE,
        [
            pseudo(slabs(aorta=0)),
            revised(mid, spleen="revised", stomach="revised"),
            public(high, liver="present"),
        ],
    )
    due = slabs(liver=0, stomach=2)
    due[1, 1, 2] = SPLEEN
    assert np.array_equal(made.array, due)
    assert set(made.overlaps) == {
        Overlap("liver", "spleen", 6, "public", "revised"),
        Overlap("liver", "aorta", 6, "public", "pseudo"),
    }


def test_of_two_public_labels_the_earlier_counts() -> None:
    one = public(slabs(liver=0), liver="present", spleen="unknown")
    other = public(slabs(liver=1, spleen=2), liver="present", spleen="present")
    made = fuse(SHAPE, [one, other])
    assert np.array_equal(made.array, slabs(liver=0, spleen=2))


def test_a_source_on_another_grid_is_refused() -> None:
    with pytest.raises(GridMismatchError, match="public label"):
        fuse(SHAPE, [public(np.zeros((2, 2, 2), dtype=np.uint8), liver="present")])


STATES: Mapping[SourceKind, tuple[str, ...]] = {
    "public": ("present", "absent", "unknown"),
    "revised": ("confirmed", "revised", "absent", "not_assessed"),
    "pseudo": ("unknown",),
}


@st.composite
def sources(draw: st.DrawFn) -> list[SourceLabel]:
    found = []
    for kind in draw(st.permutations(draw(st.lists(st.sampled_from(PRIORITY), max_size=4)))):
        random = np.random.default_rng(draw(st.integers(0, 999)))
        array = random.integers(0, 10, SHAPE, dtype=np.uint8)
        states = draw(st.dictionaries(st.sampled_from(ORGAN_NAMES), st.sampled_from(STATES[kind])))
        organs = {
            organ: OrganSource(
                kind,
                state,
                "BTCV" if kind == "public" else None,
                3 if kind == "revised" else None,
                kind == "public" and draw(st.booleans()),
            )
            for organ, state in states.items()
        }
        found.append(SourceLabel(kind, array, organs))
    return found


DECISIONS = st.dictionaries(st.sampled_from(ORGAN_NAMES), st.sampled_from(PRIORITY))


@given(sources(), DECISIONS)
def test_assembling_twice_is_assembling_once(
    given_sources: list[SourceLabel], decisions: dict[str, SourceKind]
) -> None:
    before = [None if s.array is None else s.array.copy() for s in given_sources]
    once = fuse(SHAPE, given_sources, decisions)
    twice = fuse(SHAPE, once.sources(), decisions)
    assert np.array_equal(once.array, twice.array)
    assert once.organs == twice.organs
    assert twice.overlaps == ()
    again = fuse(SHAPE, given_sources, decisions)
    assert np.array_equal(once.array, again.array)
    for source, kept in zip(given_sources, before, strict=True):
        assert kept is None or np.array_equal(source.array, kept)  # sources are not written to


@given(sources(), DECISIONS)
def test_each_voxel_is_the_highest_sources(
    given_sources: list[SourceLabel], decisions: dict[str, SourceKind]
) -> None:
    """Against a voxel-wise reading of the rules."""
    assume(len({source.kind for source in given_sources}) == len(given_sources))
    made = fuse(SHAPE, given_sources, decisions)
    answers = ("present", "absent", "confirmed", "revised", "not_assessed")
    painted: dict[SourceKind, list[tuple[SourceLabel, str]]] = {kind: [] for kind in PRIORITY}
    for organ in ORGAN_NAMES:
        able = [
            source
            for source in given_sources
            if organ in source.organs
            and (source.kind == "pseudo" or source.organs[organ].state in answers)
        ]
        able.sort(key=lambda s: (s.kind != decisions.get(organ), PRIORITY.index(s.kind)))
        if able and able[0].organs[organ].state != "absent":
            painted[able[0].kind].append((able[0], organ))
    due = np.zeros(SHAPE, dtype=np.uint8)
    for kind in reversed(PRIORITY):
        for source, organ in painted[kind]:
            assert source.array is not None
            due[source.array == ORGAN_IDS[organ]] = ORGAN_IDS[organ]
    assert np.array_equal(made.array, due)
