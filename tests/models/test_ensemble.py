from __future__ import annotations

import numpy as np
import pytest

from atlas8k.core.components import largest_component
from atlas8k.core.weighting import Weights
from atlas8k.models.ensemble import (
    EnsembleSettings,
    label_map,
    mean_probability,
)

PLAIN = EnsembleSettings(largest_component=False)


def single(values):
    """Probabilities of one voxel: ``(models, organs)`` to ``(models, organs, 1, 1, 1)``."""
    return np.array(values, dtype=np.float32)[..., None, None, None]


def covered(probs, *missing):
    mask = np.ones(probs.shape[:2], dtype=bool)
    for model, organ in missing:
        mask[model, organ] = False
    return mask


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_mean_of_three(dtype):
    probs = single([[0.25], [0.5], [0.75]]).astype(dtype)
    assert mean_probability(probs, covered(probs), 0).item() == pytest.approx(0.5)


def test_the_mean_does_not_write_into_what_it_reads():
    probs = single([[0.25], [0.5], [0.75]])
    before = probs.copy()
    mean_probability(probs, covered(probs), 0)
    label_map(probs, covered(probs), [1])
    assert np.array_equal(probs, before)


def test_a_network_that_does_not_know_an_organ_has_no_say():
    probs = single([[0.9, 0.2], [0.8, 0.2], [0.0, 0.9]])
    mask = covered(probs, (2, 0), (0, 1), (1, 1))
    assert mean_probability(probs, mask, 0).item() == pytest.approx(0.85)
    assert mean_probability(probs, mask, 1).item() == pytest.approx(0.9)


def test_what_stands_where_a_network_knows_nothing_does_not_matter():
    probs = single([[0.9], [np.nan]])
    assert label_map(probs, covered(probs, (1, 0)), [5], PLAIN).item() == 5


def test_an_organ_no_network_knows_is_never_labeled():
    probs = single([[0.9, 0.6]])
    mask = covered(probs, (0, 0))
    assert mean_probability(probs, mask, 0) is None
    assert label_map(probs, mask, [1, 2], PLAIN).item() == 2


@pytest.mark.parametrize(
    ("means", "label"),
    [
        ([0.5, 0.2], 0),  # above the cut, not at it
        ([0.51, 0.2], 3),
        ([0.6, 0.7], 8),
        ([0.7, 0.6], 3),
        ([0.7, 0.7], 3),  # the first of equals
        ([0.4, 0.4], 0),
        ([1.0, 1.0], 3),
    ],
)
def test_the_cut_and_the_likeliest(means, label):
    probs = single([means])
    assert label_map(probs, covered(probs), [3, 8], PLAIN).item() == label


def test_the_order_of_the_networks_does_not_matter():
    rng = np.random.default_rng(0)
    probs = rng.random((3, 4, 9, 8, 7)).astype(np.float16)
    mask = covered(probs, (1, 2))
    expected = label_map(probs, mask, [1, 2, 3, 4])
    assert set(np.unique(expected)) == {0, 1, 2, 3, 4}
    for order in ([2, 0, 1], [1, 2, 0]):
        assert np.array_equal(label_map(probs[order], mask[order], [1, 2, 3, 4]), expected)


def test_the_label_map_is_what_its_definition_says():
    probs = np.random.default_rng(1).random((3, 4, 9, 8, 7)).astype(np.float32)
    mean = probs.mean(axis=0)
    expected = np.where(mean.max(axis=0) > 0.5, mean.argmax(axis=0) + 1, 0)
    assert np.array_equal(label_map(probs, covered(probs), [1, 2, 3, 4], PLAIN), expected)


def test_only_the_largest_piece_is_kept_and_the_next_organ_takes_the_rest():
    probs = np.zeros((1, 2, 12, 5, 5), dtype=np.float32)
    probs[0, 0, :5] = 0.9
    probs[0, 0, 8:10] = 0.9  # a second piece of organ 1
    probs[0, 1, 9] = 0.6  # partly claimed by organ 2
    found = label_map(probs, covered(probs), [1, 2])
    assert (found[:5] == 1).all()
    assert (found[8] == 0).all()
    assert (found[9] == 2).all()
    kept = label_map(probs, covered(probs), [1, 2], PLAIN)
    assert (kept[8:10] == 1).all()


def test_pieces_that_touch_at_a_corner_are_one():
    mask = np.zeros((4, 4, 4), dtype=bool)
    mask[:2, :2, :2] = mask[2:, 2:, 2:] = True
    assert largest_component(mask).sum() == 16
    mask[2:, 2:, 2:] = False
    mask[3, 3, 3] = True
    assert largest_component(mask).sum() == 8
    assert largest_component(np.zeros((3, 3, 3), dtype=bool)).sum() == 0


# --- weights and holes ---------------------------------------------------------------

NAMES = ("unet", "swin_unetr", "nnunet")


def weighted(text):
    return EnsembleSettings(largest_component=False, weights=Weights.parse(text))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_weighted_mean(dtype):
    probs = single([[0.25], [0.5], [0.75]]).astype(dtype)
    weights = np.array([[1.0], [0.0], [3.0]])
    assert mean_probability(probs, covered(probs), 0, weights).item() == pytest.approx(0.625)


def test_equal_weights_are_no_weights():
    probs = np.random.default_rng(0).random((3, 2, 4, 4, 4)).astype(np.float16)
    usual = mean_probability(probs, covered(probs), 1)
    for value in (1.0, 0.3):
        same = mean_probability(probs, covered(probs), 1, np.full((3, 2), value))
        np.testing.assert_allclose(same, usual, atol=1e-6)


def test_a_network_that_counts_nothing_is_not_looked_at():
    probs = single([[0.9], [np.nan], [0.7]])
    weights = np.array([[1.0], [0.0], [1.0]])
    assert mean_probability(probs, covered(probs), 0, weights).item() == pytest.approx(0.8)
    assert mean_probability(probs, covered(probs), 0, np.zeros((3, 1))) is None


def test_a_weight_for_one_organ_changes_that_organ_only():
    # two voxels: aorta in the first, gall bladder in the second; only nnunet sees them
    probs = np.zeros((3, 2, 2, 1, 1), dtype=np.float32)
    probs[2, 0, 0], probs[2, 1, 1] = 0.9, 0.9

    def found(text):
        return label_map(probs, covered(probs), [1, 2], weighted(text), NAMES).ravel().tolist()

    assert found("") == [0, 0]
    assert found("nnunet=10") == [1, 2]
    assert found("nnunet:aorta=10") == [1, 0]
    assert found("unet:gall_bladder=0,swin_unetr:gall_bladder=0.1") == [0, 2]


def test_weights_of_a_network_that_does_not_cover_an_organ_do_nothing():
    probs = single([[0.4], [0.9]])
    found = label_map(
        probs, covered(probs, (1, 0)), [1], weighted("swin_unetr=100"), ("unet", "swin_unetr")
    )
    assert found.item() == 0


def hollow():
    """A 7³ organ with a hole, a hole that another organ fills, and a cave open to the outside."""
    probs = np.zeros((1, 2, 11, 11, 11), dtype=np.float32)
    body = probs[0, 0]
    body[2:9, 2:9, 2:9] = 0.9
    body[4, 4, 4] = 0.1
    body[6, 6, 6], probs[0, 1, 6, 6, 6] = 0.1, 0.9
    body[5, 5, 2:4] = 0.1
    return probs


@pytest.mark.parametrize("fill", [False, True])
def test_only_holes_are_filled_and_nobody_elses_voxels(fill):
    probs = hollow()
    label = label_map(probs, covered(probs), [5, 2], EnsembleSettings(fill_holes=fill))
    assert label[4, 4, 4] == (5 if fill else 0)
    assert label[6, 6, 6] == 2
    assert label[5, 5, 2:4].tolist() == [0, 0]
    assert label[0].max() == 0
    assert np.count_nonzero(label == 5) == 7**3 - 4 + fill


def test_holes_of_a_piece_that_is_dropped_stay_empty():
    probs = np.zeros((1, 1, 20, 5, 5), dtype=np.float32)
    probs[0, 0, 0:10] = 0.9
    probs[0, 0, 12:17] = 0.9
    probs[0, 0, 14, 2, 2] = 0.1
    label = label_map(probs, covered(probs), [1], EnsembleSettings(fill_holes=True))
    assert not label[12:].any()


def test_settings_that_change_labels_are_said_for_the_model_version():
    assert EnsembleSettings().as_json() == {}
    every = EnsembleSettings(False, True, Weights.parse("unet=2"))
    assert every.as_json() == {
        "largest_component": False,
        "fill_holes": True,
        "ensemble_weights": "unet=2",
    }
