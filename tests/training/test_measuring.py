"""Served and new networks side by side on the same cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from atlas8k.training.measuring import mean_of, measure_both
from atlas8k.volume import read_grid, read_label, write_nifti

from .conftest import tiny


def says(organ: int, name: str = "unet"):
    """A network that calls every voxel the same organ."""
    made = tiny(name)
    state = {key: torch.zeros_like(value) for key, value in made.state.items()}
    bias = [key for key in state if key.endswith("bias") and state[key].shape == (9,)][-1]
    state[bias] = torch.full((9,), -20.0)
    state[bias][organ - 1] = 20.0
    return dataclasses.replace(made, state=state)


def share(case, organ: int) -> float:
    """DSC of calling everything this organ."""
    label = read_label(case.label_path).array
    n = int((label == organ).sum())
    return 2 * n / (n + label.size)


@pytest.fixture
def served():
    return {"unet": says(5), "second": dataclasses.replace(says(5), name="second")}


def test_scores_of_both_and_of_every_ensemble(case, served):
    one = case("a")
    new = {"unet": says(8)}
    found = measure_both([one], served, new)
    before, after = found.single["unet"]
    # The body is everything in this CT, and nearly all of it is predicted.
    assert before["a"]["liver"] == pytest.approx(share(one, 5), abs=0.02)
    assert before["a"]["spleen"] == 0
    assert after["a"]["spleen"] == pytest.approx(share(one, 8), abs=0.02)
    assert after["a"]["liver"] == 0
    assert set(found.sets) == {frozenset(), frozenset({"unet"})}
    assert found.sets[frozenset()]["a"] == before["a"]
    assert mean_of(found.sets[frozenset({"unet"})]) == 0  # they cancel out below the cut
    assert found.cases == 1


def test_unknown_organs_and_open_voxels_do_not_count(case, served, tmp_path):
    one = dataclasses.replace(case("a"), known_organs=("liver", "aorta"))
    before, _ = measure_both([one], served, {"unet": says(5)}).single["unet"]
    assert set(before["a"]) == {"liver"}  # the spleen is unknown, the aorta is not there
    label = read_label(one.label_path).array
    mask = write_nifti(
        tmp_path / "open.nii.gz", (label != 5).astype(np.uint8), read_grid(one.ct_path)
    )
    ignoring = dataclasses.replace(one, ignore_path=mask)
    before, _ = measure_both([ignoring], served, {"unet": says(5)}).single["unet"]
    assert before["a"]["liver"] > 0.95  # every wrong voxel could have been right


def test_a_case_that_cannot_be_read_is_named_and_left_out(case, served, tmp_path):
    broken = dataclasses.replace(case("b"), ct_path=tmp_path / "gone.nii.gz")
    asked = []
    found = measure_both(
        [broken, case("a")], served, {"unet": says(8)}, between=lambda: asked.append(1)
    )
    assert set(found.failed) == {"b"}
    assert found.cases == 1
    assert len(asked) == 2
