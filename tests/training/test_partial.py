"""What nobody labeled is kept by a fine-tuning, and is lost where it counts as background."""

from __future__ import annotations

import dataclasses

import torch

from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.models.checkpoint import network
from atlas8k.training.config import Optimiser, TrainingConfig
from atlas8k.training.loop import train_network
from atlas8k.training.validation import measure

from .conftest import tiny

CPU = torch.device("cpu")


def config(epochs: int, lr: float) -> TrainingConfig:
    return TrainingConfig(
        epochs=epochs,
        steps_per_epoch=25,
        workers=0,
        amp=False,
        averaging=0.9,
        optimisers={"unet": Optimiser(lr=lr, weight_decay=0)},
    )


def test_unlabeled_organs_are_kept_and_those_called_background_are_lost(case):
    seen = [case(f"seen{i}", i) for i in range(3)]
    others = [case(f"other{i}", 10 + i) for i in range(3)]
    good = train_network(tiny("unet"), seen, config(6, 1e-2))

    def spleen(checkpoint) -> float:
        return measure(network(checkpoint, CPU), checkpoint, others, CPU)["spleen"]

    before = spleen(good)
    assert before > 0.8
    known = tuple(organ for organ in ORGAN_NAMES if organ not in ("spleen", "aorta", "stomach"))
    partial = [case(f"partial{i}", 20 + i, known=known) for i in range(3)]
    masked = train_network(good, partial, config(2, 1e-3))
    assert spleen(masked) > before - 0.01
    claimed = [dataclasses.replace(one, known_organs=ORGAN_NAMES) for one in partial]
    assert spleen(train_network(good, claimed, config(2, 1e-3))) < before - 0.05
