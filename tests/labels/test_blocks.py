from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.labels.kit import GRID, SHAPE, Labels, label, save_nifti, turned

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.labels.ingest import ingest
from atlas8k.labels.submission_diff import (
    add_rest_of_ct,
    compare_with_draft,
)

LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]
EVERY = [{"name": name, "idx": i} for name, i in ORGAN_IDS.items()]
BOX = (slice(0, 2), slice(1, 4), slice(2, 4))
"""Where :func:`label` draws its first two organs."""


def sent(folder: Path, array: Labels, box: tuple[slice, slice, slice], **more: object) -> object:
    path = save_nifti(folder / "label.nii.gz", array[box], GRID.crop(box))
    return ingest(path, GRID, EVERY, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_the_block_that_a_file_covers(tmp_path: Path, axes: tuple[int, ...]) -> None:
    array, grid = turned(label(LIVER, SPLEEN)[BOX], GRID.crop(BOX), axes, (1, -1, 1))
    assert ingest(save_nifti(tmp_path / "a.nii.gz", array, grid), GRID, EVERY).block == BOX
    array, grid = turned(label(LIVER, SPLEEN), GRID, axes, (1, -1, 1))
    assert ingest(save_nifti(tmp_path / "b.nii.gz", array, grid), GRID, EVERY).block is None


def test_a_block_that_holds_all_that_was_there_is_the_whole_label(tmp_path: Path) -> None:
    start, drawn = label(LIVER, SPLEEN), label(LIVER, SPLEEN)
    drawn[0, 1, 2] = SPLEEN
    submitted = sent(tmp_path, drawn, BOX)
    assert add_rest_of_ct(start, submitted, partial=None) is submitted  # type: ignore[arg-type]
    assert add_rest_of_ct(None, submitted, partial=None) is submitted  # type: ignore[arg-type]


def test_a_stamp_in_the_air_is_refused_and_a_part_is_taken_where_it_is_said(
    tmp_path: Path,
) -> None:
    start, stamp = label(LIVER, SPLEEN), np.zeros(SHAPE, np.uint8)
    stamp[5:7, 0:2, 0:2] = SPLEEN
    submitted = sent(tmp_path, stamp, (slice(5, 7), slice(0, 2), slice(0, 2)))
    with pytest.raises(GridMismatchError, match=r"liver 6, spleen 6.*partial") as refused:
        add_rest_of_ct(start, submitted, partial=None, path="label of a")  # type: ignore[arg-type]
    assert "2 x 2 x 2 of 7 x 6 x 5 voxels" in str(refused.value)
    part = add_rest_of_ct(start, submitted, partial=True)  # type: ignore[arg-type]
    assert np.array_equal(part.array, start + stamp)
    assert part.voxels["spleen"] == 6 + 8
    found = compare_with_draft(start, part)
    assert (found["liver"].state, found["spleen"].state) == ("not_assessed", "revised")
    alone = add_rest_of_ct(start, submitted, partial=False)  # type: ignore[arg-type]
    assert np.array_equal(alone.array, stamp)
    assert compare_with_draft(start, alone)["liver"].state == "absent"


def test_an_organ_said_to_be_absent_or_not_sent_needs_no_block_around_it(tmp_path: Path) -> None:
    start, drawn = label(LIVER, SPLEEN), label(LIVER)
    box = (slice(0, 1), *BOX[1:])
    gone = sent(tmp_path, drawn, box, absent=["spleen"])
    assert add_rest_of_ct(start, gone, partial=None, absent=frozenset({"spleen"})) is gone  # type: ignore[arg-type]
    part = add_rest_of_ct(start, gone, partial=True, absent=frozenset({"spleen"}))  # type: ignore[arg-type]
    assert np.array_equal(part.array, drawn)
    path = save_nifti(tmp_path / "ids.nii.gz", drawn[box], GRID.crop(box))
    unnamed = ingest(path, GRID)
    assert add_rest_of_ct(start, unnamed, partial=None) is unnamed


def test_a_whole_label_that_is_said_to_be_a_part_is_refused(tmp_path: Path) -> None:
    whole = sent(tmp_path, label(LIVER), (slice(0, 7), slice(0, 6), slice(0, 5)))
    with pytest.raises(GridMismatchError, match="covers the whole CT"):
        add_rest_of_ct(label(LIVER), whole, partial=True)  # type: ignore[arg-type]
