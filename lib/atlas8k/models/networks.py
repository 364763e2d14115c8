"""Build a network from its architecture, a JSON object: MONAI's, and those of published files.

An architecture is part of a checkpoint's header: ``{"name": "unet", "out_channels": 9,
"channels": [16, 32], "strides": [2]}``. ``name`` picks the class, ``out_channels`` is
always there, the rest are arguments of the class; those that are the same for every
network (three axes, one input channel) cannot be given.

``outputs`` may stand in every architecture, for a network that knows more classes than
the nine: ``{"of": 14, "take": [[0, 5, 7], [1], [2]]}`` says that it has 14 channels, that
output 1 is its channel 1, and that output 0 stands for three of them together. The
softmax then gives every class the probability that it had among all 14.

``members`` may stand there too: so many networks of one architecture, such as the folds of a
cross-validation, whose logits are averaged. Their tensors are ``members.0.…`` and on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet

from atlas8k.core.errors import CheckpointError
from atlas8k.models.networks_published import (
    OlderPatchMerging,
    SupremUNet,
    Universal,
    nnunet_network,
)

AFFINE_INSTANCE_NORM = ("INSTANCE", {"affine": True})

CLASSES: Mapping[str, Callable[..., torch.nn.Module]] = MappingProxyType(
    {
        "swin_unetr": SwinUNETR,
        "unet": UNet,
        "dynunet": DynUNet,
        "segresnet": SegResNet,
        "suprem_unet": SupremUNet,
        "universal": Universal,
        "nnunetv2": nnunet_network,
    }
)

OLDER = "older"
"""Value of a Swin UNETR's ``downsample``: as MONAI computed it before 1.5."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Which voxels patch merging joins differs between MONAI versions under one name
        # and with the same weights; "mergingv2" has meant the same in all of them.
        "swin_unetr": {"downsample": "mergingv2"},
        "unet": {"norm": AFFINE_INSTANCE_NORM},
        "dynunet": {"norm_name": AFFINE_INSTANCE_NORM, "trans_bias": True},
    }
)

FIXED: Mapping[str, Any] = MappingProxyType({"spatial_dims": 3, "in_channels": 1})


MOST = 32
"""Most members of one network; nnU-Net's cross-validation makes five."""


class Mean(torch.nn.Module):
    """Networks of one architecture as one: the mean of their logits, as nnU-Net joins folds."""

    def __init__(self, members: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.members = torch.nn.ModuleList(members)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the mean logits of windows; members run one after the other."""
        total: torch.Tensor = self.members[0](windows)
        for member in list(self.members)[1:]:
            total = total + member(windows)
        return total / len(self.members)


def build(architecture: Mapping[str, Any]) -> torch.nn.Module:
    """Return the network an architecture describes, with fresh random weights.

    Parameters
    ----------
    architecture
        ``name``, a key of :data:`CLASSES`, ``out_channels``, ``outputs`` where
        the network has others, ``members`` where there are several, and arguments of the
        class; JSON lists stand for tuples.

    Returns
    -------
    Module
        Maps ``(B, 1, X, Y, Z)`` to logits ``(B, out_channels, X, Y, Z)``. A ``dynunet``
        with deep supervision returns, in training mode only,
        ``(B, heads, out_channels, X, Y, Z)``, the full-resolution head first.

    Raises
    ------
    CheckpointError
        Unknown name or argument, or a value the class refuses.
    """
    arguments = dict(architecture)
    name = arguments.pop("name", None)
    outputs = arguments.pop("outputs", None)
    members = arguments.pop("members", 1)
    if name not in CLASSES:
        raise CheckpointError(
            f"architecture {name!r}", f"unknown; known are {', '.join(sorted(CLASSES))}"
        )
    subject = f"architecture {name!r}"
    channels = arguments.get("out_channels")
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise CheckpointError(
            subject, f"out_channels {channels!r}: a whole number from 1 is needed"
        )
    if not isinstance(members, int) or isinstance(members, bool) or not 1 <= members <= MOST:
        raise CheckpointError(subject, f"members {members!r}: a number from 1 to {MOST} is needed")
    own, take = _outputs(subject, outputs, channels)
    known = set(inspect.signature(CLASSES[name]).parameters)
    allowed = known - set(FIXED)
    unknown = sorted(set(arguments) - allowed)
    if unknown:
        raise CheckpointError(
            subject, f"unknown argument {', '.join(unknown)}; known: {', '.join(sorted(allowed))}"
        )
    options = {key: _from_json(value) for key, value in arguments.items()}
    options["out_channels"] = own
    if name == "swin_unetr" and options.get("downsample") == OLDER:
        options["downsample"] = OlderPatchMerging
    fixed = {key: value for key, value in FIXED.items() if key in known}
    try:
        modules = [
            CLASSES[name](**{**DEFAULTS.get(name, {}), **options, **fixed}) for _ in range(members)
        ]
    except CheckpointError:
        raise
    except Exception as err:  # MONAI raises what its many parts raise
        raise CheckpointError(subject, f"cannot be built: {err}") from err
    for member in modules:
        if isinstance(member, DynUNet):
            _name_once(member)
    module = modules[0] if members == 1 else Mean(modules)
    if take:
        module.register_forward_hook(partial(_take, take=take))
    return module


def _outputs(subject: str, outputs: Any, channels: int) -> tuple[int, list[list[int]]]:
    """Return the network's own number of channels, and the channels of each output."""
    if outputs is None:
        return channels, []
    try:
        own, take = outputs["of"], [list(chosen) for chosen in outputs["take"]]
        fits = len(take) == channels and all(
            chosen and all(isinstance(i, int) and 0 <= i < own for i in chosen) for chosen in take
        )
    except (TypeError, KeyError) as err:
        raise CheckpointError(subject, f"outputs {outputs!r}: 'of' and 'take' are needed") from err
    if not fits:
        raise CheckpointError(
            subject, f"outputs {outputs!r}: each of {channels} takes channels of the network"
        )
    return own, take


def _take(
    module: torch.nn.Module, inputs: Any, logits: torch.Tensor, *, take: list[list[int]]
) -> torch.Tensor:
    """Take the outputs from the logits; channels are the fourth axis from the end.

    Several channels of one output are joined by the log of their summed exponentials, as a
    softmax sums them.
    """
    axis = logits.ndim - 4
    parts = [
        logits.narrow(axis, channels[0], 1)
        if len(channels) == 1
        else logits[(slice(None),) * axis + (channels,)].logsumexp(dim=axis, keepdim=True)
        for channels in take
    ]
    return torch.cat(parts, dim=axis)


def _name_once(module: DynUNet) -> None:
    """Leave every tensor of a DynUNet one name in its state.

    Its skip layers hold the blocks a second time, under second names; as a plain
    attribute they still compute, and a checkpoint is half as large.
    """
    module.__dict__["skip_layers"] = module._modules.pop("skip_layers")


def _from_json(value: Any) -> Any:
    """Turn lists into tuples, at every depth; MONAI distinguishes the two in places."""
    if isinstance(value, list | tuple):
        return tuple(_from_json(item) for item in value)
    return value
