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
    made, lost = combine(first, second, {SPLEEN})
    assert np.array_equal(made, line((LIVER, 4), (0, 3), (SPLEEN, 3)))
    assert not lost
    made, _ = combine(first, second, {LIVER})
    assert np.array_equal(made, line((LIVER, 6), (SPLEEN, 2), (0, 2)))


def test_the_smaller_organ_keeps_what_both_claim() -> None:
    first = line((LIVER, 6), (SPLEEN, 2), (0, 2))
    second = line((LIVER, 4), (SPLEEN, 4), (0, 2))
    made, lost = combine(first, second, {SPLEEN})
    assert np.array_equal(made, second)
    assert lost == {LIVER: 2}


def test_what_neither_counts_for_is_empty() -> None:
    first = line((LIVER, 4), (SPLEEN, 4), (0, 1))
    second = line((LIVER, 2), (0, 1), (SPLEEN, 5), (0, 1))
    made, lost = combine(first, second, {LIVER})
    assert np.array_equal(made, line((LIVER, 2), (0, 2), (SPLEEN, 4), (0, 1)))
    assert not lost


def test_a_tumour_goes_apart_from_its_organ() -> None:
    nested = from_dict({"name": "tumours", "structures": ["liver", "liver_tumor"]})
    organ, tumor = nested.ids["liver"], nested.ids["liver_tumor"]
    first, second = line((organ, 4), (tumor, 2)), line((organ, 3), (tumor, 3))
    with using(nested):
        made, lost = combine(first, second, {tumor})
        assert np.array_equal(made, second)
        assert not lost
        made, lost = combine(first, second, {organ})
        assert np.array_equal(made, first)
        assert not lost


labels = arrays(np.uint8, (4, 3, 2), elements=st.integers(0, 9))


@given(labels, labels, st.sets(st.integers(1, 9)))
def test_no_organ_gains_what_neither_label_gives_it(
    first: np.ndarray, second: np.ndarray, chosen: set[int]
) -> None:
    made, lost = combine(first, second, chosen)
    for organ in range(1, 10):
        source = second if organ in chosen else first
        own = source == organ
        assert not ((made == organ) & ~own).any()
        assert int((own & (made != organ)).sum()) == lost.get(organ, 0)
    assert np.array_equal(combine(first, second, set())[0], first)
    assert np.array_equal(combine(first, second, set(range(1, 10)))[0], second)
