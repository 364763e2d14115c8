"""Tensors of a state dict: matched with a network by name and shape, and stored small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from atlas8k.errors import CheckpointError
from atlas8k.models.networks import build

LISTED = 8
"""At most so many keys of each kind are named in a refusal."""


class TensorMismatchError(ValueError):
    """A state dict is not that of the architecture; the message lists the differences."""


def fit(
    architecture: Mapping[str, Any], state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The state with the types and in the order of the architecture's own state dict.

    Raises
    ------
    TensorMismatchError
        The architecture cannot be built; tensors are missing, unexpected or of another
        shape; or hold NaN or infinity.
    """
    try:
        expected = layout(json.dumps(dict(architecture), sort_keys=True))
    except (CheckpointError, TypeError, ValueError) as err:
        raise TensorMismatchError(str(err)) from err
    problems = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
            for key, (shape, _) in expected.items()
            if key in state and state[key].shape != shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{len(v)} {k}: {listed(v)}" for k, v in problems.items() if v)
        raise TensorMismatchError(
            f"its tensors are not those of {architecture.get('name')}: {found}"
        )
    fitted = {key: state[key].to(dtype) for key, (_, dtype) in expected.items()}
    broken = [k for k, t in fitted.items() if t.is_floating_point() and not _finite(t)]
    if broken:
        raise TensorMismatchError(f"NaN or infinity in {listed(broken)}; train or copy it again")
    return fitted


def compact(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    """The tensor as it is stored: on the CPU, contiguous, owned, small.

    Weights (floats of two or more axes) become float16 if asked for and if they stay
    finite, integers int16 where that loses nothing.
    """
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        if half and tensor.ndim >= 2 and _finite(tensor.to(torch.float16)):
            tensor = tensor.to(torch.float16)
    elif tensor.dtype in (torch.int32, torch.int64):
        small = tensor.to(torch.int16)
        tensor = small if torch.equal(small.to(tensor.dtype), tensor) else tensor
    return tensor.contiguous().clone()


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """Floats as float32, what :func:`compact` made int16 as int64, the rest as it is."""
    if tensor.is_floating_point():
        return tensor.float()
    return tensor.long() if tensor.dtype == torch.int16 else tensor


@lru_cache(maxsize=32)
def layout(architecture: str) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Names, shapes and types of the tensors of a network.

    Parameters
    ----------
    architecture
        As JSON text, so that the answer can be kept.

    Raises
    ------
    CheckpointError
        It cannot be built.
    """
    state = build(json.loads(architecture)).state_dict()
    return {key: (tensor.shape, tensor.dtype) for key, tensor in state.items()}


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def listed(names: list[str]) -> str:
    """Names with commas between them, at most :data:`LISTED` and how many more."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
