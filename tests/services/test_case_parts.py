"""What the page of a case shows of a large CT, and how a block is laid into the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_grid, write_nifti
from atlas8k.services.case_parts import around, nearest, pasted, view_of

SHAPE = (12, 10, 8)
GRID = Grid(SHAPE, np.diag([-2.0, 2.0, 3.0, 1.0]))
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]


@pytest.fixture
def label(tmp_path: Path) -> Path:
    array = np.zeros(SHAPE, np.uint8)
    array[1:6, 2:8, 1:7] = LIVER
    array[8:11, 2:5, 5:8] = SPLEEN
    return write_nifti(tmp_path / "label.nii.gz", array, GRID)


def test_what_is_shown(tmp_path: Path) -> None:
    ct = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    stored = write_nifti(tmp_path / "a.nii.gz", ct.astype(np.int16), GRID)
    wide = write_nifti(tmp_path / "b.nii.gz", ct.astype(np.float32), GRID)
    of = read_grid(stored)
    assert view_of(stored, of, None, 960).as_stored
    assert not view_of(wide, of, (1, 1, 1), 960).as_stored
    assert view_of(stored, of, (1, 1, 1), 960).kind == "whole"
    assert view_of(stored, of, None, 959).kind == "thinned"
    found = view_of(stored, of, (11, 9, 7), 100)
    assert found.kind == "block"
    assert [one.stop for one in found.part.box] == list(SHAPE)


def test_the_nearest_voxel() -> None:
    assert nearest(GRID, (-4.2, 5.9, 9.2)) == (2, 3, 3)
    assert nearest(GRID, (500, -500, 500)) == (0, 0, 7)


def test_a_block_is_laid_in_and_the_rest_stays(tmp_path: Path, label: Path) -> None:
    part = view_of(label, GRID, (5, 5, 4), 200).part
    drawn = np.full(part.shape, SPLEEN, np.uint8)
    sent = write_nifti(tmp_path / "sent.nii.gz", drawn, part.grid(GRID))
    before = pasted(None, part, GRID, label)
    after = pasted(sent, part, GRID, label)
    assert (after[part.slices] == SPLEEN).all()
    before[part.slices] = SPLEEN
    assert np.array_equal(after, before)
    assert (pasted(sent, part, GRID, None) > 0).sum() == np.prod(part.shape)
    other = write_nifti(
        tmp_path / "other.nii.gz",
        drawn[1:],
        part.grid(GRID).crop(
            (slice(1, part.shape[0]), slice(0, part.shape[1]), slice(0, part.shape[2]))
        ),
    )
    with pytest.raises(GridMismatchError):
        pasted(other, part, GRID, label)


def test_what_is_around_a_block(tmp_path: Path, label: Path) -> None:
    view = view_of(label, GRID, (5, 5, 4), 200)
    begun = pasted(None, view.part, GRID, label)
    now = begun.copy()
    now[view.part.slices] = 0  # in the block: not of those around it
    now[0, 0, 0] = SPLEEN
    drawn = write_nifti(tmp_path / "drawn.nii.gz", now, GRID)
    found = around(drawn, label, view)
    outside = begun.copy()
    outside[view.part.slices] = 0
    assert found.changed == ["spleen"]
    assert found.voxels["liver"] == (outside == LIVER).sum() > 0
    assert found.voxels["spleen"] == (outside == SPLEEN).sum() + 1
    everything = around(drawn, None, view_of(label, GRID, None, 200))
    assert everything.voxels["spleen"] == (now == SPLEEN).sum()
    assert set(everything.changed) == {"liver", "spleen"} - (
        set() if (now == LIVER).any() else {"liver"}
    )
    assert around(None, label, view).changed == []
    assert around(None, None, view).voxels == {}
