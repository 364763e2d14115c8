from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlas8k.campaign.oracles import correct
from atlas8k.campaign.simulation import Truth, quality
from atlas8k.core.errors import EvaluationError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import write_nifti

LIVER, SPLEEN, AORTA = (ORGAN_IDS[name] for name in ("liver", "spleen", "aorta"))


def line(**organs: slice) -> np.ndarray:
    """A label map of ten voxels in a row."""
    made = np.zeros((10, 1, 1), np.uint8)
    for organ, where in organs.items():
        made[where] = ORGAN_IDS[organ]
    return made


def test_all_is_corrected_where_nothing_else_is_said() -> None:
    start = line(liver=slice(0, 4), aorta=slice(8, 9))
    truth = line(liver=slice(0, 5), spleen=slice(6, 8))
    made = correct(start, truth)
    assert (made.array == truth).all()
    assert made.corrected == ("aorta", "liver", "spleen")
    assert set(made.absent) == set(ORGAN_IDS) - {"liver", "spleen"}


def test_only_bad_organs_are_looked_at_where_that_is_said() -> None:
    start = line(liver=slice(0, 4), spleen=slice(6, 7), aorta=slice(8, 9))
    truth = line(liver=slice(0, 5), spleen=slice(6, 9))  # DSC 0.89 and 0.5
    made = correct(start, truth, 0.8)
    assert made.corrected == ("aorta", "spleen")
    assert (made.array == line(liver=slice(0, 4), spleen=slice(6, 9))).all()


def test_what_is_right_is_left_alone() -> None:
    truth = line(liver=slice(0, 5))
    for below in (None, 1.0):
        made = correct(truth, truth, below)
        assert made.corrected == ()
        assert (made.array == truth).all()


def test_a_corrected_organ_has_its_voxels_from_others() -> None:
    made = correct(line(liver=slice(0, 6)), line(liver=slice(0, 5), spleen=slice(5, 7)), 0.5)
    assert made.corrected == ("spleen",)
    assert (made.array == line(liver=slice(0, 5), spleen=slice(5, 7))).all()


def test_truth_on_another_grid_is_brought_onto_the_cts(tmp_path: Path) -> None:
    grid = Grid((4, 4, 2), np.diag([2.0, 2.0, 2.0, 1.0]))
    array = np.zeros(grid.shape, np.uint8)
    array[1:3] = LIVER
    write_nifti(tmp_path / "a.nii.gz", array, grid)
    truth = Truth(tmp_path)
    assert (truth.on("a", grid) == array).all()
    turned = Grid((4, 4, 2), np.diag([-2.0, 2.0, 2.0, 1.0]) + np.outer([6, 0, 0, 0], [0, 0, 0, 1]))
    assert (truth.on("a", turned) == array[::-1]).all()
    assert truth.missing(["a", "b"]) == ["b"]
    with pytest.raises(EvaluationError, match="no such folder"):
        Truth(tmp_path / "nowhere")


def test_quality_is_a_mean_of_organs_over_volumes_that_have_them() -> None:
    pairs = [
        ("a", (line(liver=slice(0, 4)), line(liver=slice(0, 4), spleen=slice(6, 8)))),
        ("b", (line(liver=slice(0, 2)), line(liver=slice(0, 6)))),
    ]
    found = quality(pairs, frozenset({"a", "gone"}))
    assert found.organs == {"liver": 0.75, "spleen": 0.0}
    assert (found.dsc, found.dsc_unreviewed) == (0.375, 0.5)
    assert (found.volumes, found.reviewed) == (2, 1)
    assert quality([], frozenset()).dsc is None
