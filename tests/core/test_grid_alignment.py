from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.labels.kit import GRID, SHAPE, TURNS, blocks, oblique, turned

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Form, Grid
from atlas8k.core.grid_alignment import find_placement, place, put

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


@given(axis=st.integers(0, 2), off=st.floats(0.051, 0.949), turn=st.sampled_from(TURNS))
def test_a_part_of_a_voxel_off_is_refused(
    axis: int, off: float, turn: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    box = (slice(1, 6), slice(1, 5), slice(1, 4))
    array, found = turned(MARKED[box], GRID.crop(box), *turn)
    with pytest.raises(GridMismatchError, match="voxels off"):
        place(array, moved(found, axis, off), GRID)


@pytest.mark.parametrize("axis", range(3))
def test_up_to_a_twentieth_of_a_voxel_at_every_corner_is_snapped_and_said(axis: int) -> None:
    near = find_placement(moved(GRID, axis, 0.049), GRID)
    assert (near.axes, near.flips, near.start) == ((0, 1, 2), (False,) * 3, (0, 0, 0))
    assert near.off_voxels == pytest.approx(0.049)
    assert near.note() == "its header is up to 0.049 voxels off the CT's; snapped"
    assert find_placement(GRID, GRID).note() == ""
    # The first corner is where it should be, the last is not.
    longer = GRID.affine.copy()
    longer[:3, axis] *= 1 + 0.051 / (SHAPE[axis] - 1)
    with pytest.raises(GridMismatchError):
        find_placement(Grid(SHAPE, longer), GRID)


@pytest.mark.parametrize(("axes", "signs"), TURNS[::7])
def test_a_stated_tolerance_snaps_more_and_never_half_a_voxel(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    box = (slice(1, 6), slice(1, 5), slice(1, 4))
    array, found = turned(MARKED[box], GRID.crop(box), axes, signs)
    due = np.zeros_like(MARKED)
    due[box] = MARKED[box]
    off = moved(found, 1, 0.3)
    placement = find_placement(off, GRID, tolerance=0.31)
    assert placement.off_voxels == pytest.approx(0.3)
    assert np.array_equal(put(array, placement, GRID), due)
    with pytest.raises(GridMismatchError, match=r"0\.3 voxels off"):
        find_placement(off, GRID, tolerance=0.29)


def known_as(grid: Grid, affine: np.ndarray, name: str = "qform") -> Grid:
    return Grid(grid.shape, grid.affine, (Form(name, affine),))


def test_a_whole_label_on_any_form_of_the_ct_lies_on_it_voxel_for_voxel() -> None:
    # A form that mirrors the other: by its affine alone the label would be turned.
    mirrored = GRID.affine @ np.diag([-1.0, 1, 1, 1])
    mirrored[:3, 3] += GRID.affine[:3, 0] * (SHAPE[0] - 1)
    shifted = moved(GRID, 0, 2.0).affine
    for other in (mirrored, shifted, oblique().affine):
        ct = known_as(GRID, other)
        for label in (Grid(SHAPE, other), Grid(SHAPE, GRID.affine), ct, known_as(ct, GRID.affine)):
            assert np.array_equal(place(MARKED, label, ct), MARKED)
        assert (
            find_placement(Grid(SHAPE, other), ct).note() == "it lies on the CT as its qform has it"
        )


def test_a_block_that_fits_two_forms_is_asked_about_unless_its_file_says_where_it_was_cut() -> None:
    box = (slice(2, 5), slice(1, 4), slice(1, 4))
    ct = known_as(GRID, moved(GRID, 0, 1.0).affine)
    block = GRID.crop(box)  # as the sform has it; as the qform has it, one voxel before
    with pytest.raises(GridMismatchError, match="the whole of it, not cropped"):
        find_placement(block, ct)
    assert find_placement(block, ct, start=(2, 1, 1)).start == (2, 1, 1)
    by_qform = find_placement(block, ct, start=(1, 1, 1))
    assert (by_qform.start, by_qform.form) == ((1, 1, 1), "qform")
    with pytest.raises(GridMismatchError, match="several places"):
        find_placement(block, ct, start=(0, 0, 0))
    # One that fits only one of them needs nothing said.
    first = GRID.crop((slice(0, 3), slice(1, 4), slice(1, 4)))
    assert find_placement(first, ct).start == (0, 1, 1)


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
