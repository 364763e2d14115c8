"""Write and read checkpoints: weights and all that prediction needs, in one file.

The file is safetensors, so that loading it never unpickles code. Its header holds one
JSON entry under ``"atlas8k"``. Tensors are matched by name and shape with the network
that the architecture describes; what does not match is refused with a list.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from atlas8k.core.errors import CheckpointError
from atlas8k.core.files import publishing
from atlas8k.core.structure_sets import NINE, known_names
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.models.header import FORMAT, METADATA_KEY, read_header
from atlas8k.models.networks import build
from atlas8k.models.preprocess import Preprocessing, adapt

__all__ = [
    "ACTIVATIONS",
    "FORMAT",
    "METADATA_KEY",
    "Checkpoint",
    "Preprocessing",
    "load_checkpoint",
    "network",
    "read_header",
    "save_checkpoint",
]

ACTIVATIONS = ("sigmoid", "softmax")
LISTED = 8
"""At most so many keys of each kind are named in a refusal."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights of one network, with its architecture, preprocessing and organs.

    Parameters
    ----------
    name
        Name of the network in a set, such as ``"swin_unetr"``.
    architecture
        JSON object for :func:`atlas8k.models.networks.build`.
    activation
        ``"sigmoid"``: one output channel an organ. ``"softmax"``: a background channel
        first, then one an organ.
    preprocessing
        Grid, intensities and windows of its input.
    organs
        Organ of each output channel, in their order, without the background.
    origin
        JSON object: the training or file the weights come from, with its sha256.
    state
        State dict, float tensors as float32 on the CPU once loaded.

    Raises
    ------
    ValueError
        Unknown activation, unknown or repeated organ, no organ.
    """

    name: str
    architecture: Mapping[str, Any]
    activation: str
    preprocessing: Preprocessing
    organs: tuple[str, ...] = NINE
    origin: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "organs", tuple(self.organs))
        if not self.name or self.name != Path(self.name).name or self.name.startswith("."):
            raise ValueError(f"name {self.name!r} cannot be a file name")
        if not isinstance(self.architecture, Mapping):
            raise ValueError(f"architecture {self.architecture!r} is not a JSON object")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}"
            )
        known = known_names() | {*ORGAN_NAMES}
        if unknown := [name for name in self.organs if name not in known]:
            raise ValueError(f"organs {unknown} are unknown; known: {', '.join(ORGAN_NAMES)}")
        if not self.organs or len(set(self.organs)) != len(self.organs):
            raise ValueError("organs: each at most once and at least one")

    @property
    def out_channels(self) -> int:
        """Output channels of the network: one an organ, and background with softmax."""
        return len(self.organs) + (self.activation == "softmax")

    @property
    def source(self) -> Mapping[str, Any]:
        """Origin of its first weights: of a fine-tuned network, that of the one it began as."""
        origin = self.origin
        while isinstance(origin.get("trained_from"), Mapping):
            origin = origin["trained_from"]
        return origin

    @property
    def imported(self) -> bool:
        """Whether it was imported from another project; its weights are stored as float32."""
        return "imported_as" in self.source

    @property
    def mirroring_axes(self) -> tuple[int, ...] | None:
        """Axes of RAS along which it was trained with mirrored volumes; ``None``: not known."""
        axes = self.source.get("mirroring_axes")
        return None if axes is None else tuple(int(axis) for axis in axes)


def save_checkpoint(
    path: str | os.PathLike[str], checkpoint: Checkpoint, half: bool = True
) -> Path:
    """Write a checkpoint; complete or not at all.

    Parameters
    ----------
    half
        Store weights (float tensors of two or more axes) as float16, but those of a
        network that was imported, or began as one, so that it predicts as in its own
        project. Biases, norms and their statistics stay float32: they cost nothing and a
        variance can leave float16's range. Integer buffers are stored as int16 where that
        loses nothing.

    Returns
    -------
    Path
        ``path``. Equal checkpoints make equal bytes.

    Raises
    ------
    CheckpointError
        Where the file could not be loaded again: the tensors are not those of the
        architecture, or hold NaN or infinity. Or it cannot be written.
    """
    path = Path(path)
    _fit(path, checkpoint)
    header = {
        "format": FORMAT,
        "name": checkpoint.name,
        "architecture": dict(checkpoint.architecture),
        "activation": checkpoint.activation,
        "preprocessing": checkpoint.preprocessing.as_json(),
        "organs": list(checkpoint.organs),
        "origin": dict(checkpoint.origin),
    }
    try:
        metadata = {METADATA_KEY: json.dumps(header, sort_keys=True, allow_nan=False)}
    except (TypeError, ValueError) as err:
        raise CheckpointError(path, f"its description is not JSON ({err})") from err
    half = half and not checkpoint.imported
    tensors = {key: compact(tensor, half) for key, tensor in checkpoint.state.items()}
    try:
        with publishing(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata=metadata)
    except (safetensors.SafetensorError, OSError) as err:  # a full disk is the first
        raise CheckpointError(
            path,
            f"cannot be written ({err}); see that there is space and that the folder may be "
            "written to",
        ) from err
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint and check it against the network it claims to be.

    Raises
    ------
    CheckpointError
        Names the file and what is wrong: no safetensors file, not of this project or of
        another format version, description incomplete, architecture unknown, tensors
        missing, unexpected or of another shape, NaN or infinity in them.
    """
    path = Path(path)
    header = read_header(path)
    try:
        checkpoint = Checkpoint(
            name=header["name"],
            architecture=header["architecture"],
            activation=header["activation"],
            preprocessing=Preprocessing(**header["preprocessing"]),
            organs=tuple(header["organs"]),
            origin=header["origin"],
            state={k: widen(v) for k, v in safetensors.torch.load_file(path).items()},
        )
    except (TypeError, ValueError) as err:
        raise CheckpointError(path, f"its description is not usable: {err}") from err
    except (safetensors.SafetensorError, OSError) as err:
        raise CheckpointError(path, f"cannot be read ({err}); copy it again") from err
    return dataclasses.replace(checkpoint, state=_fit(path, checkpoint))


def network(checkpoint: Checkpoint, device: str | torch.device = "cpu") -> torch.nn.Module:
    """Return the checkpoint's network on a device: float32 weights, in eval mode.

    Returns
    -------
    Module
        Maps ``(B, 1, X, Y, Z)`` float32 in 0..1 to logits ``(B, out_channels, X, Y, Z)``.
    """
    module = build(checkpoint.architecture)
    module.load_state_dict(dict(checkpoint.state), strict=True)
    adapt(module, checkpoint.preprocessing)
    return module.to(device).float().eval()


def _fit(path: Path, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the state in the network's own types; refuse another network's, naming the file."""
    channels = checkpoint.architecture.get("out_channels", checkpoint.out_channels)
    try:
        state = fit(checkpoint.architecture, checkpoint.state)
    except TensorMismatchError as err:
        raise CheckpointError(path, str(err)) from err
    if channels != checkpoint.out_channels:
        raise CheckpointError(
            path,
            f"the network has {channels} outputs, {checkpoint.activation} over "
            f"{len(checkpoint.organs)} organs needs {checkpoint.out_channels}",
        )
    return state


class TensorMismatchError(ValueError):
    """A state dict is not that of the architecture; the message lists the differences."""


def fit(
    architecture: Mapping[str, Any], state: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the state with the types and in the order of the architecture's own state dict.

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
    shapes = {key: tuple(shape) for key, (shape, _) in expected.items()}
    if problems := differences(shapes, state):
        listing = "; ".join(
            f"{len(keys)} {how}: {shortened(keys)}" for how, keys in problems.items()
        )
        raise TensorMismatchError(
            f"its tensors are not those of {architecture.get('name')}: {listing}"
        )
    fitted = {key: state[key].to(dtype) for key, (_, dtype) in expected.items()}
    broken = [k for k, t in fitted.items() if t.is_floating_point() and not _finite(t)]
    if broken:
        raise TensorMismatchError(f"NaN or infinity in {shortened(broken)}; train or copy it again")
    return fitted


def differences(
    shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, torch.Tensor]
) -> dict[str, list[str]]:
    """Return the tensors that are missing, unexpected, or of another shape; empty if none is."""
    problems = {
        "missing": [key for key in shapes if key not in tensors],
        "unexpected": [key for key in tensors if key not in shapes],
        "of another shape": [
            f"{key} {tuple(tensors[key].shape)} instead of {shape}"
            for key, shape in shapes.items()
            if key in tensors and tuple(tensors[key].shape) != shape
        ],
    }
    return {how: keys for how, keys in problems.items() if keys}


def compact(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    """Return the tensor as it is stored: on the CPU, contiguous, owned, small.

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
    """Return floats as float32, int16 of :func:`compact` as int64, the rest as it is."""
    if tensor.is_floating_point():
        return tensor.float()
    return tensor.long() if tensor.dtype == torch.int16 else tensor


@lru_cache(maxsize=32)
def layout(architecture: str) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Return names, shapes and types of the tensors of a network.

    Parameters
    ----------
    architecture
        As JSON text, so that the result can be cached.

    Raises
    ------
    CheckpointError
        It cannot be built.
    """
    state = build(json.loads(architecture)).state_dict()
    return {key: (tensor.shape, tensor.dtype) for key, tensor in state.items()}


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def shortened(names: list[str]) -> str:
    """Return names with commas between them: at most :data:`LISTED`, and the number of others."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
