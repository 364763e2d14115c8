"""Weights and inputs that anybody can make again from a key's name: none are stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))


def tensor(key: str, shape: Sequence[int], gain: float = 1.4) -> torch.Tensor:
    """Float32 of a size that keeps a deep network's outputs moderate."""
    # A layer that a state dict holds under two names must be equal under both.
    name = key.replace("decoder.encoder.", "encoder.")
    name = name.replace("all_modules.0.", "conv.").replace("all_modules.1.", "norm.")
    values = generator(name).standard_normal(tuple(shape), dtype=np.float32)
    if key.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif len(shape) == 1 and key.endswith("weight"):
        values = 1 + 0.2 * values
    elif len(shape) < 2:
        values = 0.1 * values
    elif "embedding" not in key:
        gain = 0.6 if "controller" in key else gain  # it makes the weights of three layers
        values *= gain / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def state(
    keys: Mapping[str, Sequence[int]], given: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """A state dict; integer tensors (counters, indices) are taken from `given` or are 7."""
    given = given or {}
    return {
        key: given[key]
        if key in given
        else torch.tensor(7)
        if key.endswith("num_batches_tracked")
        else tensor(key, shape)
        for key, shape in keys.items()
    }


def image(name: str, shape: Sequence[int]) -> torch.Tensor:
    """``(1, 1, *shape)`` float32 in 0..1, smooth along every axis but not symmetric."""
    rng = generator(name)
    values = rng.random(tuple(shape), dtype=np.float32)
    for axis in range(len(shape)):
        values = (values + np.roll(values, 1, axis) + np.roll(values, 2, axis)) / 3
    return torch.from_numpy((values - values.min()) / (values.max() - values.min()))[None, None]


def sampled(array: Any) -> np.ndarray:
    """Every fourth voxel along the last three axes: a fixture stays small."""
    return np.asarray(array, dtype=np.float32)[..., 1::4, 1::4, 1::4]


def digest(value: torch.Tensor) -> str:
    return hashlib.sha256(
        np.ascontiguousarray(value.numpy().astype(np.int64)).tobytes()
    ).hexdigest()
