"""Two labels compared a part at a time equal the comparison of the whole arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlas8k.core import volume as volume_module
from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti
from atlas8k.services.labels.comparison import Label, compare, proposed
from atlas8k.store import Review

GRID = Grid((13, 11, 17), np.diag([2.0, 2.0, 5.0, 1.0]))


def pair(folder: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Path, Path]:
    rng = np.random.default_rng(seed)
    one = np.zeros(GRID.shape, np.uint8)
    one[2:7, 2:8, 3:12] = rng.integers(0, 4, (5, 6, 9))
    two = one.copy()
    two[rng.random(GRID.shape) < 0.1] = 2
    two[3, 4, 5:9] = 7
    paths = [write_nifti(folder / f"{i}.nii.gz", a, GRID) for i, a in enumerate((one, two))]
    return one, two, paths[0], paths[1]


@pytest.mark.parametrize("part_bytes", [1 << 24, 13 * 11 * 3])
def test_equals_that_of_the_whole(
    tmp_path: Path, part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, first, second = pair(tmp_path)
    monkeypatch.setattr(volume_module, "PART_BYTES", part_bytes)
    found = {organ.organ: organ for organ in compare(first, second)}
    ids = {name: i for name, i in ORGAN_IDS.items() if ((one == i) | (two == i)).any()}
    assert set(found) == set(ids)
    for name, number in ids.items():
        a, b, got = one == number, two == number, found[name]
        assert got.first_ml == pytest.approx(a.sum() * 0.02)
        assert got.second_ml == pytest.approx(b.sum() * 0.02)
        assert got.differs_ml == pytest.approx((a != b).sum() * 0.02)
        assert got.dsc == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        for axis in range(3):
            counts = (a != b).sum(axis=tuple(i for i in range(3) if i != axis))
            assert counts[got.planes[axis]] == counts.max()


def test_the_same_label_is_shown_where_most_of_it_is(tmp_path: Path) -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[4:6, 3:5, 2:9] = 5
    array[4:9, 3:8, 7] = 5
    path = write_nifti(tmp_path / "a.nii.gz", array, GRID)
    (liver,) = compare(path, path)
    assert (liver.organ, liver.differs_ml, liver.dsc) == ("liver", 0.0, 1.0)
    assert liver.planes[2] == 7


def test_other_grids_are_refused(tmp_path: Path) -> None:
    _, _, first, _ = pair(tmp_path)
    other = write_nifti(
        tmp_path / "o.nii.gz", np.ones((5, 5, 5), np.uint8), Grid((5,) * 3, np.eye(4))
    )
    with pytest.raises(GridMismatchError):
        compare(first, other)


def question(kind: str, submission: int, other: int | None = None) -> Review:
    return Review(1, "v", kind, None, submission, other, 0.0)


@pytest.mark.parametrize(
    ("asked", "pair"),
    [
        ([question("conflict", 2, 1)], ("1", "2")),
        ([question("double_read", 2, 1)], ("1", "2")),
        ([question("dispute", 2)], ("public", "2")),
        ([question("sample", 2, 2)], ("draft-2", "2")),
        ([question("sample", 1)], ("pseudo", "2")),  # its draft is not known any more
        ([], ("pseudo", "2")),
    ],
)
def test_the_labels_that_a_question_is_about(asked: list[Review], pair: tuple[str, str]) -> None:
    texts = {
        "1": "submission 1",
        "2": "submission 2",
        "draft-2": "draft label",
        "public": "public label",
        "pseudo": "prediction",
    }
    if pair[0] == "pseudo":
        del texts["draft-2"]
    there = [Label(key, text, "", Path(key), key, key == "2") for key, text in texts.items()]
    assert proposed(there, asked) == pair
    assert proposed([], asked) == ("", "")
