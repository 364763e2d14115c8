"""Byte-quantised against float32 probabilities, as the embedded networks predict them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from abdomen_phantom import SHIFTED, STANDARD, generate
from atlas8k.attention import attention_sizes
from atlas8k.attention.sizes import AttentionSizes
from atlas8k.attention.slabs import quantise
from atlas8k.core.volume import Volume
from atlas8k.models.predict import Predictor
from atlas8k.models.store import ModelStore

MODELS = Path(__file__).parents[2] / "apps" / "atlas8k" / "model"
PHANTOMS = int(os.environ.get("ATLAS8K_PHANTOMS", "4"))
SEED = 77_100  # no network has seen it
SMALL_ML = 0.5
"""Below this a size of an organ is a few voxels: its error is looked at in ml."""


@pytest.fixture(scope="module")
def sizes() -> list[tuple[AttentionSizes, AttentionSizes]]:
    """Sums of float32 and of bytes, of half standard, half shifted CTs."""
    predictor = Predictor(ModelStore(MODELS).served())
    found = []
    for number in range(PHANTOMS):
        phantom = generate(SEED + number, (STANDARD, SHIFTED)[number % 2])
        prediction = predictor.predict(Volume(phantom.ct.array.astype(np.float32), phantom.ct.grid))
        networks = [network.astype(np.float32) for network in prediction.probs]
        exact = attention_sizes(networks, prediction.grid.voxel_ml)
        codes = quantise(prediction.probs)
        found.append((exact, attention_sizes(codes, prediction.grid.voxel_ml)))
    return found


@pytest.mark.slow
def test_sizes_agree_within_a_hundredth(sizes: list[tuple[AttentionSizes, AttentionSizes]]) -> None:
    for exact, coded in sizes:
        assert coded.total_ml == pytest.approx(exact.total_ml, rel=0.01)
        for organ, ml in exact.attention_ml.items():
            assert coded.attention_ml[organ] == pytest.approx(ml, rel=0.01, abs=0.01 * SMALL_ML)


@pytest.mark.slow
def test_the_order_is_the_same(sizes: list[tuple[AttentionSizes, AttentionSizes]]) -> None:
    exact = np.array([list(one.attention_ml.values()) for one, _ in sizes])
    coded = np.array([list(one.attention_ml.values()) for _, one in sizes])
    rho = spearmanr(exact.ravel(), coded.ravel()).statistic
    worst = (np.abs(coded - exact) / np.maximum(exact, SMALL_ML)).max()
    print(f"{len(sizes)} phantoms: rho {rho:.6f}, worst relative error {worst:.5f}")  # noqa: T201
    assert rho >= 0.999
    totals = exact.sum(axis=1)
    assert np.array_equal(np.argsort(totals), np.argsort(coded.sum(axis=1)))
