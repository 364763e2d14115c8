"""The same network in forms that are quicker on a CPU.

Measured on two cores with AVX-512, windows of 64 voxels, float32, processor time of the
three embedded networks together: as they are 0.76 s a window; with this norm and two
windows at once 0.52 s. Channels last makes convolutions a fifth quicker, but the norm is
slower and a thousand times less exact there, so it is not used for float32.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class InstanceNormByGroups(nn.Module):
    """An instance norm computed as a group norm of one channel a group: the same numbers.

    PyTorch computes instance norm as a batch norm; its group norm takes a third of the time
    and is as exact (4e-7 from float64).
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.channels, self.eps = norm.num_features, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, C, X, Y, Z)``, each channel of each sample to mean 0 and variance 1."""
        # Of channels-last tensors its sums are those of squares: inexact.
        x = x.contiguous()
        return functional.group_norm(x, self.channels, self.weight, self.bias, self.eps)


class UpByProduct(nn.Module):
    """A transposed convolution whose blocks do not meet, as one matrix product.

    With the stride of its kernel every input voxel makes a block of its own. Takes half to a
    third of the time of PyTorch's on the float32 path of a CPU.
    """

    def __init__(self, layer: nn.ConvTranspose3d) -> None:
        super().__init__()
        self.block = layer.kernel_size
        self.weight, self.bias = layer.weight, layer.bias

    @staticmethod
    def can(layer: nn.Module) -> bool:
        """Whether a layer is one of these."""
        return (
            type(layer) is nn.ConvTranspose3d
            and layer.stride == layer.kernel_size
            and layer.groups == 1
            and {*layer.padding, *layer.output_padding} == {0}
            and set(layer.dilation) == {1}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, C, X, Y, Z)`` to ``(B, D, i X, j Y, k Z)`` for blocks of i x j x k."""
        n, inputs, *sides = x.shape
        outputs = self.weight.shape[1]
        matrix = self.weight.reshape(inputs, -1).T  # (D i j k, C)
        made = torch.matmul(matrix, x.reshape(n, inputs, -1))
        made = made.view(n, outputs, *self.block, *sides).permute(0, 1, 5, 2, 6, 3, 7, 4)
        full = [side * block for side, block in zip(sides, self.block, strict=True)]
        out = made.reshape(n, outputs, *full)
        return out if self.bias is None else out.add_(self.bias[:, None, None, None])


def quicken(module: nn.Module) -> None:
    """Exchange layers of a network in eval mode, in place, for quicker ones.

    What it computes stays the same but for rounding, on every device; its state dict too.
    """
    for name, child in module._modules.items():
        if type(child) is nn.InstanceNorm3d and not child.track_running_stats:
            module._modules[name] = InstanceNormByGroups(child).train(child.training)
        elif isinstance(child, nn.ConvTranspose3d) and UpByProduct.can(child):
            module._modules[name] = UpByProduct(child).train(child.training)
        elif child is not None:
            quicken(child)


def compile_or_not(module: nn.Module) -> None:
    """Have a network compiled when it first runs; where that fails it runs as it is.

    Without a C++ compiler, for instance; PyTorch then logs a warning.
    """
    import torch._dynamo  # takes two seconds

    torch._dynamo.config.suppress_errors = True
    module.compile(dynamic=False)
