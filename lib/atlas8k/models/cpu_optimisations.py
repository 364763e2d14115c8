"""Exchange layers of a network for forms that are faster on a CPU, float32 throughout.

Channels lie last in memory, as oneDNN's convolutions want few channels of large volumes.
PyTorch's norm is slow and a thousand times less exact in that layout, and its own convolution,
taken where ``channels x X x Y`` is 20,480 or less, up to six times slower than oneDNN's; each
has a form here that computes the same.
"""

from __future__ import annotations

import torch
from torch import nn

LAST = torch.channels_last_3d


class ConvByOneDnn(nn.Module):
    """A convolution by oneDNN, channels last, whatever its size."""

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        assert not isinstance(layer.padding, str)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
        self.weight, self.bias = layer.weight, layer.bias

    @staticmethod
    def supports(layer: nn.Module) -> bool:
        """Return whether this form can replace the layer."""
        return (
            type(layer) is nn.Conv3d
            and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
            and layer.groups == 1
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Bring ``(B, C, X, Y, Z)`` to ``(B, D, X', Y', Z')``."""
        x = x.contiguous(memory_format=LAST)
        out: torch.Tensor = torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, 1
        )
        return out


class UpByProduct(nn.Module):
    """A transposed convolution whose blocks do not meet, as one matrix product.

    With the stride of its kernel every input voxel makes a block of its own.
    """

    def __init__(self, layer: nn.ConvTranspose3d) -> None:
        super().__init__()
        self.block = layer.kernel_size
        self.weight, self.bias = layer.weight, layer.bias

    @staticmethod
    def supports(layer: nn.Module) -> bool:
        """Return whether this form can replace the layer."""
        return (
            type(layer) is nn.ConvTranspose3d
            and layer.stride == layer.kernel_size
            and layer.groups == 1
            and {*layer.padding, *layer.output_padding} == {0}
            and set(layer.dilation) == {1}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Bring ``(B, C, X, Y, Z)`` to ``(B, D, i X, j Y, k Z)`` for blocks of i x j x k."""
        n, inputs, *sides = x.shape
        outputs = self.weight.shape[1]
        matrix = self.weight.permute(0, 2, 3, 4, 1).reshape(inputs, -1)  # (C, i j k D)
        blocks = torch.matmul(x.permute(0, 2, 3, 4, 1), matrix)
        blocks = blocks.view(n, *sides, *self.block, outputs).permute(0, 1, 4, 2, 5, 3, 6, 7)
        full = [side * block for side, block in zip(sides, self.block, strict=True)]
        out = blocks.reshape(n, *full, outputs)
        if self.bias is not None:
            out += self.bias
        return out.permute(0, 4, 1, 2, 3)


class InstanceNormInTwo(nn.Module):
    """An instance norm of channels-last tensors: the mean, then the mean of squares from it.

    As exact as PyTorch's of contiguous tensors (4e-6 from float64 at 600,000 voxels).
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Bring ``(B, C, X, Y, Z)``, each channel of each sample to mean 0 and variance 1."""
        planes = x.contiguous(memory_format=LAST).permute(0, 2, 3, 4, 1)
        n, X, Y, Z, channels = planes.shape
        planes = planes.view(n, X, Y * Z, channels)
        # A plane at a time: one long sum in float32 would lose digits.
        centred = planes - planes.mean(2).mean(1)[:, None, None]
        scale = (centred.square().mean(2).mean(1) + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        centred *= scale[:, None, None]
        if self.bias is not None:
            centred += self.bias
        return centred.view(n, X, Y, Z, channels).permute(0, 4, 1, 2, 3)


def optimise_for_cpu(module: nn.Module) -> None:
    """Exchange layers of a network in eval mode, in place, for faster ones.

    Its results stay the same but for rounding, and so does its state dict.
    """
    for name, child in module._modules.items():
        if child is None:
            continue
        faster: nn.Module | None = None
        if type(child) is nn.InstanceNorm3d and not child.track_running_stats:
            faster = InstanceNormInTwo(child)
        elif isinstance(child, nn.ConvTranspose3d) and UpByProduct.supports(child):
            faster = UpByProduct(child)
        elif isinstance(child, nn.Conv3d) and ConvByOneDnn.supports(child):
            faster = ConvByOneDnn(child)
        else:
            optimise_for_cpu(child)
        if faster is not None:
            module._modules[name] = faster.train(child.training)


def compile_or_not(module: nn.Module) -> None:
    """Compile a network when it first runs; where that fails it runs uncompiled.

    Without a C++ compiler, for instance; PyTorch then logs a warning.
    """
    import torch._dynamo  # takes two seconds

    torch._dynamo.config.suppress_errors = True
    module.compile(dynamic=False)
