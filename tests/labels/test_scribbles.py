"""Maps of 3D Slicer's *Scribbles* panel: what they mean, and what lies under a scribble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas8k.core.errors import GridMismatchError, VolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti
from atlas8k.labels.scribbles import read_scribbles

GRID = Grid((12, 12, 12), np.diag([2.0, 2.0, 3.0, 1.0]))
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]
INFO = [
    {"name": "spleen", "id": 1},
    {"name": "liver", "id": 2},
    {"name": "background_scribbles", "id": 3},
    {"name": "foreground_scribbles", "id": 4},
    {"name": "my own", "id": 5},
]


def sent(folder: Path) -> tuple[Path, np.ndarray]:
    """A liver and a spleen, a foreground scribble that runs out of the liver over the spleen."""
    array = np.zeros(GRID.shape, np.uint8)
    array[1:6, 2:10, 2:10] = 2
    array[8:11, 2:10, 2:10] = 1
    array[0, 0, 0] = 5
    array[4:10, 5, 5] = 4
    array[2:4, 8, 5] = 3
    return write_nifti(folder / "map.nii.gz", array, GRID), array


def test_other_organs_under_a_scribble_are_those_that_were_given_out(tmp_path: Path) -> None:
    path, array = sent(tmp_path)
    given = np.zeros(GRID.shape, np.uint8)
    given[1:8, 2:10, 2:10] = LIVER  # more than the client has by now
    given[8:11, 2:10, 2:10] = SPLEEN
    read = read_scribbles(path, GRID, INFO, "Liver", given)
    assert read.organ.name == "liver"
    assert sorted(map(tuple, read.inside)) == [(x, 5, 5) for x in range(4, 10)]
    assert sorted(map(tuple, read.outside)) == [(x, 8, 5) for x in (2, 3)]
    assert list(read.label[4:10, 5, 5]) == [LIVER, LIVER, 0, 0, SPLEEN, SPLEEN]
    assert list(read.label[2:4, 8, 5]) == [LIVER, LIVER]
    hidden = np.isin(array, [3, 4])
    expected = np.select([array == 1, array == 2], [SPLEEN, LIVER], 0)
    assert np.array_equal(read.label[~hidden], expected[~hidden])


def test_without_a_label_given_out_nothing_lies_there_but_the_organ(tmp_path: Path) -> None:
    read = read_scribbles(sent(tmp_path)[0], GRID, INFO, "liver", None)
    assert list(read.label[4:10, 5, 5]) == [LIVER, LIVER, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("info", "selected", "says"),
    [
        (INFO, "fin", "is none of the structures"),
        (INFO, None, "is none of the structures"),
        (INFO[:2], "liver", r"values \[3, 4, 5\] have no name"),
        ([], "liver", "a list of {name, id} is needed"),
        ([{"name": "liver", "id": 0}], "liver", "ids 1 to 255"),
        ([{"name": "liver", "id": "2"}], "liver", "ids 1 to 255"),
        ([*INFO, {"name": "x", "id": 5}], "liver", "id 5 is given twice"),
    ],
)
def test_maps_that_cannot_be_meant(tmp_path: Path, info: Any, selected: Any, says: str) -> None:
    with pytest.raises(VolumeError, match=says):
        read_scribbles(sent(tmp_path)[0], GRID, info, selected, None)


def test_a_map_of_another_ct(tmp_path: Path) -> None:
    other = Grid((12, 12, 12), np.diag([2.0, 2.0, 2.5, 1.0]))
    with pytest.raises(GridMismatchError):
        read_scribbles(sent(tmp_path)[0], other, INFO, "liver", None)
