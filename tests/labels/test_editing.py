"""Pieces, organs taken from another label, shapes between slices: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from atlas8k.labels.editing import fill_between, keep_largest, take_organ

SHAPE = (40, 36, 21)


def disc(radius: float) -> np.ndarray:
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (x - 20) ** 2 + (y - 18) ** 2 <= radius**2


def test_the_largest_piece_stays_and_others_are_not_touched() -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[2:8, 2:8, 2:8] = 5
    label[20:22, 20:22, 2:4] = 5
    label[30:33, 30:33, 3:5] = 6
    made = keep_largest(label, 5)
    assert (made == 5).sum() == 6**3
    assert np.array_equal(made == 6, label == 6)


def test_an_organ_is_taken_from_another_label() -> None:
    label, other = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    label[:5], label[5:9] = 5, 6
    other[3:7], other[8:] = 5, 7
    made = take_organ(label, other, 5)
    assert np.array_equal(np.flatnonzero((made == 5).any(axis=(1, 2))), [3, 4, 5, 6])
    assert np.array_equal(np.flatnonzero((made == 6).any(axis=(1, 2))), [7, 8])
    assert not (made == 7).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cone_is_filled_between_its_ends(axis: int) -> None:
    """Between discs of radius 4 and 14 the radius grows evenly, whatever axis they lie along."""
    label = np.zeros(SHAPE, np.uint8)
    label[..., 0][disc(4)] = 5
    label[..., 10][disc(14)] = 5
    label[20, 18, 3] = 8
    turned, filled = fill_between(
        np.moveaxis(label, 2, axis), None, 5, axis, tuple(np.insert([1.0, 1.0], axis, 2.0))
    )
    made = np.moveaxis(turned, axis, 2)
    assert filled == 9
    for k in range(1, 10):
        radius = np.sqrt((made[..., k] == 5).sum() / np.pi)
        assert abs(radius - (4 + k)) < 0.6
    assert made[20, 18, 3] == 8
    assert not made[..., 11:].any()


def test_only_between_slices_that_were_drawn() -> None:
    before = np.zeros(SHAPE, np.uint8)
    before[disc(8)] = 5
    label = before.copy()
    label[..., 5][disc(12)] = label[..., 9][disc(12)] = 5
    made, filled = fill_between(label, before, 5, 2, (1.0, 1.0, 1.0))
    assert filled == 3
    for k in range(5, 10):
        assert np.array_equal(made[..., k] == 5, disc(12))
    assert np.array_equal(made[..., :5], label[..., :5])


def test_slices_far_apart_are_two_corrections() -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[..., 2][disc(4)] = label[..., 12][disc(4)] = 5
    assert fill_between(label, None, 5, 2, (1.0, 1.0, 3.1))[1] == 0
    assert fill_between(label, None, 5, 2, (1.0, 1.0, 2.9))[1] == 9


def test_between_slices_a_guide_bends_what_is_filled_and_the_drawn_ones_stay() -> None:
    shape = (30, 30, 9)
    x, y, z = np.indices(shape)
    bend = 4 * np.sin(np.pi * z / 8)
    truth = (x - 15 - bend) ** 2 + (y - 15) ** 2 <= 36
    label = np.zeros(shape, np.uint8)
    for k in (0, 8):
        label[:, :, k][truth[:, :, k]] = 5
    label[22:, 13:17, 4] = 7
    guide = (x - 15 - bend) ** 2 + (y - 15) ** 2 <= 16  # networks have it too small, but bent
    plain, _ = fill_between(label, None, 5, 2, (1.0, 1.0, 1.0))
    guided, filled = fill_between(label, None, 5, 2, (1.0, 1.0, 1.0), guide)
    assert filled == 7
    free = label != 7
    wrong = [((one == 5) ^ truth)[free].sum() for one in (plain, guided)]
    assert wrong[1] < 0.35 * wrong[0]
    assert np.array_equal(guided == 7, label == 7)
    for k in (0, 8):
        assert np.array_equal(guided[:, :, k], label[:, :, k])
    gap = guide & (z != 4)
    assert np.array_equal(fill_between(label, None, 5, 2, (1.0, 1.0, 1.0), gap)[0], plain)
