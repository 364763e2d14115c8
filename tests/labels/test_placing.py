from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.labels.kit import GRID, SHAPE, TURNS, blocks, oblique, turned

from atlas8k.errors import GridMismatchError
from atlas8k.grid import Grid
from atlas8k.labels.placing import find_placement, place

# Every voxel is told from every other, so that one in a wrong place shows.
MARKED = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)


@pytest.mark.parametrize("grid", [GRID, oblique()], ids=["straight", "oblique"])
@pytest.mark.parametrize(("axes", "signs"), TURNS)
def test_each_of_the_48_orientations_lands_identically(
    grid: Grid, axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    array, found = turned(MARKED, grid, axes, signs)
    assert np.array_equal(place(array, found, grid), MARKED)


@pytest.mark.parametrize("box", blocks(SHAPE))
@pytest.mark.parametrize(("axes", "signs"), TURNS[::5])
def test_a_block_lands_where_it_was_cut_out(
    box: tuple[slice, slice, slice], axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    array, found = turned(MARKED[box], GRID.crop(box), axes, signs)
    due = np.zeros_like(MARKED)
    due[box] = MARKED[box]
    assert np.array_equal(place(array, found, GRID), due)


def moved(grid: Grid, axis: int, voxels: float) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, axis] * voxels
    return Grid(grid.shape, affine)


@given(axis=st.integers(0, 2), off=st.floats(0.011, 0.989), turn=st.sampled_from(TURNS))
def test_a_part_of_a_voxel_off_is_refused(
    axis: int, off: float, turn: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    box = (slice(1, 6), slice(1, 5), slice(1, 4))
    array, found = turned(MARKED[box], GRID.crop(box), *turn)
    with pytest.raises(GridMismatchError, match="voxels off"):
        place(array, moved(found, axis, off), GRID)


@pytest.mark.parametrize("axis", range(3))
def test_the_tolerance_is_a_hundredth_of_a_voxel_at_every_corner(axis: int) -> None:
    find_placement(moved(GRID, axis, 0.009), GRID)
    # The first corner is where it should be, the last is not.
    longer = GRID.affine.copy()
    longer[:3, axis] *= 1 + 0.011 / (SHAPE[axis] - 1)
    with pytest.raises(GridMismatchError):
        find_placement(Grid(SHAPE, longer), GRID)
    longer[:3, axis] = GRID.affine[:3, axis] * (1 + 0.009 / (SHAPE[axis] - 1))
    find_placement(Grid(SHAPE, longer), GRID)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (moved(GRID, 0, 1), "reaches out"),
        (moved(GRID, 2, -1), "reaches out"),
        (Grid((7, 6, 6), GRID.affine), "reaches out"),
        (moved(GRID, 1, 1e12), "far away"),
        (Grid(SHAPE, GRID.affine @ np.diag([2.0, 1, 1, 1])), "voxels off"),
        (Grid(SHAPE, GRID.affine @ np.array([[1, 0.1, 0, 0], *np.eye(4)[1:]])), "voxels off"),
        (oblique(), "voxels off"),
    ],
)
def test_another_place_is_refused_with_the_reason(found: Grid, word: str) -> None:
    with pytest.raises(GridMismatchError, match=word):
        place(np.zeros(found.shape, dtype=np.uint8), found, GRID)
