"""Tensors of a file against the tensors a network needs: by name, counted, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atlas8k.errors import CheckpointError
from atlas8k.models.tensors import layout, listed

Change = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Want:
    """A tensor that a file must have.

    Attributes
    ----------
    shape
        In the file.
    target
        Name in our network; ``None``: the network does not need it.
    change
        From the file's tensor to ours.
    same_as
        Name of the tensor in the file that this one repeats.
    """

    shape: tuple[int, ...]
    target: str | None = None
    change: Change | None = None
    same_as: str | None = None


def wanted(architecture: Mapping[str, Any], prefix: str = "") -> dict[str, Want]:
    """What a file must have whose names are those of our network, `prefix` before them.

    Raises
    ------
    CheckpointError
        The architecture cannot be built.
    """
    shapes = layout(json.dumps(dict(architecture), sort_keys=True))
    return {prefix + key: Want(tuple(shape), key) for key, (shape, _) in shapes.items()}


def match(
    path: Path, what: str, found: Mapping[str, torch.Tensor], table: Mapping[str, Want]
) -> dict[str, torch.Tensor]:
    """Our network's state from a file's.

    Parameters
    ----------
    path, what
        The file and the network it should hold, for the refusal.
    found
        The file's tensors.
    table
        What it must have, no more and no less.

    Raises
    ------
    CheckpointError
        Lists the tensors that are missing, unexpected, of another shape, or differ from
        the one they repeat.
    """
    problems = {
        "missing": [key for key in table if key not in found],
        "unexpected": [key for key in found if key not in table],
        "of another shape": [
            f"{key} {tuple(found[key].shape)} instead of {want.shape}"
            for key, want in table.items()
            if key in found and tuple(found[key].shape) != want.shape
        ],
    }
    if not any(problems.values()):
        problems["different from the tensor they repeat"] = [
            key
            for key, want in table.items()
            if want.same_as is not None and not torch.equal(found[key], found[want.same_as])
        ]
    if any(problems.values()):
        matched = len(table) - len(problems["missing"]) - len(problems["of another shape"])
        listing = "; ".join(f"{len(v)} {k}: {listed(v)}" for k, v in problems.items() if v)
        raise CheckpointError(
            path, f"is no {what}: {matched} of {len(table)} tensors match; {listing}"
        )
    state = {}
    for key, want in table.items():
        if want.target is not None:
            tensor = found[key]
            tensor = tensor.float() if tensor.is_floating_point() else tensor
            state[want.target] = tensor if want.change is None else want.change(tensor)
    return state
