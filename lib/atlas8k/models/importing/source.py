"""Match a published file of weights with a network: tensors by name, outputs by organ.

Tensors are read without running code that the file brings, matched by name and counted, or
the file is refused.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import yaml

from atlas8k.core.errors import CheckpointError
from atlas8k.core.structure_sets import NINE
from atlas8k.core.structures import find_organ
from atlas8k.models.checkpoint import differences, layout, shortened
from atlas8k.models.sets import file_sha256

STATE_KEYS = ("net", "network_weights", "state_dict", "model_state_dict", "model")
"""Keys under which files hold their state dict; the first that exists counts."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes of names after data-parallel training and ``torch.compile``."""
Change = Callable[[torch.Tensor], torch.Tensor]
UNIVERSAL = (
    *("spleen", "kidney_right", "kidney_left", "gall_bladder", "esophagus", "liver", "stomach"),
    *("aorta", "postcava", "portal_vein_and_splenic_vein", "pancreas", "adrenal_gland_right"),
    *("adrenal_gland_left", "duodenum", "hepatic_vessel", "lung_right", "lung_left", "colon"),
    *("intestine", "rectum", "bladder", "prostate", "femur_left", "femur_right", "celiac_trunk"),
    *("kidney_tumor", "liver_tumor", "pancreas_tumor", "hepatic_vessel_tumor", "lung_tumor"),
    *("colon_tumor", "kidney_cyst"),
)
"""The 32 classes of the CLIP-driven universal model (``ORGAN_NAME`` of its code)."""
ABDOMENATLAS_1_1 = (
    *NINE,
    *("adrenal_gland_left", "adrenal_gland_right", "bladder", "celiac_trunk", "colon"),
    *("duodenum", "esophagus", "femur_left", "femur_right", "hepatic_vessel", "intestine"),
    *("lung_left", "lung_right", "portal_vein_and_splenic_vein", "prostate", "rectum"),
)
"""``class_map_abdomenatlas_1_1`` of SuPreM's code; 1.0 is its first nine."""
KNOWN: Mapping[int, Sequence[str]] = {
    32: UNIVERSAL,
    31: UNIVERSAL[:31],
    25: ABDOMENATLAS_1_1,
    9: NINE,
}
"""By number of outputs, of networks with one sigmoid a class."""
BACKGROUND = "background"


class Source:
    """One file of weights.

    Parameters
    ----------
    path
        ``.pth``, ``.pt``, ``.ckpt`` (PyTorch) or ``.safetensors``.

    Attributes
    ----------
    sha256
        Hash of the file.
    content
        Further entries of the file, by name; empty for a bare state dict.
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
        state_key = next((key for key in STATE_KEYS if isinstance(loaded.get(key), Mapping)), None)
        tensors = loaded if state_key is None else loaded[state_key]
        self.content = (
            {} if state_key is None else {k: v for k, v in loaded.items() if k != state_key}
        )
        others = [str(key) for key, value in tensors.items() if not torch.is_tensor(value)]
        if others:
            raise CheckpointError(
                path,
                f"has no state dict under {', '.join(STATE_KEYS)}, and {', '.join(others[:4])} "
                "at its top are no tensors",
            )
        self.state: dict[str, torch.Tensor] = _bare({str(k): v for k, v in tensors.items()})


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
            f"holds more than tensors, numbers and text ({_refused_object(str(err))}); loading it "
            "would run its code. Take a file with the state dict only",
        ) from err
    except Exception as err:  # torch raises what its many readers raise
        raise CheckpointError(
            path, f"is no complete file of PyTorch weights ({str(err).splitlines()[0]})"
        ) from err


def _refused_object(message: str) -> str:
    """Return the name of the refused object from PyTorch's long message."""
    if "GLOBAL" not in message:
        return message[message.index("Trying to") :].partition("\n")[0]
    return message[message.index("GLOBAL") :].partition(" was not")[0].partition("\n")[0]


@contextmanager
def _numbers() -> Any:
    """Allow numpy's numbers, which nnU-Net's log holds; they run no code."""
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [
        np.dtype,
        *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    with torch.serialization.safe_globals(allowed):
        yield


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML file that holds an object.

    Raises
    ------
    CheckpointError
        It cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as err:
        raise CheckpointError(path, f"cannot be read ({err})") from err
    if not isinstance(content, dict):
        raise CheckpointError(path, "is not a JSON object")
    return content


@dataclass(frozen=True)
class ExpectedTensor:
    """A tensor that a file must have.

    Attributes
    ----------
    shape
        Shape in the file.
    target
        Name in our network; ``None``: the network does not need it.
    change
        Function that turns the file's tensor into ours.
    same_as
        Name of the tensor in the file that this one repeats.
    """

    shape: tuple[int, ...]
    target: str | None = None
    change: Change | None = None
    same_as: str | None = None


def expected_tensors(
    architecture: Mapping[str, Any], prefix: str = ""
) -> dict[str, ExpectedTensor]:
    """Return the tensors of a file with our network's own names, `prefix` before them.

    Raises
    ------
    CheckpointError
        The architecture cannot be built.
    """
    shapes = layout(json.dumps(dict(architecture), sort_keys=True))
    return {prefix + key: ExpectedTensor(tuple(shape), key) for key, (shape, _) in shapes.items()}


def match_tensors(
    path: Path, what: str, tensors: Mapping[str, torch.Tensor], table: Mapping[str, ExpectedTensor]
) -> dict[str, torch.Tensor]:
    """Return our network's state from a file's.

    Parameters
    ----------
    path, what
        The file and the network it should hold, for the refusal.
    tensors
        The file's tensors.
    table
        Tensors that it must have, no more and no less.

    Raises
    ------
    CheckpointError
        Lists the tensors that are missing, unexpected, of another shape, or differ from
        the one they repeat.
    """
    problems = differences({key: want.shape for key, want in table.items()}, tensors)
    if not problems:
        repeated = [
            key
            for key, want in table.items()
            if want.same_as is not None and not torch.equal(tensors[key], tensors[want.same_as])
        ]
        problems = {"different from the tensor they repeat": repeated} if repeated else {}
    if problems:
        wrong = (*problems.get("missing", ()), *problems.get("of another shape", ()))
        listing = "; ".join(
            f"{len(keys)} {how}: {shortened(keys)}" for how, keys in problems.items()
        )
        raise CheckpointError(
            path,
            f"is no {what}: {len(table) - len(wrong)} of {len(table)} tensors match; {listing}",
        )
    state = {}
    for key, want in table.items():
        if want.target is not None:
            tensor = tensors[key]
            tensor = tensor.float() if tensor.is_floating_point() else tensor
            state[want.target] = tensor if want.change is None else want.change(tensor)
    return state


@dataclass(frozen=True)
class Outputs:
    """The output channels of a network that are used.

    Attributes
    ----------
    organs
        Organs in the order of the file's channels.
    rows
        Channel of each organ in the file.
    activation
        ``"softmax"`` where a channel is background, else ``"sigmoid"``.
    names
        Names of all channels.
    """

    organs: tuple[str, ...]
    rows: tuple[int, ...]
    activation: str
    names: tuple[str, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the channels that are none of the nine."""
        return tuple(
            name
            for i, name in enumerate(self.names)
            if i not in self.rows and name.lower() != BACKGROUND
        )

    def architecture(self) -> dict[str, Any]:
        """Return ``out_channels`` and ``outputs`` of the architecture that uses these."""
        take = [[row] for row in self.rows]
        if self.activation == "softmax":
            take.insert(0, [i for i in range(len(self.names)) if i not in self.rows])
        entry: dict[str, Any] = {"out_channels": len(take)}
        if take != [[i] for i in range(len(self.names))]:
            entry["outputs"] = {"of": len(self.names), "take": take}
        return entry


def choose_outputs(
    path: Path, channels: int, names: Sequence[str] | None = None, activation: str | None = None
) -> Outputs:
    """Choose the output channels of a file that are organs.

    Parameters
    ----------
    channels
        Number of channels of the network's output.
    names
        Names of the channels, from the user or the file's description; ``None``: those of
        the published network with so many outputs.
    activation
        Where it is known; else softmax where there is a background.

    Raises
    ------
    CheckpointError
        Number of names and channels differ, names are not known, none of them is one of
        the nine, or one organ has two channels.
    """
    if names is None:
        names = KNOWN.get(channels)
        if names is None:
            raise CheckpointError(
                path,
                f"has {channels} output channels and does not say what they are; name them in "
                "their order with --classes, 'background' included",
            )
    if len(names) != channels:
        raise CheckpointError(
            path, f"has {channels} output channels, and {len(names)} are named: {', '.join(names)}"
        )
    background = any(name.lower() == BACKGROUND for name in names)
    activation = activation or ("softmax" if background else "sigmoid")
    if activation == "softmax" and not background:
        raise CheckpointError(path, "no channel is named 'background', which its softmax needs")
    organ_rows = [
        (organ.name, row) for row, name in enumerate(names) if (organ := find_organ(name))
    ]
    organs = tuple(name for name, _ in organ_rows)
    if not organs:
        raise CheckpointError(
            path, f"knows none of the nine structures; its channels are {', '.join(names)}"
        )
    twice = sorted({name for name in organs if organs.count(name) > 1})
    if twice:
        raise CheckpointError(path, f"names {', '.join(twice)} for two channels")
    return Outputs(organs, tuple(row for _, row in organ_rows), activation, tuple(names))
