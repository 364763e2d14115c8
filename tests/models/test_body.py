from __future__ import annotations

import numpy as np
import pytest
from tests.models.tiny import turned

from atlas8k.core.grid_alignment import box_on
from atlas8k.core.volume import Grid, Volume
from atlas8k.models.body import MARGIN_MM, body_box, whole


def ct_with(*boxes, shape=(80, 70, 60), spacing=(2.0, 3.0, 5.0)):
    """Air at -1000 HU with noise, and boxes of 50 HU."""
    array = np.random.default_rng(0).normal(-1000, 60, shape).astype(np.float32)
    for box in boxes:
        array[tuple(slice(*b) for b in box)] = 50
    return Volume(array, Grid(shape, np.diag([*spacing, 1.0])))


def test_the_box_holds_the_body_with_its_margin_and_little_more():
    ct = ct_with(((20, 60), (20, 50), (10, 40)))
    found = body_box(ct)
    for box, (start, stop), spacing in zip(
        found, ((20, 60), (20, 50), (10, 40)), ct.grid.spacing, strict=True
    ):
        margin = int(np.ceil(MARGIN_MM / spacing))
        assert start - margin - 2 <= box.start <= start - margin
        assert stop + margin <= box.stop <= stop + margin + 2


def test_a_speck_and_a_thin_table_do_not_count_a_second_leg_does():
    body = ((10, 30), (10, 30), (10, 40))
    leg = ((50, 60), (10, 30), (10, 40))
    speck = ((74, 77), (60, 63), (50, 53))
    assert body_box(ct_with(body, speck)) == body_box(ct_with(body))
    assert body_box(ct_with(body, leg))[0].stop >= 60


def test_a_body_that_fills_the_volume_is_the_whole_volume():
    ct = ct_with(((0, 80), (0, 70), (0, 60)))
    assert body_box(ct) == whole((80, 70, 60))


@pytest.mark.parametrize("offset", [-1000.0, 5000.0])
def test_intensities_that_show_no_body_give_the_whole_volume(offset):
    ct = ct_with()
    assert body_box(Volume(ct.array + offset, ct.grid)) == whole((80, 70, 60))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIL", "SAR", "IPR"])
def test_a_box_on_another_grid_holds_the_same_space(orientation):
    body = ((20, 60), (20, 50), (10, 40))
    ct = turned(ct_with(body), orientation)
    for spacing in (1.5, 3.0, 7.0):
        grid = ct.grid.working(spacing)
        box = box_on(body_box(ct), ct.grid, grid)
        inner = grid.crop(box)
        low = inner.affine[:3, :3] @ np.full(3, -0.5) + inner.affine[:3, 3]
        high = low + np.asarray(inner.shape) * spacing
        for i, ((start, stop), s) in enumerate(zip(body, (2.0, 3.0, 5.0), strict=True)):
            assert low[i] <= (start - 0.5) * s - MARGIN_MM + 1e-6
            assert high[i] >= (stop - 0.5) * s + MARGIN_MM - 1e-6
            # at most the margin, one looked-at voxel and one of the grid's more
            assert low[i] >= (start - 0.5) * s - MARGIN_MM - 3 * s - spacing


def test_a_box_outside_the_grid_is_one_voxel_not_none():
    grid = Grid((4, 4, 4), np.eye(4))
    away = Grid((4, 4, 4), np.diag([1.0, 1, 1, 1]) + np.array([[0, 0, 0, 50]] + [[0] * 4] * 3))
    assert box_on(whole((4, 4, 4)), away, grid)[0] == slice(3, 4)
