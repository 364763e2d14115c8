from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas8k.core.voxels import counts, fill, in_file_order, joint_counts, renamed

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


def sparse(shape: tuple[int, int, int], seed: int, top: int, order: str) -> np.ndarray:
    """Half of it background in runs, as label maps are."""
    random = np.random.default_rng(seed)
    array = random.integers(0, top + 1, shape, dtype=np.uint8)
    array[: shape[0] // 2] = 0
    return np.asarray(array, order=order)  # type: ignore[call-overload]


@given(SHAPES, st.integers(0, 99), st.sampled_from("CF"), st.sampled_from("CF"))
def test_counts_are_those_of_numpy(
    shape: tuple[int, int, int], seed: int, one: str, other: str
) -> None:
    wide = sparse(shape, seed, 255, one)
    assert np.array_equal(counts(wide), np.bincount(wide.ravel(), minlength=256))
    for top in (9, 25, 255):
        first, second = sparse(shape, seed, top, one), sparse(shape, seed + 1, top, other)
        due = np.zeros((256, 256), dtype=int)
        np.add.at(due, (first.ravel(), second.ravel()), 1)
        assert np.array_equal(joint_counts(first, second), due)


@given(SHAPES, st.integers(0, 99), st.sampled_from("CF"))
def test_renaming_is_indexing_a_table(shape: tuple[int, int, int], seed: int, order: str) -> None:
    array = sparse(shape, seed, 255, order)
    table = np.random.default_rng(seed).permutation(256).astype(np.uint8)
    for background in (0, 7):
        table[0] = background
        new = renamed(array, table)
        assert np.array_equal(new, table[array])
        new[0] = 0  # and can be written to


@given(SHAPES, st.sampled_from(["u1", "<i2", ">f4"]), st.permutations([0, 1, 2]), st.booleans())
def test_the_order_of_a_file_changes_no_voxel(
    shape: tuple[int, int, int], kind: str, axes: list[int], turned: bool
) -> None:
    array = np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(kind)
    array = array.transpose(axes)[:: -1 if turned else 1]
    ordered = in_file_order(array)
    assert ordered.flags.f_contiguous
    assert ordered.dtype == array.dtype
    assert np.array_equal(ordered, array)
    assert in_file_order(ordered) is ordered


def test_counts_go_past_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas8k.core.voxels._BLOCK", 16)
    array = np.asfortranarray(sparse((5, 7, 3), 3, 9, "C"))
    assert np.array_equal(counts(array), np.bincount(array.ravel(), minlength=256))
    assert joint_counts(array, array).sum() == array.size
    assert not (joint_counts(array, array) - np.diag(np.diag(joint_counts(array, array)))).any()


@given(SHAPES, st.integers(0, 99), st.sampled_from("CF"), st.sampled_from("CF"))
def test_filling_leaves_what_is_there(
    shape: tuple[int, int, int], seed: int, one: str, other: str
) -> None:
    top, below = sparse(shape, seed, 9, one), sparse(shape, seed + 1, 9, other)
    before, kept = top.copy(), below.copy()
    shared = fill(top, below)
    assert np.array_equal(top, np.where(before == 0, below, before))
    assert np.array_equal(below, kept)
    due = joint_counts(before, below)
    due[0], due[:, 0] = 0, 0
    assert np.array_equal(shared, due)


def test_filling_needs_an_array_it_can_write_to() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        fill(np.zeros((4, 4, 4), dtype=np.uint8)[::2], np.ones((2, 4, 4), dtype=np.uint8))
