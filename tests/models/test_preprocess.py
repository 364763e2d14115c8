from __future__ import annotations

import itertools

import numpy as np
import pytest
from tests.models.tiny import body_ct, turned

from atlas8k.core.volume import Grid, Volume
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.models.preprocess import intensity_key, prepare

ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(["LR", "PA", "IS"])
    for codes in itertools.product(*axes)
]


def volume(array, spacing=(2.0, 2.0, 2.0)):
    return Volume(array, Grid(array.shape, np.diag([*spacing, 1.0])))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_window_maps_to_zero_and_one(dtype):
    values = np.array([-3024, -175, 0, 250, 20_000], dtype=dtype)
    array = np.broadcast_to(values[:, None, None], (5, 4, 3))
    out, grid = prepare(volume(array), Preprocessing((2, 2, 2), (-175, 250)))
    assert out.dtype == np.float32
    assert out.shape == grid.shape == (5, 4, 3)
    assert np.allclose(out[:, 1, 1], [0, 0, 175 / 425, 1, 1])


def test_the_ct_itself_is_left_alone():
    ct = body_ct()
    before = ct.array.copy()
    prepare(ct, Preprocessing((6, 6, 6)))
    prepare(ct, Preprocessing((4, 4, 4)))
    assert np.array_equal(ct.array, before)


def test_padding_and_metal_do_not_bleed():
    # Half 37.5 HU (the middle of the window), half far below it: interpolated at the
    # border, the result must be between 0 and one half, not 0 as with -3024 HU averaged in.
    array = np.full((8, 4, 4), 37.5, dtype=np.float32)
    array[4:] = -3024
    out, _ = prepare(volume(array), Preprocessing((3.2, 2, 2), (-175, 250)))
    centers = (np.arange(5) + 0.5) * 1.6 - 0.5
    expected = np.interp(centers, np.arange(8), [0.5] * 4 + [0] * 4)
    assert np.allclose(out[:, 1, 1], expected, atol=1e-6)


def test_a_linear_ramp_stays_a_linear_ramp():
    x, y, z = np.meshgrid(np.arange(30), np.arange(20), np.arange(24), indexing="ij")
    array = (2.0 * x + 3.0 * y - 1.0 * z).astype(np.float32)
    ct = volume(array, (1.0, 1.5, 2.0))
    out, grid = prepare(ct, Preprocessing((2, 2, 2), (-100, 200)))
    index = np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij")
    world = np.einsum("ij,jxyz->ixyz", grid.affine[:3, :3], np.array(index))
    world += grid.affine[:3, 3][:, None, None, None]
    expected = (2 * world[0] + 3 * world[1] / 1.5 - world[2] / 2 + 100) / 300
    inner = (slice(1, -1),) * 3
    assert np.allclose(out[inner], expected[inner], atol=1e-5)


@pytest.mark.parametrize("spacing", [6.0, 4.5])
def test_the_axes_of_the_file_do_not_matter(spacing):
    ct = body_ct((18, 15, 12))
    expected, expected_grid = prepare(ct, Preprocessing((spacing,) * 3))
    for orientation in ORIENTATIONS:
        out, grid = prepare(turned(ct, orientation), Preprocessing((spacing,) * 3))
        assert grid.same_as(expected_grid, 1e-6)
        assert np.array_equal(out, expected), orientation


def test_windows_and_overlap_do_not_ask_for_another_resampling():
    one = Preprocessing((3, 3, 3), window_size=(64, 64, 64), overlap=0.25)
    two = Preprocessing((3, 3, 3), window_size=(96, 96, 96))
    other = Preprocessing((3, 3, 3), hu_window=(-160, 240))
    assert intensity_key(one) == intensity_key(two) != intensity_key(other)
