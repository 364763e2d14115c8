"""Probabilities of more structures than are held densely: less memory, the same labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import psutil
import pytest
from tests.models.tiny import body_ct, tiny

from atlas8k.core.errors import PredictionError
from atlas8k.core.memory import sparse_zeros
from atlas8k.models import predict, regrid
from atlas8k.models.predict import Predictor


def test_memory_is_taken_where_something_is_written() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    array = sparse_zeros((40, 100, 100, 1000), np.float16)  # 0.8 GB
    assert not array[7].any()  # reading takes nothing
    array[3, 50, 50] = 1
    assert process.memory_info().rss - before < 40e6
    assert array.sum() == 1000
    assert array[3, 50, 50].min() == 1
    assert sparse_zeros((0, 3), np.uint8).shape == (0, 3)


@pytest.fixture
def network() -> dict:
    """A network that is sure: its outputs are near 0 and 1."""
    made = tiny("unet")
    last = [key for key, value in made.state.items() if value.ndim == 5][-1]
    state = {**made.state, last: 40 * made.state[last]}
    return {"unet": dataclasses.replace(made, state=state)}


def test_labels_are_the_same_and_attention_nearly(network, monkeypatch) -> None:
    ct = body_ct((40, 36, 30))
    dense = Predictor(network, grid_mm=3.0).predict(ct)
    for module in (predict, regrid):
        monkeypatch.setattr(module, "MANY", 1)
    sparse = Predictor(network, grid_mm=3.0).predict(ct)
    assert sparse.probs.dtype == dense.probs.dtype
    assert len(np.unique(dense.label())) > 2
    assert np.array_equal(sparse.label(), dense.label())
    difference = np.abs(sparse.probs.astype(np.float32) - dense.probs)
    assert difference.max() <= regrid.FAINT
    assert sparse.sizes().total_ml == pytest.approx(dense.sizes().total_ml, rel=0.02)


def test_what_does_not_fit_is_refused_before_it_is_written(network, monkeypatch) -> None:
    for module in (predict, regrid):
        monkeypatch.setattr(module, "MANY", 1)
    monkeypatch.setattr("atlas8k.models.resources.SHARE_OF_FREE", 1e-9)
    with pytest.raises(PredictionError, match=r"probabilities need .* GB"):
        Predictor(network, grid_mm=3.0).predict(body_ct())
