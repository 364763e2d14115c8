"""Parts of a volume: thinned, or a block; always voxels of the volume itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas8k.core.errors import LabelValueError
from atlas8k.core.grid import Grid
from atlas8k.core.parts import Part, block, fits, read_part, thinned, whole
from atlas8k.core.volume import write_nifti

SHAPES = st.tuples(*[st.integers(1, 60)] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 6.0)] * 3)


def grid(shape: tuple[int, int, int], spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Grid:
    return Grid(shape, np.diag([-spacing[0], spacing[1], spacing[2], 1.0]))


@given(SHAPES, SPACINGS, st.integers(1, 20_000))
def test_thinned_fits_and_lies_on_the_volume(
    shape: tuple[int, int, int], spacing: tuple[float, ...], most: int
) -> None:
    of = grid(shape, spacing)
    part = thinned(of, most)
    array = np.arange(math.prod(shape)).reshape(shape)
    assert fits(part.shape, most)
    assert array[part.slices].shape == part.shape
    last = [n - 1 for n in part.shape]
    there = part.grid(of).affine @ [*last, 1]
    index = [at * step for at, step in zip(last, part.step, strict=True)]
    assert np.allclose(there, of.affine @ [*index, 1])


@given(SHAPES, SPACINGS, st.integers(1, 20_000), st.data())
def test_a_block_holds_its_voxel_and_no_more_than_it_may(
    shape: tuple[int, int, int], spacing: tuple[float, ...], most: int, data: st.DataObject
) -> None:
    of = grid(shape, spacing)
    centre = [data.draw(st.integers(0, n - 1)) for n in shape]
    part = block(of, centre, most)
    assert math.prod(part.shape) <= most
    for one, at, n in zip(part.box, centre, shape, strict=True):
        assert 0 <= one.start <= at < one.stop <= n
    start = [one.start for one in part.box]
    assert np.allclose(part.grid(of).affine @ [0, 0, 0, 1], of.affine @ [*start, 1])


def test_sizes_by_hand() -> None:
    large = grid((512, 512, 600), (0.7, 0.7, 1.0))
    assert thinned(large, 32_000_000).shape == (256, 256, 300)
    assert thinned(large, 50_000_000).shape == (256, 256, 600)
    cube = block(large, (0, 256, 599), 32_000_000)
    mm = [n * one for n, one in zip(cube.shape, large.spacing, strict=True)]
    assert max(mm) - min(mm) < 1.1
    assert cube.box[0].start == 0
    assert cube.box[2].stop == 600
    assert thinned(grid((4000, 4, 4)), 10**9).step == (2, 1, 1)  # no texture is that long
    with pytest.raises(IndexError):
        block(large, (0, 0, 600), 1000)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_is_read_is_what_indexing_gives(tmp_path: Path, suffix: str) -> None:
    array = np.random.default_rng(0).integers(-1000, 2000, (31, 22, 19)).astype(np.int16)
    path = write_nifti(tmp_path / f"a{suffix}", array, grid(array.shape))
    for part in (
        whole(array.shape),
        thinned(grid(array.shape), 700),
        Part((slice(3, 17), slice(0, 22), slice(5, 18)), (2, 3, 5)),
    ):
        found = read_part(path, part)
        assert found.dtype == np.int16
        assert np.array_equal(found, array[part.slices])
    with pytest.raises(IndexError):
        read_part(path, Part((slice(0, 32), slice(0, 1), slice(0, 1))))


def test_numbers_of_other_kinds(tmp_path: Path) -> None:
    hu = np.full((4, 4, 4), 12.6, np.float64)
    hu[0, 0, 0], hu[1, 0, 0], hu[2, 0, 0] = np.nan, 1e9, -1e9
    path = write_nifti(tmp_path / "a.nii", hu, grid(hu.shape))
    found = read_part(path, whole(hu.shape))
    assert [int(n) for n in found[:, 0, 0]] == [0, 32767, -32768, 13]
    with pytest.raises(LabelValueError):
        read_part(path, Part((slice(3, 4),) * 3), label=True)
