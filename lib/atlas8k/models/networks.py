"""Architecture as a JSON object -> network. The networks are MONAI's.

An architecture is what a checkpoint's header says: ``{"name": "unet", "out_channels": 9,
"channels": [16, 32], "strides": [2]}``. ``name`` picks the class, ``out_channels`` is
always there, the rest are arguments of the class; what the project decides for every
network (three axes, one input channel) cannot be given.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from monai.networks.nets import DynUNet, SwinUNETR, UNet

from atlas8k.errors import CheckpointError

AFFINE_INSTANCE_NORM = ("INSTANCE", {"affine": True})

CLASSES: Mapping[str, type[torch.nn.Module]] = MappingProxyType(
    {"swin_unetr": SwinUNETR, "unet": UNet, "dynunet": DynUNet}
)

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


def build(architecture: Mapping[str, Any]) -> torch.nn.Module:
    """The network an architecture describes, with fresh random weights.

    Parameters
    ----------
    architecture
        ``name`` (``swin_unetr``, ``unet`` or ``dynunet``), ``out_channels``, and
        arguments of the MONAI class; JSON lists stand for tuples.

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
    allowed = set(inspect.signature(CLASSES[name].__init__).parameters) - {"self", *FIXED}
    unknown = sorted(set(arguments) - allowed)
    if unknown:
        raise CheckpointError(
            subject, f"unknown argument {', '.join(unknown)}; known: {', '.join(sorted(allowed))}"
        )
    given = {key: _from_json(value) for key, value in arguments.items()}
    try:
        module = CLASSES[name](**{**DEFAULTS[name], **given, **FIXED})
    except Exception as err:  # MONAI raises what its many parts raise
        raise CheckpointError(subject, f"cannot be built: {err}") from err
    if isinstance(module, DynUNet):
        _name_once(module)
    return module


def _name_once(module: DynUNet) -> None:
    """Leave every tensor of a DynUNet one name in its state.

    Its skip layers hold the blocks a second time, under second names; as a plain
    attribute they still compute, and a checkpoint is half as large.
    """
    module.__dict__["skip_layers"] = module._modules.pop("skip_layers")


def _from_json(value: Any) -> Any:
    """Lists as tuples, all the way down; MONAI tells the two apart in places."""
    if isinstance(value, list | tuple):
        return tuple(_from_json(item) for item in value)
    return value
