"""Closed forms of Eq. 1 to 4."""

import math

import numpy as np
import pytest

from atlas8k.attention import equations
from atlas8k.core.errors import AttentionError


def voxel(*networks: tuple[float, ...]) -> np.ndarray:
    """Probabilities of one voxel, ``(models, organs, 1)``."""
    return np.asarray(networks, dtype=np.float32)[..., None]


def test_inconsistency_is_the_population_deviation_of_three() -> None:
    std = equations.inconsistency(voxel((0.0,), (1.0,), (1.0,)))
    assert std.item() == pytest.approx(math.sqrt(2) / 3, rel=1e-12)


def test_one_network_agrees_with_itself() -> None:
    assert equations.inconsistency(voxel((0.3, 0.9))).max() == 0


def test_uncertainty_of_two_voxels() -> None:
    p = np.array([[[1 / math.e, 0.5]]])
    assert equations.uncertainty(p)[0] == pytest.approx([1 / math.e, 0.5 * math.log(2)])


def test_uncertainty_is_the_mean_over_networks_and_zero_at_both_ends() -> None:
    p = np.array([0.0, 1.0, 0.25]).reshape(3, 1, 1)
    assert equations.uncertainty(p).item() == pytest.approx(0.25 * math.log(4) / 3)
    assert equations.uncertainty(np.array([0.0, 1.0]).reshape(1, 1, 2)).tolist() == [[0.0, 0.0]]


OVERLAPS = [
    # networks (rows) x three organs, expected per network, expected across networks
    ([(0.9, 0.1, 0.1), (0.1, 0.9, 0.1)], (0, 0, 0), (1, 1, 0)),
    ([(0.9, 0.9, 0.1), (0.1, 0.1, 0.1)], (1, 1, 0), (1, 1, 0)),
    ([(0.9, 0.9, 0.1), (0.1, 0.1, 0.9)], (1, 1, 0), (1, 1, 1)),
    ([(0.9, 0.1, 0.1), (0.9, 0.1, 0.1)], (0, 0, 0), (0, 0, 0)),
    ([(0.5, 0.9, 0.1), (0.5, 0.1, 0.1)], (0, 0, 0), (0, 0, 0)),
    ([(0.6, 0.6, 0.6), (0.0, 0.0, 0.0)], (1, 1, 1), (1, 1, 1)),
    ([(0.0, 0.0, 0.0), (0.0, 0.0, 0.0)], (0, 0, 0), (0, 0, 0)),
]


@pytest.mark.parametrize(("networks", "per_network", "across"), OVERLAPS)
def test_overlap_truth_table(networks, per_network, across) -> None:
    probs = voxel(*networks)
    assert tuple(equations.overlap(probs, "per_network")[:, 0]) == per_network
    assert tuple(equations.overlap(probs, "any")[:, 0]) == across


def test_overlap_needs_more_than_one_half() -> None:
    above = np.nextafter(np.float32(0.5), np.float32(1))
    assert equations.overlap(voxel((0.5, 1.0))).sum() == 0
    assert equations.overlap(np.array([[[above], [1.0]]], np.float32)).sum() == 2


def test_a_softmax_network_never_overlaps_itself() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 10, 500)) * 5
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert equations.overlap(softmax[:, 1:]).sum() == 0


def test_attention_is_the_sum() -> None:
    probs = np.random.default_rng(1).random((3, 4, 50))
    total = equations.inconsistency(probs) + equations.uncertainty(probs) + equations.overlap(probs)
    assert np.array_equal(equations.attention(probs), total)


def test_unknown_overlap_mode_names_the_modes() -> None:
    with pytest.raises(AttentionError, match="per_network"):
        equations.overlap(voxel((0.1,)), "both")  # type: ignore[arg-type]
