"""The outlines of a sweep: the planes that tell, each organ's edge where the organ is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.reports.test_thumbnail import CODES, files, opened

from atlas8k.core.errors import VolumeError
from atlas8k.core.structures import ORGANS
from atlas8k.core.volume import read_plane, read_planes, write_nifti
from atlas8k.reports.outlines import draw_outlines, telling
from atlas8k.reports.thumbnail import Spot


@pytest.mark.parametrize("codes", CODES)
def test_each_plane_has_the_organ_where_it_is(tmp_path: Path, codes: str) -> None:
    ct, label, _ = files(tmp_path, codes)
    sheet = opened(draw_outlines(ct, label))
    assert sheet.shape[1] == 400 + 8 + 400 + 8 + 300  # 80 mm wide, 60 mm deep
    near = sheet.max(axis=2) - sheet.min(axis=2) > 50
    assert np.abs(sheet[near].mean(axis=0) - np.array(ORGANS[4].color)).max() < 40
    for left, width, at in (
        (0, 400, 1 - 29 / 40),
        (408, 400, 1 - 29 / 40),
        (816, 300, 1 - 21 / 30),
    ):
        columns = np.nonzero(near[:, left : left + width])[1]
        assert len(columns) > 100
        # The outline, and nothing within.
        assert (columns.min() + columns.max()) / 2 / width == pytest.approx(at, abs=0.02)
        middle = (columns > columns.min() + 6) & (columns < columns.max() - 6)
        rows = np.nonzero(near[:, left : left + width])[0][middle]
        assert set(np.unique(rows)) <= {*range(rows.min(), rows.min() + 4)} | {
            *range(rows.max() - 3, rows.max() + 1)
        }


def test_a_small_organ_tells_as_much_as_a_large_one() -> None:
    array = np.zeros((60, 60, 60), np.uint8)
    array[:, :, 0:21] = 5
    array[30:36, 30:36, 18:24] = 2
    assert 18 <= telling(array)[2] < 21
    assert telling(np.zeros((10, 12, 14), np.uint8)) == {0: 5, 1: 6, 2: 7}


def test_the_place_to_look_at_is_one_of_the_planes(tmp_path: Path) -> None:
    ct, label, _ = files(tmp_path, "RAS")
    usual = opened(draw_outlines(ct, label))
    boxed = opened(draw_outlines(ct, label, Spot(2, 17, (0, 0, 17), (5, 5, 18))))
    assert np.abs(usual[:, :400] - boxed[:, :400]).max() > 100
    assert np.abs(usual[:, 408:] - boxed[:, 408:]).max() < 30
    assert opened(draw_outlines(ct, label, Spot(2, 99))).shape == usual.shape


def test_a_label_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    ct, label, grid = files(tmp_path, "RAS")
    array = np.zeros((40, 30, 19), np.uint8)
    write_nifti(label, array, type(grid)(array.shape, grid.affine))
    with pytest.raises(VolumeError):
        draw_outlines(ct, label)


def test_planes_of_one_pass_are_those_read_alone(tmp_path: Path) -> None:
    ct, label, _ = files(tmp_path, "PIR")
    for path, of_label in ((ct, False), (label, True)):
        found = read_planes(path, {0: 3, 1: 4, 2: 5}, label=of_label)
        for axis, plane in found.items():
            alone = read_plane(path, axis, 3 + axis, label=of_label)
            assert np.array_equal(plane.array, alone.array)
            assert plane.array.dtype == alone.array.dtype
    with pytest.raises(IndexError):
        read_planes(ct, {0: 0, 1: 999})
