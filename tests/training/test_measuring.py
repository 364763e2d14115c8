"""Served and new networks side by side on the same cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from atlas8k.core.volume import read_grid, read_label, write_nifti
from atlas8k.models import predict
from atlas8k.models.networks import build
from atlas8k.models.predict import Predictor
from atlas8k.training import measuring
from atlas8k.training.measuring import measure_both

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
    cancelled = found.sets[frozenset({"unet"})]["a"]  # below the cut
    assert set(cancelled.values()) == {0.0}
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
    found = measure_both([broken, case("a")], served, {"unet": says(8)})
    assert set(found.failed) == {"b"}
    assert found.cases == 1
    assert found.unfit == {}
    assert found.warnings == ("1 case cannot be read; see the log",)


class Elsewhere:
    """The device, which is others' but while networks predict."""

    held = True

    def leave(self):
        self.held = False

    def take(self):
        self.held = True

    def give_way(self):
        raise AssertionError("it is left altogether")


def test_the_device_is_left_but_for_the_prediction(case, served, monkeypatch):
    place, seen = Elsewhere(), []

    def watched(name, real):
        def call(*arguments, **more):
            seen.append((name, place.held))
            return real(*arguments, **more)

        return call

    monkeypatch.setattr(measuring, "read_ct", watched("read", measuring.read_ct))
    monkeypatch.setattr(measuring, "dsc", watched("score", measuring.dsc))
    monkeypatch.setattr(Predictor, "predict", watched("predict", Predictor.predict))
    measure_both([case("a"), case("b", 1)], served, {"unet": says(8)}, shared_device=place)
    assert set(seen) == {("read", False), ("predict", True), ("score", False)}
    assert place.held


def failing(monkeypatch, *names, on=None):
    """Networks for which there is no memory; on the n-th CT only where that is said."""
    real, predict, n = Predictor._run, Predictor.predict, [0]

    def counted(self, ct):
        n[0] += 1
        return predict(self, ct)

    def run(self, name, array, keep):
        if name in names and on in (None, n[0]):
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return real(self, name, array, keep)

    monkeypatch.setattr(Predictor, "_run", run)
    monkeypatch.setattr(Predictor, "predict", counted)


def test_a_case_that_the_served_network_failed_on_is_no_pair(case, served, monkeypatch):
    failing(monkeypatch, "unet", on=1)
    found = measure_both([case("a"), case("b", 1)], served, {"unet": says(8)})
    before, after = found.single["unet"]
    assert set(before) == {"b"}
    assert set(after) == {"a", "b"}
    assert set(found.sets[frozenset()]) == {"b"}
    assert found.unfit == {}
    why = "not compared on 1 case, the served unet failed: RuntimeError: CUDA out of memory."
    assert found.warnings == (why,)


def test_a_new_network_that_fails_anywhere_is_unfit(case, served, monkeypatch):
    failing(monkeypatch, "unet (new)", on=2)
    found = measure_both([case("a"), case("b", 1)], served, {"unet": says(8), "second": says(8)})
    assert found.unfit == {"unet": "failed on 1 case: RuntimeError: CUDA out of memory."}
    assert set(found.single["unet"][1]) == {"a"}
    assert set(found.sets[frozenset({"second"})]) == {"a", "b"}
    assert set(found.sets[frozenset({"unet"})]) == {"a"}


@pytest.mark.parametrize("all_of_them", [False, True])
def test_nothing_is_said_of_networks_that_all_fail(case, served, monkeypatch, all_of_them):
    new = {"unet": says(8)}
    failing(monkeypatch, "unet", "unet (new)", *(["second"] if all_of_them else []))
    found = measure_both([case("a")], served, new)
    assert found.single["unet"] == ({}, {})
    assert found.cases == 0
    assert set(found.unfit) == {"unet"}
    assert found.failed == {}


def test_a_network_that_is_not_even_loaded_is_unfit(case, served, monkeypatch):
    real = predict.network

    def network(checkpoint, device):
        if checkpoint.organs == ("liver",):
            raise RuntimeError("CUDA out of memory")
        return real(checkpoint, device)

    monkeypatch.setattr(predict, "network", network)
    found = measure_both([case("a")], served, {"unet": small(says(8))})
    assert found.unfit == {"unet": "failed on 1 case: RuntimeError: CUDA out of memory"}


def small(made):
    architecture = {**made.architecture, "out_channels": 1}
    state = build(architecture).state_dict()
    return dataclasses.replace(made, architecture=architecture, organs=("liver",), state=state)
