"""The rankings' definitions; their order is the ledger's."""

import numpy as np
import pytest

from atlas8k.attention import (
    SalientSettings,
    attention_sizes,
    equations,
    pairwise_dice,
    salient_regions,
)
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid
from atlas8k.metrics.overlap import dsc


def test_the_three_rankings_are_as_defined() -> None:
    grid = Grid((24, 20, 16), np.diag([1.5, 1.5, 1.5, 1.0]))
    rng = np.random.default_rng(5)
    probs = (rng.random((3, 9, 24, 20, 16)) ** 4).astype(np.float16)
    probs[:, 2] = 0  # an organ nobody sees has no largest value to divide by
    salient = salient_regions(probs, grid, SalientSettings(opening_mm=0.0))
    scores = salient.sizes.per_slice_ml(grid.shape[2])
    eq4 = equations.attention(probs)
    per_slice = [m.sum() / m.max() / 16 if m.max() else 0.0 for m in eq4]
    any_salient = (
        (equations.inconsistency(probs) > 0.1)
        | (equations.uncertainty(probs) > 0.05)
        | (equations.overlap(probs) > 0)
    )
    ml = grid.voxel_ml
    assert salient.sizes.total_ml == pytest.approx(eq4.sum() * ml, rel=1e-5)
    assert sum(scores.values()) == pytest.approx(sum(per_slice) * ml, rel=1e-5)
    assert sum(salient.salient_ml.values()) == pytest.approx(any_salient.sum() * ml, rel=1e-5)
    assert scores["kidney_left"] == 0
    assert set(scores) == set(salient.salient_ml) == set(ORGAN_NAMES)


def test_thin_slices_do_not_rank_higher() -> None:
    probs = (np.random.default_rng(1).random((3, 9, 12, 12, 12)) ** 3).astype(np.float16)
    thin = np.repeat(probs, 3, axis=4)
    ml = 0.01
    assert attention_sizes(thin, ml / 3).total_ml == pytest.approx(
        attention_sizes(probs, ml).total_ml, rel=1e-5
    )


def test_pairwise_dice_is_that_of_the_pairs() -> None:
    a, b, c = (np.zeros((4, 4, 4), dtype=np.uint8) for _ in range(3))
    liver, aorta, spleen = (ORGAN_IDS[name] for name in ("liver", "aorta", "spleen"))
    a[0, 0, :], b[0, 0, :2], c[0, 0, :2] = liver, liver, liver  # 4, 2 and 2 voxels
    a[1, 0, 0] = b[1, 0, 0] = c[1, 0, 1] = aorta
    c[2] = spleen  # found by one only
    found = pairwise_dice(np.stack([a, b, c]), ORGAN_NAMES)
    assert found["liver"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert found["aorta"] == pytest.approx(1 / 3)
    # Two pairs of which one found it, and two networks that agree on there being none.
    assert found["spleen"] == pytest.approx(1 / 3)
    assert found["pancreas"] is None


def test_those_that_do_not_know_an_organ_do_not_differ_in_it() -> None:
    labels = np.zeros((3, 10, 1, 1), np.uint8)
    labels[:, :4] = 5
    labels[1, 3] = 0
    labels[0, 6:8] = 8  # the spleen is known to the first alone
    knows = [("liver", "spleen"), ("liver",), ()]
    found = pairwise_dice(labels, ("liver", "spleen"), knows)
    assert found == {"liver": pytest.approx(6 / 7), "spleen": None}
    assert pairwise_dice(labels, ("spleen",))["spleen"] == pytest.approx(1 / 3)


def test_one_network_has_nobody_to_differ_from() -> None:
    label = np.full((1, 4, 4, 4), ORGAN_IDS["liver"], dtype=np.uint8)
    assert pairwise_dice(label, ORGAN_NAMES)["liver"] is None
    empty = pairwise_dice(np.zeros((3, 4, 4, 4), np.uint8), ORGAN_NAMES)
    assert set(empty.values()) == {None}


def test_pairwise_dice_is_the_metric_package_s() -> None:
    labels = np.random.default_rng(3).integers(0, 10, (3, 6, 7, 8)).astype(np.uint8)
    pairs = [dsc(labels[i], labels[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    found = pairwise_dice(labels, ORGAN_NAMES)
    assert list(found.values()) == pytest.approx(list(np.mean(pairs, axis=0)))


def test_the_entropy_is_that_of_the_networks_mean() -> None:
    # Certain, and of two minds: no entropy in any network, all of it in their mean.
    probs = np.zeros((2, 9, 4, 4, 4), dtype=np.float16)
    probs[0, 0] = 1
    sizes = attention_sizes(probs, 0.5)
    assert sizes.uncertainty_ml["aorta"] == 0
    assert sizes.mean_entropy_ml["aorta"] == pytest.approx(64 * 0.5 * 0.5 * np.log(2), rel=1e-5)
    assert sizes.mean_entropy_ml["liver"] == 0
