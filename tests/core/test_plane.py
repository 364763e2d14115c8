"""One plane of a volume equals that plane of the whole, in any axis, and memory is bounded."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from atlas8k.core import volume as volume_module
from atlas8k.core.errors import LabelValueError, UnreadableVolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.volume import read_ct, read_label, read_plane, write_nifti

GRID = Grid((7, 9, 11), np.array([[0, -2.0, 0, 5], [1.5, 0, 0, 3], [0, 0, 4, -8], [0, 0, 0, 1.0]]))


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    array = np.random.default_rng(1).integers(-900, 900, GRID.shape).astype(np.int16)
    return write_nifti(tmp_path / "ct.nii.gz", array, GRID)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("part_bytes", [1 << 24, 7 * 9 * 8 * 3])
def test_equals_the_plane_of_the_whole(
    ct: Path, axis: int, part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_module, "PART_BYTES", part_bytes)
    whole = read_ct(ct)
    for index in (0, 3, GRID.shape[axis] - 1):
        plane = read_plane(ct, axis, index)
        assert np.array_equal(plane.array, np.take(whole.array, index, axis=axis))
        assert plane.grid.same_as(whole.grid)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_of_a_label(tmp_path: Path, axis: int) -> None:
    array = np.random.default_rng(2).integers(0, 10, GRID.shape).astype(np.uint8)
    path = write_nifti(tmp_path / "label.nii.gz", array, GRID)
    plane = read_plane(path, axis, 2, label=True)
    assert plane.array.dtype == np.uint8
    assert np.array_equal(plane.array, np.take(read_label(path).array, 2, axis=axis))


def test_refusals(ct: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexError, match="11 planes"):
        read_plane(ct, 2, 11)
    with pytest.raises(LabelValueError):
        read_plane(ct, 2, 1, label=True)
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(ct.read_bytes()[:-40])
    with pytest.raises(UnreadableVolumeError):
        read_plane(cut, 2, 0)


@pytest.mark.parametrize("axis", [0, 2])
def test_memory_does_not_grow_with_the_volume(tmp_path: Path, axis: int) -> None:
    grid = Grid((128, 128, 600), np.eye(4))
    path = write_nifti(tmp_path / "ct.nii.gz", np.zeros(grid.shape, np.int16), grid)
    tracemalloc.start()
    try:
        read_plane(path, axis, 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Of a whole volume, 20 MB as it is stored and 39 as HU.
    assert peak < (20 << 20 if axis == 0 else 2 << 20)
