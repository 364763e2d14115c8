"""Error and attention regions: blocks and balls whose shares are known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from tests.benchmarks._quality_detection import (
    Detection,
    components,
    detect,
    mean_of,
    moved,
    off_surface,
    outline,
)

from atlas8k.core.errors import GridMismatchError

SHAPE = (40, 30, 20)
ML = 0.01


def block(*spans: tuple[int, int], shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in spans)] = True
    return mask


def test_a_shifted_block_is_wrong_only_beyond_the_margin():
    truth = block((10, 20), (5, 25), (5, 15))
    label = block((15, 25), (5, 25), (5, 15))
    wrong = label ^ truth
    # At 1.5 mm the first layer on either side lies within 2 mm, the second at 2.25 mm.
    found = off_surface(wrong, truth, (1.5, 1.5, 1.5))
    outside = block((21, 25), (5, 25), (5, 15))
    inside = block((11, 15), (6, 24), (6, 14))
    np.testing.assert_array_equal(found, outside | inside)


def test_distances_are_measured_in_mm_along_each_axis():
    truth = block((10, 20), (10, 20), (8, 12))
    wrong = ~truth
    # Slices of 6 mm: the next slice's centre is 3 mm away, farther than 2 mm.
    found = off_surface(wrong, truth, (1.0, 2.0, 6.0))
    assert found[15, 15, 12]
    assert found[15, 15, 7]
    # 1 mm: centres at 0.5 and 1.5 mm are near, the third at 2.5 mm is not.
    assert not found[20, 15, 10]
    assert not found[21, 15, 10]
    assert found[22, 15, 10]
    # 2 mm: 1 mm is near, 3 mm is not.
    assert not found[15, 20, 10]
    assert found[15, 21, 10]


def test_an_organ_that_is_not_there_has_no_surface():
    wrong = block((0, 5), (0, 5), (0, 5))
    np.testing.assert_array_equal(off_surface(wrong, np.zeros(SHAPE, bool), (1.5,) * 3), wrong)


def test_the_edge_of_the_array_is_no_surface():
    truth = np.ones(SHAPE, dtype=bool)
    wrong = block((0, 3), (0, 30), (0, 20))
    np.testing.assert_array_equal(off_surface(wrong, truth, (1.5,) * 3), wrong)


def test_no_margin_takes_off_nothing():
    truth = block((10, 20), (5, 25), (5, 15))
    wrong = block((20, 22), (5, 25), (5, 15))
    np.testing.assert_array_equal(off_surface(wrong, truth, (1.5,) * 3, margin_mm=0.0), wrong)


def test_masks_of_two_shapes_are_refused():
    with pytest.raises(GridMismatchError):
        off_surface(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), (1, 1, 1))


def test_components_touch_at_corners_and_have_a_least_size():
    mask = block((0, 5), (0, 5), (0, 2)) | block((5, 10), (5, 10), (2, 4))  # 50 + 50, touching
    mask |= block((20, 27), (0, 7), (0, 1))  # 49 voxels
    mask |= block((30, 35), (10, 15), (10, 12))  # 50 voxels: 0.5 ml
    found = components(mask, ML)
    assert sorted(len(region) for region in found) == [50, 100]
    everything = np.zeros(SHAPE, dtype=bool)
    for region in components(mask, ML, min_ml=0.0):
        everything[tuple(region.T)] = True
    np.testing.assert_array_equal(everything, mask)
    assert components(np.zeros(SHAPE, bool), ML) == []


def test_a_hit_covers_a_tenth_of_an_error_region():
    errors = components(block((0, 10), (0, 10), (0, 1)) | block((20, 30), (0, 10), (0, 1)), ML)
    attention = components(
        block((9, 12), (0, 10), (0, 1))  # exactly a tenth of the first: a hit
        | block((29, 35), (0, 9), (0, 1))  # 9 of 100 of the second: none
        | block((0, 10), (20, 30), (10, 12)),  # far away
        ML,
        min_ml=0.0,
    )
    found = detect(errors, attention, SHAPE, ML)
    np.testing.assert_allclose(sorted(found.covered), [0.09, 0.1])
    np.testing.assert_allclose(sorted(found.best), [0.0, 0.09, 0.1])
    assert found.sensitivity() == 0.5
    assert found.precision() == pytest.approx(1 / 3)
    assert found.sensitivity(0.09) == 1.0
    np.testing.assert_allclose(found.error_ml, [1.0, 1.0])


def test_two_small_regions_do_not_add_up_to_a_hit():
    errors = components(block((0, 10), (0, 10), (0, 2)), ML)
    attention = components(
        block((0, 1), (0, 10), (0, 1)) | block((5, 6), (0, 10), (0, 1)), ML, min_ml=0.0
    )
    found = detect(errors, attention, SHAPE, ML)
    np.testing.assert_allclose(found.covered, [0.05])
    assert found.sensitivity() == 0.0


def test_no_errors_give_no_sensitivity_but_a_precision():
    attention = components(block((0, 10), (0, 10), (0, 1)), ML)
    found = detect([], attention, SHAPE, ML)
    assert np.isnan(found.sensitivity())
    assert found.precision() == 0.0
    nothing = detect([], [], SHAPE, ML)
    assert np.isnan(nothing.precision())


def test_organs_are_joined_as_one_case():
    one = Detection(np.array([1.0]), np.array([1.0]), np.array([2.0]), np.array([0.0]))
    two = Detection(np.array([3.0]), np.array([0.0]), np.zeros(0), np.zeros(0))
    both = Detection.joined([one, two])
    assert both.sensitivity() == 0.5
    assert both.precision() == 0.0
    np.testing.assert_array_equal(both.error_ml, [1.0, 3.0])
    assert np.isnan(Detection.joined([]).sensitivity())


def test_the_control_keeps_sizes_and_finds_what_chance_finds():
    # One error fills a quarter of the places along X; attention is a column of its height.
    shape = (40, 3, 3)
    errors = components(block((0, 10), (0, 3), (0, 3), shape=shape), ML, min_ml=0.0)
    attention = [np.argwhere(block((20, 21), (0, 3), (0, 3), shape=shape))]
    places = np.array([[x, 1, 1] for x in range(40)])
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(2000):
        drawn = moved(attention, places, rng)
        assert len(drawn[0]) == 9
        hits.append(detect(errors, drawn, shape, ML).precision())
    assert np.mean(hits) == pytest.approx(0.25, abs=0.03)


def test_a_region_moved_beyond_the_array_covers_only_what_is_inside():
    errors = components(block((0, 2), (0, 10), (0, 5)), ML)  # 100 voxels
    attention = [np.argwhere(block((10, 14), (0, 10), (0, 5)))]
    out = moved(attention, np.array([[0, 4, 2]]), np.random.default_rng(0))
    assert out[0][:, 0].min() == -1
    assert detect(errors, out, SHAPE, ML).covered[0] == 1.0


def test_the_outline_of_a_block_is_its_shell():
    found = outline(block((5, 10), (5, 10), (5, 10)))
    assert len(found) == 5**3 - 3**3
    # At the edge of the array the outline goes on: there the organ is cut, not ended.
    assert len(outline(np.ones((4, 4, 4), bool))) == 4**3 - 2**3


def test_means_leave_out_cases_without_any():
    found = mean_of([1.0, float("nan"), 0.0])
    assert found == {"mean": 0.5, "sd": 0.5, "n": 2}
    assert mean_of([])["n"] == 0
