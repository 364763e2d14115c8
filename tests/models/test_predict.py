"""One CT through real (tiny, random) networks: geometry, coverage, failures."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import torch
from tests.models.tiny import back, body_ct, tiny, turned

from atlas8k.core.errors import CheckpointError, PredictionError
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid, Volume
from atlas8k.models import predict
from atlas8k.models.body import whole
from atlas8k.models.ensemble import EnsembleSettings, mean_probability
from atlas8k.models.predict import Predictor
from atlas8k.models.regrid import nearest

ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(["LR", "PA", "IS"])
    for codes in itertools.product(*axes)
]
PLAIN = EnsembleSettings(largest_component=False)


@pytest.fixture(scope="module")
def predictor():
    networks = {"unet": tiny("unet"), "nnunet": tiny("nnunet", spacing=7.0, gain=30)}
    return Predictor(networks, grid_mm=6.0)


@pytest.fixture(scope="module")
def prediction(predictor):
    return predictor.predict(body_ct())


def test_the_arrays_are_what_they_say(predictor, prediction):
    assert prediction.names == predictor.names == ("unet", "nnunet")
    assert prediction.organs == ORGAN_NAMES
    assert prediction.probs.dtype == np.float16
    assert prediction.probs.shape == (2, 9, *prediction.grid.shape)
    assert prediction.grid.orientation == "RAS"
    assert prediction.grid.spacing == pytest.approx((6, 6, 6))
    assert 0 <= prediction.probs.min() < 0.1
    assert 0.9 < prediction.probs.max() <= 1
    means = np.stack([mean_probability(prediction.probs, prediction.covered, o) for o in range(9)])
    assert np.allclose(means, prediction.probs.astype(np.float32).mean(axis=0), atol=1e-6)
    assert not prediction.failures


def test_the_tests_below_have_something_to_lose(prediction):
    # Random networks on random tissue: several organs of some size, or the rest is idle.
    for model in (None, "unet", "nnunet"):
        counts = np.bincount(prediction.label(model, PLAIN).ravel(), minlength=10)[1:]
        assert (counts > 50).sum() >= 2, (model, counts)


@pytest.mark.parametrize("model", [None, "unet", "nnunet"])
def test_a_label_has_the_grid_of_the_ct(prediction, model):
    ct = body_ct()
    label = prediction.label_on(ct.grid, model)
    assert label.shape == ct.array.shape
    assert label.dtype == np.uint8
    assert set(np.unique(label)) <= set(range(10))


@pytest.mark.parametrize("spacing", [(6.0, 6.0, 6.0), (5.0, 5.0, 8.0)])
def test_the_axes_of_the_file_do_not_matter(predictor, spacing):
    ct = body_ct((22, 20, 18), spacing)
    expected = predictor.predict(ct).label_on(ct.grid)
    assert expected.any()
    for orientation in ORIENTATIONS:
        other = turned(ct, orientation)
        label = predictor.predict(other).label_on(other.grid)
        assert label.shape == other.grid.shape
        differing = (back(label, orientation) != expected).mean()
        # Voxels midway between two of the working grid may go to either side.
        assert differing == 0 if spacing[0] == 6 else differing < 0.02, orientation


def test_a_moved_patient_has_a_moved_label(predictor, prediction):
    ct = body_ct()
    affine = ct.grid.affine.copy()
    affine[:3, 3] += (250, -31, 77)
    moved = predictor.predict(Volume(ct.array, Grid(ct.grid.shape, affine)))
    assert np.allclose(moved.grid.affine[:3, 3] - prediction.grid.affine[:3, 3], (250, -31, 77))
    assert np.array_equal(moved.probs, prediction.probs)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((5, 6, 7), (6.0, 6.0, 6.0)),  # smaller than the window
        ((60, 60, 20), (2.0, 2.0, 5.0)),  # 20 thick slices
        ((50, 16, 33), (3.0, 9.0, 4.0)),
        ((2, 2, 2), (6.0, 6.0, 6.0)),
    ],
)
def test_unusual_shapes(predictor, shape, spacing):
    ct = body_ct(shape, spacing)
    found = predictor.predict(ct)
    assert found.label_on(ct.grid).shape == shape
    assert np.isfinite(found.probs).all()


def test_an_oblique_ct(predictor):
    ct = body_ct()
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = Volume(ct.array, Grid(ct.grid.shape, turn @ ct.grid.affine))
    label = predictor.predict(oblique).label_on(oblique.grid)
    assert np.array_equal(label, predictor.predict(ct).label_on(ct.grid))


def test_cutting_to_the_patient_changes_no_label(monkeypatch):
    # Air around the patient, enough for windows to be left out.
    small = body_ct((30, 26, 24))
    array = np.full((70, 40, 60), -1000, dtype=np.float32)
    array[4:34, 8:34, 30:54] = small.array
    ct = Volume(array, Grid(array.shape, small.grid.affine))
    networks = {"unet": tiny("unet", window=(16, 16, 16))}
    cut = Predictor(networks, grid_mm=6.0).predict(ct)
    monkeypatch.setattr(predict, "body_box", lambda ct: whole(ct.grid.shape))
    full = Predictor(networks, grid_mm=6.0).predict(ct)
    assert full.grid.shape == (70, 40, 60)
    assert np.prod(cut.grid.shape) < 0.3 * np.prod(full.grid.shape)
    inside = tuple(slice(*b) for b in ((6, 32), (10, 32), (32, 52)))
    expected = full.label_on(ct.grid, settings=PLAIN)[inside]
    found = cut.label_on(ct.grid, settings=PLAIN)[inside]
    assert (found != 0).mean() > 0.05
    body = ct.array[inside] > -500
    assert np.array_equal(found[body], expected[body])


def test_a_network_of_its_own_spacing_meets_the_others_on_one_grid():
    ct = body_ct((30, 26, 24), (3.0, 3.0, 3.0))
    for spacing in (3.0, 4.5, 9.0):
        found = Predictor({"unet": tiny("unet", spacing=spacing)}).predict(ct)
        assert found.grid.spacing == pytest.approx((1.5, 1.5, 1.5))
        center = nearest(found.label(settings=PLAIN), found.grid, ct.grid)
        assert center.shape == ct.array.shape


def test_a_network_for_some_organs_counts_for_those():
    organs = ("stomach", "liver")
    some = tiny("unet", organs=organs, seed=3)
    ct = body_ct()
    alone = Predictor({"some": some}, grid_mm=6.0).predict(ct)
    rows = [ORGAN_IDS[name] - 1 for name in organs]
    assert alone.organs == ("liver", "stomach")  # of the others nothing is kept
    assert (alone.covered.shape, alone.covered.all()) == ((1, 2), True)
    assert alone.probs[0].any(axis=(1, 2, 3)).all()
    both = Predictor({"unet": tiny("unet"), "some": some}, grid_mm=6.0).predict(ct)
    mean = np.stack([mean_probability(both.probs, both.covered, o) for o in range(9)])
    pair = both.probs[:, rows].astype(np.float32).mean(axis=0)
    assert np.allclose(mean[rows], pair, atol=1e-6)
    aorta = ORGAN_IDS["aorta"] - 1
    assert np.array_equal(mean[aorta], both.probs[0, aorta].astype(np.float32))
    # Who does not know the aorta has no say in it: no disagreement, the doubt of who does.
    sizes, own = both.sizes(), Predictor({"unet": tiny("unet")}, grid_mm=6.0).predict(ct).sizes()
    assert sizes.inconsistency_ml["aorta"] == pytest.approx(0, abs=1e-6)
    assert sizes.uncertainty_ml["aorta"] == pytest.approx(own.uncertainty_ml["aorta"], rel=1e-5)
    assert sizes.inconsistency_ml["liver"] > 1
    assert set(np.unique(both.label("some"))) <= {0, *(row + 1 for row in rows)}


def test_output_channels_reach_the_organ_they_stand_for():
    ct = body_ct()
    straight = tiny("unet", organs=("liver", "stomach"), seed=4)
    swapped = tiny("unet", organs=("stomach", "liver"), seed=4)
    one = Predictor({"n": straight}, grid_mm=6.0).predict(ct).probs[0]
    two = Predictor({"n": swapped}, grid_mm=6.0).predict(ct).probs[0]
    liver, stomach = 0, 1  # by id, those that are known
    assert np.array_equal(one[liver], two[stomach])
    assert np.array_equal(one[stomach], two[liver])
    assert not np.array_equal(one[liver], one[stomach])


def test_a_network_that_fails_leaves_the_others(caplog):
    # 15 voxels cannot be halved twice and joined again: MONAI's network itself fails.
    networks = {"unet": tiny("unet"), "nnunet": tiny("nnunet", window=(15, 15, 15))}
    ct = body_ct()
    with caplog.at_level(logging.ERROR):
        found = Predictor(networks, grid_mm=6.0).predict(ct)
    assert found.names == ("unet",)
    assert "nnunet" in found.failures
    assert "nnunet failed" in caplog.text
    alone = Predictor({"unet": tiny("unet")}, grid_mm=6.0).predict(ct)
    assert np.array_equal(found.probs, alone.probs)
    with pytest.raises(PredictionError, match=r"'nnunet' made no prediction: .*Error"):
        found.label("nnunet")
    with pytest.raises(PredictionError, match="'vnet' made no prediction: there are unet"):
        found.label("vnet")


def test_when_all_fail_that_is_said():
    networks = {"nnunet": tiny("nnunet", window=(15, 15, 15))}
    with pytest.raises(PredictionError, match=r"every network failed: .*nnunet"):
        Predictor(networks).predict(body_ct())


def test_no_network_at_all_and_no_such_device():
    with pytest.raises(CheckpointError, match="no network"):
        Predictor({})
    with pytest.raises(CheckpointError, match="unet"):
        Predictor({"unet": tiny("unet")}, device="cuda:99")
    with pytest.raises(ValueError, match="'half' is not one of float32, bfloat16"):
        Predictor({"unet": tiny("unet")}, precision="half")


def test_low_precision_stays_close():
    ct = body_ct()
    networks = {"unet": tiny("unet", gain=3)}
    full = Predictor(networks, grid_mm=6.0).predict(ct)
    low = Predictor(networks, grid_mm=6.0, precision="bfloat16").predict(ct)
    gap = np.abs(full.probs.astype(np.float32) - low.probs)
    assert 0 < gap.max() < 0.1
    assert gap.mean() < 0.005


def test_out_of_memory_means_fewer_windows_at_once(caplog):
    ct = body_ct()
    networks = {"unet": tiny("unet")}
    expected = Predictor(networks, grid_mm=6.0).predict(ct)
    predictor = Predictor(networks, grid_mm=6.0, batch=4)
    asked = []

    def short_of_memory(module, inputs):
        asked.append(len(inputs[0]))
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("8 GiB asked for")

    _, module = predictor._networks["unet"]
    module.register_forward_pre_hook(short_of_memory)
    with caplog.at_level(logging.WARNING):
        found = predictor.predict(ct)
    assert asked[:3] == [4, 2, 1]
    assert set(asked[2:]) == {1}
    assert "8 GiB asked for; going on with batch 2 on cpu" in caplog.text
    assert not found.failures
    assert np.abs(found.probs.astype(np.float32) - expected.probs).max() < 1e-3
