"""Two labels made into one, organ by organ."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas8k.core.structure_sets import from_dict
from atlas8k.core.structures import ORGAN_IDS, using
from atlas8k.labels.combine import combine

LIVER, SPLEEN, STOMACH = (ORGAN_IDS[name] for name in ("liver", "spleen", "stomach"))


def line(*runs: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(n, value, np.uint8) for value, n in runs]).reshape(-1, 1, 1)


def test_each_organ_is_as_the_label_that_counts() -> None:
    first = line((LIVER, 4), (0, 2), (SPLEEN, 2), (0, 2))
    second = line((LIVER, 6), (0, 1), (SPLEEN, 3))
    made, lost = combine(first, {LIVER: first, SPLEEN: second})
    assert np.array_equal(made, line((LIVER, 4), (0, 3), (SPLEEN, 3)))
    assert not lost
    made, _ = combine(first, {LIVER: second, SPLEEN: first})
    assert np.array_equal(made, line((LIVER, 6), (SPLEEN, 2), (0, 2)))


def test_the_smaller_organ_keeps_what_both_claim() -> None:
    first = line((LIVER, 6), (SPLEEN, 2), (0, 2))
    second = line((LIVER, 4), (SPLEEN, 4), (0, 2))
    made, lost = combine(first, {LIVER: first, SPLEEN: second})
    assert np.array_equal(made, second)
    assert lost == {LIVER: 2}


def test_what_nobody_looked_at_keeps_every_voxel() -> None:
    start = line((STOMACH, 6), (LIVER, 3), (0, 1))
    other = line((STOMACH, 3), (LIVER, 6), (0, 1))
    made, lost = combine(start, {LIVER: other})
    assert np.array_equal(made, start)
    assert lost == {LIVER: 3}


def test_an_organ_that_the_label_lacks_is_gone() -> None:
    start = line((LIVER, 4), (SPLEEN, 4), (0, 1))
    made, lost = combine(start, {SPLEEN: line((LIVER, 2), (0, 7))})
    assert np.array_equal(made, line((LIVER, 4), (0, 5)))
    assert not lost


def test_a_tumour_goes_apart_from_its_organ() -> None:
    nested = from_dict({"name": "tumours", "structures": ["liver", "liver_tumor"]})
    organ, tumor = nested.ids["liver"], nested.ids["liver_tumor"]
    first, second = line((organ, 4), (tumor, 2)), line((organ, 3), (tumor, 3))
    with using(nested):
        assert np.array_equal(combine(first, {tumor: second})[0], second)
        assert np.array_equal(combine(first, {organ: second})[0], first)
        assert np.array_equal(combine(first, {tumor: line((organ, 6))})[0], line((organ, 6)))
        made, lost = combine(first, {organ: second, tumor: second})
        assert np.array_equal(made, second)
        assert not lost


labels = arrays(np.uint8, (4, 3, 2), elements=st.integers(0, 9))


@given(labels, labels, st.sets(st.integers(1, 9)))
def test_no_organ_gains_what_its_label_lacks(
    start: np.ndarray, other: np.ndarray, chosen: set[int]
) -> None:
    made, lost = combine(start, dict.fromkeys(chosen, other))
    for organ in range(1, 10):
        own = (other if organ in chosen else start) == organ
        assert not ((made == organ) & ~own).any()
        assert int((own & (made != organ)).sum()) == lost.get(organ, 0)
        assert organ in chosen or organ not in lost
    every = combine(start, dict.fromkeys(range(1, 10), other))[0]
    assert np.array_equal(every, other)
