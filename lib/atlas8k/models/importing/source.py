"""Tensors of a published file, read without running code that the file brings."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from atlas8k.errors import CheckpointError
from atlas8k.models.sets import file_sha256

PLACES = ("net", "network_weights", "state_dict", "model_state_dict", "model")
"""Where files keep their state dict, the first that is there."""
PREFIXES = ("module.", "_orig_mod.")
"""Left by data-parallel training and by ``torch.compile``."""


class Source:
    """One file of weights.

    Parameters
    ----------
    path
        ``.pth``, ``.pt``, ``.ckpt`` (PyTorch) or ``.safetensors``.

    Attributes
    ----------
    sha256
        Of the file.
    content
        What the file holds beside the tensors, by name; empty for a bare state dict.
    state
        Tensors by name, prefixes of wrappers taken off.

    Raises
    ------
    CheckpointError
        No such file, not a file of weights, or one that holds other objects than
        tensors, numbers and text: loading those would run the file's code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise CheckpointError(path, "no such file")
        self.sha256 = file_sha256(path)
        loaded = _load(path)
        if not isinstance(loaded, Mapping) or not loaded:
            raise CheckpointError(path, f"holds a {type(loaded).__name__}, not named tensors")
        place = next((key for key in PLACES if isinstance(loaded.get(key), Mapping)), None)
        found = loaded if place is None else loaded[place]
        self.content = {} if place is None else {k: v for k, v in loaded.items() if k != place}
        others = [str(key) for key, value in found.items() if not torch.is_tensor(value)]
        if others:
            raise CheckpointError(
                path,
                f"has no state dict under {', '.join(PLACES)}, and {', '.join(others[:4])} "
                "at its top are no tensors",
            )
        self.state: dict[str, torch.Tensor] = _bare({str(k): v for k, v in found.items()})


def _bare(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    while True:
        prefix = next((p for p in PREFIXES if state and all(k.startswith(p) for k in state)), None)
        if prefix is None:
            return state
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as err:
            raise CheckpointError(path, f"cannot be read ({err}); copy it again") from err
    try:
        with _numbers():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as err:
        if "GLOBAL" not in str(err) and "Trying to" not in str(err):
            raise CheckpointError(
                path,
                "is no complete file of PyTorch weights: it is damaged or another kind of file",
            ) from err
        raise CheckpointError(
            path,
            f"holds more than tensors, numbers and text ({_global(str(err))}); loading it would "
            "run its code. Take a file with the state dict only",
        ) from err
    except Exception as err:  # torch raises what its many readers raise
        raise CheckpointError(
            path, f"is no complete file of PyTorch weights ({str(err).splitlines()[0]})"
        ) from err


def _global(message: str) -> str:
    """What the file wanted to have, of PyTorch's long message."""
    if "GLOBAL" not in message:
        return message[message.index("Trying to") :].partition("\n")[0]
    return message[message.index("GLOBAL") :].partition(" was not")[0].partition("\n")[0]


@contextmanager
def _numbers() -> Any:
    """Let numpy's numbers through, which nnU-Net's log holds; they run no code."""
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [
        np.dtype,
        *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    with torch.serialization.safe_globals(allowed):
        yield
