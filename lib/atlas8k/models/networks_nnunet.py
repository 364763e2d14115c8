"""nnU-Net v2 networks that DynUNet cannot express, built by nnU-Net's own package.

``nnunetv2`` is not needed to run this project; a checkpoint that needs it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from atlas8k.errors import CheckpointError

KINDS = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}


def nnunet_network(
    out_channels: int,
    kind: str,
    n_stages: int,
    features_per_stage: Sequence[int],
    kernel_sizes: Sequence[Any],
    strides: Sequence[Any],
    n_per_stage: Sequence[int],
    n_conv_per_stage_decoder: Sequence[int],
    conv_bias: bool = True,
    eps: float = 1e-5,
    negative_slope: float = 0.01,
) -> nn.Module:
    """A ``PlainConvUNet`` or ``ResidualEncoderUNet`` with instance norm and leaky ReLU.

    Parameters
    ----------
    kind
        ``"plain"`` or ``"residual"``.
    n_per_stage
        Convolutions (plain) or blocks (residual) of each encoder stage.

    Raises
    ------
    CheckpointError
        ``nnunetv2`` is not installed.
    """
    if kind not in KINDS:
        raise CheckpointError("architecture 'nnunetv2'", f"kind {kind!r} is not plain or residual")
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as err:
        raise CheckpointError(
            f"architecture {KINDS[kind]}",
            "needs nnU-Net's own package; install it: pip install nnunetv2",
        ) from err
    counted = "n_conv_per_stage" if kind == "plain" else "n_blocks_per_stage"
    module: nn.Module = getattr(unet, KINDS[kind])(
        input_channels=1,
        n_stages=n_stages,
        features_per_stage=list(features_per_stage),
        conv_op=nn.Conv3d,
        kernel_sizes=[list(size) for size in kernel_sizes],
        strides=[list(stride) for stride in strides],
        num_classes=out_channels,
        n_conv_per_stage_decoder=list(n_conv_per_stage_decoder),
        conv_bias=conv_bias,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": eps, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True, "negative_slope": negative_slope},
        **{counted: list(n_per_stage)},
    )
    _name_once(module)
    return module


def _name_once(module: nn.Module) -> None:
    """Leave every tensor one name: blocks hold their layers twice, the decoder the encoder."""
    for part in list(module.modules()):
        names = part._modules
        if "all_modules" in names and "conv" in names:
            part.__dict__["all_modules"] = names.pop("all_modules")
    decoder: Any = module.decoder
    decoder.__dict__["encoder"] = decoder._modules.pop("encoder")
