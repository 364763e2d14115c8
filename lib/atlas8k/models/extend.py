"""Give a network outputs for further structures; what it knew, it predicts as before.

All layers keep their weights. The last ones get channels beside those that are there: these take
no part in the old outputs, and begin from random weights with an output that says "not here".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from atlas8k.core.errors import CheckpointError
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.networks import build

NOT_HERE = -4.0
"""Bias of a new output: a probability of 2 % until something is learnt."""
SEED = 0


def extend(checkpoint: Checkpoint, structures: Sequence[str]) -> Checkpoint:
    """Return a network that also has outputs for `structures`, after those that it has.

    Parameters
    ----------
    structures
        Names of structures in use that it does not know.

    Raises
    ------
    CheckpointError
        Its class has no last layer that can be widened; the network stays as it is.
    """
    new = [name for name in structures if name not in checkpoint.organs]
    if not new:
        return checkpoint
    architecture = _architecture(checkpoint, len(new))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = build(architecture)
    state = dict(module.state_dict())
    if state.keys() != checkpoint.state.keys():
        raise _unfit(checkpoint, "its tensors change with the number of outputs")
    layers = dict(module.named_modules())
    added = len(new)
    for name, old in checkpoint.state.items():
        fresh = state[name]
        if fresh.shape == old.shape:
            state[name] = old
            continue
        grown = [new - before for new, before in zip(fresh.shape, old.shape, strict=False)]
        if fresh.ndim != old.ndim or {*grown[:2]} - {0, added} or any(grown[2:]):
            raise _unfit(checkpoint, f"{name} is {tuple(old.shape)}, not a row an output")
        state[name] = _widened(old, fresh, layers[name.rpartition(".")[0]], name.endswith(".bias"))
    origin = {**checkpoint.origin, "extended_by": [*checkpoint.origin.get("extended_by", ()), *new]}
    return replace(
        checkpoint,
        architecture=architecture,
        organs=(*checkpoint.organs, *new),
        origin=origin,
        state=state,
    )


def _architecture(checkpoint: Checkpoint, added: int) -> dict[str, Any]:
    architecture = dict(checkpoint.architecture)
    architecture["out_channels"] = checkpoint.out_channels + added
    outputs = architecture.get("outputs")
    if outputs is not None:
        own = int(outputs["of"])
        take = [*outputs["take"], *([own + i] for i in range(added))]
        architecture["outputs"] = {"of": own + added, "take": take}
    return architecture


def _widened(
    old: torch.Tensor, fresh: torch.Tensor, layer: torch.nn.Module, is_bias: bool
) -> torch.Tensor:
    """Return a tensor with the old values in its first corner, and beside them fresh ones."""
    out = fresh.clone().to(old.dtype)
    if is_bias and isinstance(layer, torch.nn.Conv3d):
        out.fill_(NOT_HERE)
    elif old.ndim > 1:  # weights between channels: nothing of the new ones goes into the old
        outward = 1 if isinstance(layer, torch.nn.ConvTranspose3d) else 0
        inward = 1 - outward
        into_old = [slice(None)] * old.ndim
        into_old[outward] = slice(0, old.shape[outward])
        into_old[inward] = slice(old.shape[inward], None)
        out[tuple(into_old)] = 0.0
    out[tuple(slice(0, size) for size in old.shape)] = old
    return out


def _unfit(checkpoint: Checkpoint, why: str) -> CheckpointError:
    return CheckpointError(
        checkpoint.name, f"cannot be given outputs for further structures: {why}"
    )


def known_by(checkpoints: Mapping[str, Checkpoint]) -> frozenset[str]:
    """Return the structures that one of these networks knows."""
    return frozenset(organ for one in checkpoints.values() for organ in one.organs)
