"""Networks of published checkpoints that MONAI does not have, or computes differently.

Attributes carry the names of the published state dicts, so that tensors are matched by
name. Sources: the network definitions of MrGiovanni/AbdomenAtlas and MrGiovanni/SuPreM
(``Universal_model.py``, ``Unet.py``, ``SwinUNETR.py``); the tests hold outputs of those
against these. nnU-Net v2 networks that DynUNet cannot express are built by nnU-Net's own
package, which is not needed for anything else; a checkpoint that needs it says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import PatchMergingV2
from torch import nn
from torch.nn import functional

from atlas8k.core.errors import CheckpointError

HEAD_WIDTH = 8
"""Channels of the dynamic head's layers."""
HEAD_WEIGHTS = (HEAD_WIDTH**2, HEAD_WIDTH**2, HEAD_WIDTH)
HEAD_BIASES = (HEAD_WIDTH, HEAD_WIDTH, 1)
EMBEDDING = 256
TEXT = 512
GROUPS = 16

OLDER_OFFSETS = (
    (0, 0, 0),
    (1, 0, 0),
    (0, 1, 0),
    (0, 0, 1),
    (1, 0, 1),
    (0, 1, 0),
    (0, 0, 1),
    (1, 1, 1),
)
"""Which voxels of a 2x2x2 block MONAI joined before 1.5: two of them twice, two never."""


class OlderPatchMerging(PatchMergingV2):
    """Patch merging as MONAI computed it before 1.5, for weights trained with that."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Merge ``(B, D, H, W, C)``, sides even, to ``(B, D/2, H/2, W/2, 2C)``."""
        joined = torch.cat([x[:, i::2, j::2, k::2] for i, j, k in OLDER_OFFSETS], dim=-1)
        merged: torch.Tensor = self.reduction(self.norm(joined))
        return merged


class _Convolution(nn.Module):
    """3x3x3 convolution, norm, ReLU.

    The published network calls its batch norm with ``training=True`` at all times, and
    was run with one window a batch: that is an instance norm with weights. Computed per
    sample, a window's result does not depend on what else is in the batch.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel_size=3, padding=1)
        self.bn1 = nn.InstanceNorm3d(outputs, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.bn1(self.conv1(x)), inplace=True)


class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(
            _Convolution(inputs, outputs // 2), _Convolution(outputs // 2, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.ops(x)
        return out


class _Up(nn.Module):
    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, kernel_size=2, stride=2)
        self.ops = nn.Sequential(
            _Convolution(inputs + skip, outputs), _Convolution(outputs, outputs)
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.ops(torch.cat((self.up_conv(x), skip), dim=1))
        return out


class UNetBackbone(nn.Module):
    """The U-Net of SuPreM without its output layer.

    Parameters
    ----------
    width
        Channels of the first convolution; 32 in the published weights.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.down_tr64 = _Down(1, 2 * width)
        self.down_tr128 = _Down(2 * width, 4 * width)
        self.down_tr256 = _Down(4 * width, 8 * width)
        self.down_tr512 = _Down(8 * width, 16 * width)
        self.up_tr256 = _Up(16 * width, 8 * width, 8 * width)
        self.up_tr128 = _Up(8 * width, 4 * width, 4 * width)
        self.up_tr64 = _Up(4 * width, 2 * width, 2 * width)
        self.deepest, self.features = 16 * width, 2 * width

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring ``(B, 1, X, Y, Z)``, sides divisible by 8, to deepest and last features.

        Returns
        -------
        Tensor, Tensor
            ``(B, 16 width, X/8, Y/8, Z/8)`` and ``(B, 2 width, X, Y, Z)``.
        """
        fine = self.down_tr64(x)
        middle = self.down_tr128(functional.max_pool3d(fine, 2))
        coarse = self.down_tr256(functional.max_pool3d(middle, 2))
        deepest = self.down_tr512(functional.max_pool3d(coarse, 2))
        out = self.up_tr64(self.up_tr128(self.up_tr256(deepest, coarse), middle), fine)
        return deepest, out


class SwinBackbone(SwinUNETR):
    """MONAI's Swin UNETR with the older patch merging and without its output layer."""

    def __init__(self, feature_size: int = 48) -> None:
        super().__init__(
            in_channels=1, out_channels=1, feature_size=feature_size, downsample=OlderPatchMerging
        )
        del self.out
        self.deepest, self.features = 16 * feature_size, feature_size

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring ``(B, 1, X, Y, Z)``, sides divisible by 32, to deepest and last features."""
        hidden = self.swinViT(x, self.normalize)
        deepest = self.encoder10(hidden[4])
        out = self.decoder5(deepest, hidden[3])
        out = self.decoder4(out, self.encoder4(hidden[2]))
        out = self.decoder3(out, self.encoder3(hidden[1]))
        out = self.decoder2(out, self.encoder2(hidden[0]))
        return deepest, self.decoder1(out, self.encoder1(x))


class SupremUNet(UNetBackbone):
    """SuPreM's U-Net with its plain output layer, as it is after fine-tuning."""

    def __init__(self, out_channels: int, width: int = 32) -> None:
        super().__init__(width)
        self.out_tr = nn.ModuleDict({"final_conv": nn.Conv3d(2 * width, out_channels, 1)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Bring ``(B, 1, X, Y, Z)`` to logits ``(B, out_channels, X, Y, Z)``."""
        _, features = super().forward(x)
        logits: torch.Tensor = self.out_tr["final_conv"](features)
        return logits


class Universal(nn.Module):
    """CLIP-driven universal model: a backbone and one dynamic head a class.

    Parameters
    ----------
    out_channels
        Classes; each has a row in ``organ_embedding`` and no weights of its own, so
        classes can be left out without changing the others.
    backbone
        ``"unet"`` or ``"swin_unetr"``.
    encoding
        ``"word_embedding"``: text embeddings of 512, projected; ``"rand_embedding"``:
        learned ones of 256.
    width
        Of the backbone: first convolution of the U-Net (default 32), feature size of
        Swin UNETR (default 48).

    Notes
    -----
    The deepest features, averaged over the window, join each class's embedding and make
    the weights of three 1x1x1 convolutions (Liu et al., ICCV 2023).
    """

    def __init__(
        self,
        out_channels: int,
        backbone: str = "unet",
        encoding: str = "word_embedding",
        width: int | None = None,
    ) -> None:
        super().__init__()
        if backbone == "unet":
            self.backbone: UNetBackbone | SwinBackbone = UNetBackbone(width or 32)
        elif backbone == "swin_unetr":
            self.backbone = SwinBackbone(width or 48)
        else:
            raise ValueError(f"backbone {backbone!r} is neither unet nor swin_unetr")
        if encoding == "word_embedding":
            self.register_buffer("organ_embedding", torch.zeros(out_channels, TEXT))
            self.text_to_vision = nn.Linear(TEXT, EMBEDDING)
        elif encoding == "rand_embedding":
            self.organ_embedding = nn.Embedding(out_channels, EMBEDDING)
        else:
            raise ValueError(f"encoding {encoding!r} is neither word_embedding nor rand_embedding")
        self.encoding = encoding
        self.precls_conv = nn.Sequential(
            nn.GroupNorm(GROUPS, self.backbone.features),
            nn.ReLU(inplace=True),
            nn.Conv3d(self.backbone.features, HEAD_WIDTH, kernel_size=1),
        )
        self.GAP = nn.Sequential(
            nn.GroupNorm(GROUPS, self.backbone.deepest),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(self.backbone.deepest, EMBEDDING, kernel_size=1),
        )
        self.controller = nn.Conv3d(2 * EMBEDDING, sum(HEAD_WEIGHTS + HEAD_BIASES), kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Bring ``(B, 1, X, Y, Z)`` to logits ``(B, out_channels, X, Y, Z)``."""
        deepest, features = self.backbone(x)
        pooled = self.GAP(deepest).flatten(1)
        if self.encoding == "word_embedding":
            classes = functional.relu(self.text_to_vision(self.organ_embedding))
        else:
            classes = self.organ_embedding.weight
        inputs = self.precls_conv(features)
        return torch.cat(
            [self._heads(inputs[i : i + 1], pooled[i], classes) for i in range(len(inputs))]
        )

    def _heads(
        self, inputs: torch.Tensor, pooled: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Run one sample ``(1, 8, X, Y, Z)`` through the heads of all classes."""
        n = len(classes)
        condition = torch.cat((pooled.expand(n, -1), classes), dim=1)
        parameters = self.controller(condition[:, :, None, None, None]).flatten(1)
        parts = parameters.split(HEAD_WEIGHTS + HEAD_BIASES, dim=1)
        x = inputs
        for layer, (weight, bias) in enumerate(zip(parts[:3], parts[3:], strict=True)):
            # The first layer's input is one for all classes: no copy of it per class.
            x = functional.conv3d(
                x,
                weight.reshape(-1, HEAD_WIDTH, 1, 1, 1),
                bias.reshape(-1),
                groups=n if layer else 1,
            )
            if layer < 2:
                x = functional.relu(x, inplace=True)
        return x


NNUNET = {"plain": "PlainConvUNet", "residual": "ResidualEncoderUNet"}


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
    """Build a ``PlainConvUNet`` or ``ResidualEncoderUNet`` with instance norm and leaky ReLU.

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
    if kind not in NNUNET:
        raise CheckpointError("architecture 'nnunetv2'", f"kind {kind!r} is not plain or residual")
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as err:
        raise CheckpointError(
            f"architecture {NNUNET[kind]}",
            "needs nnU-Net's own package; install it: pip install nnunetv2",
        ) from err
    counted = "n_conv_per_stage" if kind == "plain" else "n_blocks_per_stage"
    module: nn.Module = getattr(unet, NNUNET[kind])(
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
