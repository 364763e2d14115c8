"""Openings: the published form against scipy, slabs against their thickness in mm."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from atlas8k.attention.regions import PUBLISHED_WIDTHS, bounding_box, opened, widths_for


def slab(thickness: int, axis: int = 2) -> np.ndarray:
    mask = np.zeros((24, 24, 24), dtype=bool)
    place = [slice(4, 20)] * 3
    place[axis] = slice(7, 7 + thickness)
    mask[tuple(place)] = True
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_published_form_takes_a_slab_of_four_and_leaves_one_of_five(axis) -> None:
    assert not opened(slab(4, axis), PUBLISHED_WIDTHS).any()
    assert np.array_equal(opened(slab(5, axis), PUBLISHED_WIDTHS), slab(5, axis))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.floats(0.3, 0.9))
def test_published_form_is_two_erosions_then_two_dilations(seed, share) -> None:
    noise = np.random.default_rng(seed).random((17, 14, 19))
    mask = ndimage.uniform_filter(noise, 3) < np.quantile(ndimage.uniform_filter(noise, 3), share)
    full = np.ones((3, 3, 3))
    eroded = ndimage.binary_erosion(mask, full, iterations=2)
    assert np.array_equal(
        opened(mask, PUBLISHED_WIDTHS), ndimage.binary_dilation(eroded, full, iterations=2)
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 4)] * 3))
def test_opening_is_an_opening(seed, widths) -> None:
    mask = np.random.default_rng(seed).random((9, 8, 11)) < 0.85
    once = opened(mask, widths)
    assert not (once & ~mask).any()
    assert np.array_equal(opened(once, widths), once)
    assert np.array_equal(opened(mask[::-1, :, ::-1], widths), once[::-1, :, ::-1])
    brute = ndimage.binary_opening(np.pad(mask, 5), np.ones(widths))[5:-5, 5:-5, 5:-5]
    assert np.array_equal(once, brute)


def test_nothing_and_too_small_open_to_nothing() -> None:
    assert not opened(np.zeros((4, 4, 4), bool), (2, 2, 2)).any()
    assert not opened(np.ones((4, 4, 4), bool), (5, 1, 1)).any()
    assert opened(np.ones((4, 4, 4), bool), (4, 4, 4)).all()


@pytest.mark.parametrize(
    ("spacing", "widths"),
    [
        ((1.5, 1.5, 1.5), (5, 5, 5)),
        ((0.8, 0.8, 5.0), (10, 10, 2)),
        ((0.75, 0.75, 2.5), (10, 10, 3)),
        ((8.0, 10.0, 7.5), (1, 1, 1)),
    ],
)
def test_millimetres_to_voxels(spacing, widths) -> None:
    assert widths_for(7.5, spacing) == widths


def test_millimetres_keep_a_region_of_20_mm_at_5_mm_slices() -> None:
    mask = slab(4)
    assert not opened(mask, PUBLISHED_WIDTHS).any()
    assert np.array_equal(opened(mask, widths_for(7.5, (1.5, 1.5, 5.0))), mask)


@pytest.mark.parametrize("spacing", [0.7, 1.0, 1.5, 2.5, 5.0])
def test_a_slab_stays_exactly_where_it_is_as_thick_as_the_box(spacing) -> None:
    for thickness in range(1, 13):
        stays = opened(slab(thickness), widths_for(7.5, (1.5, 1.5, spacing))).any()
        assert stays == (thickness * spacing >= 7.5 - 1e-9)


def test_bounding_box() -> None:
    mask = np.zeros((5, 6, 7), np.uint8)
    assert bounding_box(mask) is None
    mask[1, 2, 3] = mask[3, 2, 6] = 4
    assert bounding_box(mask) == (slice(1, 4), slice(2, 3), slice(3, 7))
