"""What a network is asked about a batch: people's labels, pseudo labels by their weight."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from atlas8k.training.config import TrainingConfig
from atlas8k.training.losses import Supervision, autocast
from atlas8k.training.patches import Batch

from .conftest import tiny

LIVER, SPLEEN = 5, 8
CPU = torch.device("cpu")


def batch(pseudo: bool) -> Batch:
    """A liver that somebody drew, and a spleen of the networks or of nobody."""
    label = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    label[0, :4] = LIVER
    if pseudo:
        label[0, 5:, :4] = SPLEEN
    known, guessed = torch.zeros(1, 9, dtype=torch.bool), torch.zeros(1, 9, dtype=torch.bool)
    known[0, LIVER - 1] = True
    guessed[0, SPLEEN - 1] = pseudo
    return Batch(torch.zeros(1, 1, 8, 8, 8), label, known, guessed)


def gradient(name: str, weight: float, given: Batch) -> tuple[float, torch.Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(1, tiny(name).out_channels, 8, 8, 8, requires_grad=True)
    loss = Supervision(tiny(name), TrainingConfig(pseudo_weight=weight), CPU).loss(
        logits, given, 0.0
    )
    loss.backward()
    assert logits.grad is not None
    return float(loss.detach()), logits.grad


@pytest.mark.parametrize("name", ["unet", "nnunet"])
def test_without_weight_a_pseudo_label_is_as_if_it_were_not_there(name: str) -> None:
    none, there = gradient(name, 0.0, batch(False)), gradient(name, 0.0, batch(True))
    assert none[0] == pytest.approx(there[0])
    assert torch.allclose(none[1], there[1])


@pytest.mark.parametrize("name", ["unet", "nnunet"])
def test_a_pseudo_label_counts_by_its_weight(name: str) -> None:
    none, half, full = (gradient(name, w, batch(True)) for w in (0.0, 0.5, 1.0))
    assert half[0] == pytest.approx((none[0] + full[0]) / 2)
    assert torch.allclose(half[1], (none[1] + full[1]) / 2, atol=1e-8)
    assert not torch.allclose(none[1], full[1])


def test_with_full_weight_it_is_a_label() -> None:
    given = batch(True)
    labeled = Batch(given.image, given.label, given.known | given.pseudo, given.pseudo & False)
    assert torch.equal(gradient("unet", 1.0, given)[1], gradient("unet", 0.0, labeled)[1])


@pytest.mark.parametrize("instructions", [True, False])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    instructions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Context(nullcontext):  # there is no GPU here to enter it on
        def __init__(self, kind: str, *, dtype: torch.dtype, enabled: bool) -> None:
            asked.append((kind, dtype, enabled))

    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or instructions

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch, "autocast", Context)
    for amp in (None, True, False):
        autocast(torch.device("cuda", 1), amp)
    kinds = [(kind, enabled) for kind, _, enabled in asked]
    assert kinds == [("cuda", instructions), ("cuda", True), ("cuda", False)]
