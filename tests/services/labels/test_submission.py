"""Labels as clients send them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from atlas8k.core.errors import (
    EmptyVolumeError,
    GridMismatchError,
    LabelNameError,
    LabelValueError,
    UnreadableVolumeError,
    VolumeError,
)
from atlas8k.core.volume import Grid, Volume, to_canonical, write_nifti
from atlas8k.services.labels.ingest import ingest

SHAPE = (6, 5, 4)
GRID = Grid(SHAPE, np.diag([-2.0, 1.5, 3.0, 1.0]) + np.array([[0, 0, 0, 10.0]] * 3 + [[0] * 4]))


def label(*values: int) -> npt.NDArray[np.uint8]:
    array = np.zeros(SHAPE, dtype=np.uint8)
    for x, value in enumerate(values):
        array[x, 1:3, 1] = value
    return array


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return write_nifti(tmp_path / "case.nii.gz", array, GRID)


def save(folder: Path, array: npt.NDArray[np.uint8], grid: Grid = GRID) -> Path:
    return write_nifti(folder / "sent.nii.gz", array, grid)


def test_without_names_values_are_organ_ids(tmp_path: Path, ct: Path) -> None:
    sent = label(1, 5, 9)
    kept = ingest(ct, save(tmp_path, sent), {"client_id": "anna"})
    assert np.array_equal(kept.array, sent)
    assert kept.info["present"] == ["aorta", "liver", "stomach"]
    assert kept.info["client_id"] == "anna"
    assert list(kept.info["params"]["label_names"].values()) == list(range(1, 10))


def test_a_value_is_one_plus_the_position_in_the_list_not_idx(tmp_path: Path, ct: Path) -> None:
    # 3D Slicer counts the segments it left out in `idx`, but not in the exported map.
    info = [{"name": "spleen", "idx": 2}, {"name": "Left Kidney", "idx": 5}]
    kept = ingest(ct, save(tmp_path, label(1, 2)), {"label_info": info})
    assert np.array_equal(kept.array, label(8, 3))


def test_attention_regions_left_in_the_scene_are_refused_once_they_have_voxels(
    tmp_path: Path, ct: Path
) -> None:
    info = [{"name": "liver", "idx": 1}, {"name": "attention_liver", "idx": 2}]
    with pytest.raises(LabelNameError, match=r"segmentation of its own"):
        ingest(ct, save(tmp_path, label(1, 2)), {"label_info": info})
    kept = ingest(ct, save(tmp_path, label(1)), {"label_info": info})
    assert np.array_equal(kept.array, label(5))
    assert kept.info["read_by"] == "label_info"


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"label_info": [{"name": "liver"}, {"name": "heart"}]}, "heart"),
        ({"label_info": [{"name": "liver"}]}, "value 2"),
        ({"label_info": "liver"}, "label_info"),
        ({"label_info": [{"idx": 1}]}, "label_info"),
        ({"label_info": [1, 2]}, "label_info"),
        ({"absent": ["heart"]}, "absent"),
        ({"absent": "liver"}, "absent"),
        ({"absent": ["aorta"]}, "aorta has voxels"),
    ],
)
def test_names_that_mean_nothing_are_refused(
    tmp_path: Path, ct: Path, params: dict[str, object], word: str
) -> None:
    with pytest.raises(VolumeError, match=word):
        ingest(ct, save(tmp_path, label(1, 2)), params)


def test_values_that_mean_nothing_are_refused(tmp_path: Path, ct: Path) -> None:
    with pytest.raises(LabelValueError, match="10, 52"):
        ingest(ct, save(tmp_path, label(1, 10, 52)), {})


def test_an_empty_label_is_refused_unless_organs_are_said_to_be_absent(
    tmp_path: Path, ct: Path
) -> None:
    empty = save(tmp_path, label())
    with pytest.raises(EmptyVolumeError, match="absent"):
        ingest(ct, empty, {})
    kept = ingest(ct, empty, {"absent": ["Gallbladder"]})
    assert kept.info["absent"] == ["gall_bladder"]
    assert kept.info["present"] == []


def test_a_label_on_another_grid_is_refused(tmp_path: Path, ct: Path) -> None:
    shifted = Grid(SHAPE, GRID.affine + np.array([[0, 0, 0, 1.0]] + [[0] * 4] * 3))
    with pytest.raises(GridMismatchError, match="CT as reference volume"):
        ingest(ct, save(tmp_path, label(1), shifted), {})
    wider = Grid((6, 5, 5), GRID.affine)
    with pytest.raises(GridMismatchError, match="reaches out"):
        ingest(ct, save(tmp_path, np.pad(label(1), ((0, 0), (0, 0), (0, 1))), wider), {})


def test_the_same_voxels_with_other_axes_are_accepted(tmp_path: Path, ct: Path) -> None:
    turned = to_canonical(Volume(label(1, 2, 3), GRID))
    kept = ingest(ct, save(tmp_path, np.ascontiguousarray(turned.array), turned.grid), {})
    assert np.array_equal(kept.array, label(1, 2, 3))
    assert kept.grid.same_as(GRID)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b\x08\x00truncated"])
def test_what_is_no_nifti_is_refused(tmp_path: Path, ct: Path, content: bytes) -> None:
    path = tmp_path / "sent.nii.gz"
    path.write_bytes(content)
    with pytest.raises(UnreadableVolumeError):
        ingest(ct, path, {})
