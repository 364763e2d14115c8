"""Measure a network on whole cases, on its own grid."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from atlas8k.core.structures import ORGAN_IDS, ORGANS
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.windows import probabilities, tile
from atlas8k.training.data import IGNORED, Loadable

logger = logging.getLogger(__name__)

OVERLAP = 0.25


def measure(
    module: torch.nn.Module,
    description: Checkpoint,
    cases: Sequence[Loadable],
    device: torch.device,
    aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    over: Callable[[], bool] = bool,
) -> dict[str, float]:
    """Return the mean DSC by organ over cases, on the network's grid.

    Parameters
    ----------
    module
        Network with the weights to measure, in eval mode.
    description
        Its preprocessing and activation.
    aside
        Returns the context in which a case is loaded; others have the device meanwhile.
    over
        Returns whether time is up; called after each case, and the rest are not measured then.

    Returns
    -------
    dict
        By organ name. Only organs that are known and present count; those that no case
        has are left out.
    """
    preprocessing = description.preprocessing
    scores: dict[str, list[float]] = defaultdict(list)
    ids = torch.tensor([ORGAN_IDS.get(organ, 0) for organ in description.organs])
    for number, case in enumerate(cases):
        if number and over():
            logger.info("time is up: measured on %d of %d cases", number, len(cases))
            break
        with aside():
            prepared = case.load(preprocessing)
        image = prepared.image.float().numpy()
        probs = probabilities(
            module,
            image,
            tile(image, preprocessing.window_for(image.shape), OVERLAP),
            channels=description.out_channels,
            softmax=description.activation == "softmax",
            device=device,
        )
        highest, organ = probs.max(dim=0)
        predicted = ids[organ] * (highest > 0.5) * (prepared.label != IGNORED)
        for known, o in zip(prepared.known.tolist(), ORGANS, strict=True):
            truth = prepared.label == o.id
            if known and bool(truth.any()):
                mask = predicted == o.id
                overlap = 2 * (mask & truth).sum()
                scores[o.name].append(float(overlap / (mask.sum() + truth.sum())))
    return {o.name: sum(scores[o.name]) / len(scores[o.name]) for o in ORGANS if o.name in scores}
