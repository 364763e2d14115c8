"""The torch form of the sums equals the reference, on every device there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.attention.reference import exact_sizes

from atlas8k.attention.slabs import quantise
from atlas8k.core.errors import AttentionError
from atlas8k.models import attention_on_device
from atlas8k.models.attention_on_device import attention_sizes_on

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
FIGURES = (
    "inconsistency_ml",
    "uncertainty_ml",
    "overlap_per_network_ml",
    "overlap_any_ml",
    "mean_entropy_ml",
    "peak",
    "attention_ml",
)


def probabilities(seed: int = 0, shape: tuple[int, ...] = (17, 12, 9)) -> np.ndarray:
    """Mostly near 0 and 1, with exact zeros, ones and halves."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.2, 0.6, (3, 9, *shape)).astype(np.float32)
    for value in (0.0, 0.5, 1.0):
        p[rng.random(p.shape) < 0.1] = value
    return p


def same(found, expected, rel: float = 1e-5) -> None:
    for name in FIGURES:
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=rel, abs=1e-9)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("overlap", ["per_network", "any"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_it_equals_the_reference(device: str, overlap, dtype) -> None:
    probs = probabilities().astype(dtype)
    expected = exact_sizes(probs, 0.003375, overlap)
    same(attention_sizes_on(device, probs, 0.003375, overlap=overlap), expected)
    same(
        attention_sizes_on(device, torch.from_numpy(probs).to(device), 0.003375, overlap=overlap),
        expected,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_bytes_give_what_bytes_give_elsewhere(device: str) -> None:
    codes = quantise(probabilities(1), floor=0.01)
    assert codes.lost.any()
    same(attention_sizes_on(device, codes, 0.5), exact_sizes(codes, 0.5))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("elements", [1, 3 * 9 * 12 * 9 * 4, 1 << 24])
def test_slabs_change_nothing(device: str, elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    probs = probabilities(2)
    expected = attention_sizes_on("cpu", probs, 1.0)
    monkeypatch.setattr(attention_on_device, "SLAB_ELEMENTS", elements)
    same(attention_sizes_on(device, probs, 1.0), expected, 1e-6)


def test_one_network_agrees_with_itself() -> None:
    sizes = attention_sizes_on("cpu", probabilities(3)[:1], 1.0)
    assert sum(sizes.inconsistency_ml.values()) == 0
    assert sum(sizes.uncertainty_ml.values()) > 0


@pytest.mark.parametrize(
    ("value", "text"), [(np.nan, "NaN"), (1.01, "1.01"), (-0.01, "-0.01"), (np.inf, "inf")]
)
def test_what_is_no_probability_is_refused_by_name(value: float, text: str) -> None:
    probs = probabilities()
    probs[1, 4, 16, 3, 2] = value
    with pytest.raises(AttentionError, match=rf"case 7: .*{text}"):
        attention_sizes_on("cpu", probs, 1.0, name="case 7")


def test_rounding_beyond_one_is_taken_as_one() -> None:
    probs = probabilities()
    rounded = np.where(probs == 1, np.float32(1.00005), probs)
    same(attention_sizes_on("cpu", rounded, 1.0), attention_sizes_on("cpu", probs, 1.0))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, 8, 4, 4, 4), np.float32),
        np.zeros((9, 4, 4, 4), np.float32),
        np.zeros((0, 9, 4, 4, 4), np.float32),
        np.zeros((3, 9, 4, 4, 4), np.int16),
    ],
)
def test_other_shapes_and_types_are_refused_by_name(bad: np.ndarray) -> None:
    with pytest.raises(AttentionError, match="case 7"):
        attention_sizes_on("cpu", bad, 1.0, name="case 7")
