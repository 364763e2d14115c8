"""Quicker layers compute what the usual ones do."""

from __future__ import annotations

import pytest
import torch
from tests.models.tiny import ARCHITECTURES, tiny
from torch import nn

from atlas8k.models.checkpoint import network
from atlas8k.models.cpu_optimisations import (
    ConvByOneDnn,
    InstanceNormInTwo,
    UpByProduct,
    optimise_for_cpu,
)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_the_norm_is_an_instance_norm(affine, layout):
    torch.manual_seed(0)
    norm = nn.InstanceNorm3d(5, affine=affine, eps=1e-3).eval()
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    # Far from zero, where sums of squares lose what matters.
    x = (50 + torch.randn(2, 5, 12, 11, 10)).to(memory_format=layout)
    expected = norm.double()(x.double())
    found = InstanceNormInTwo(norm.float())(x)
    assert (found - expected).abs().max() < 2e-5
    assert found.mean(dim=(2, 3, 4)).allclose(norm.bias if affine else torch.zeros(5), atol=1e-4)


@pytest.mark.parametrize("block", [2, (1, 2, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_is_a_transposed_convolution(block, bias):
    layer = nn.ConvTranspose3d(3, 4, block, block, bias=bias)
    x = torch.rand(2, 3, 5, 4, 6).to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        assert torch.allclose(UpByProduct(layer)(x), layer(x), atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    "options", [{}, {"padding": 1, "stride": 2}, {"bias": False, "dilation": 2}, {"kernel_size": 1}]
)
def test_a_convolution_is_the_same_channels_last(options, layout):
    layer = nn.Conv3d(3, 4, **{"kernel_size": 3, **options})
    x = torch.rand(2, 3, 9, 8, 7).to(memory_format=layout)
    assert ConvByOneDnn.supports(layer)
    with torch.inference_mode():
        found = ConvByOneDnn(layer)(x)
        assert torch.allclose(found, layer(x), atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


def test_other_convolutions_are_left_alone():
    assert not ConvByOneDnn.supports(nn.Conv3d(4, 4, 3, groups=2))
    assert not ConvByOneDnn.supports(nn.Conv3d(4, 4, 3, padding=1, padding_mode="reflect"))
    assert not ConvByOneDnn.supports(nn.Conv3d(4, 4, 3, padding="same"))


@pytest.mark.parametrize(
    "options",
    [{"stride": 1}, {"padding": 1}, {"output_padding": 1}, {"groups": 2}, {"dilation": 2}],
)
def test_other_transposed_convolutions_are_left_alone(options):
    layer = nn.ConvTranspose3d(4, 4, **{"kernel_size": 2, "stride": 2, **options})
    assert not UpByProduct.supports(layer)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_computes_the_same_and_keeps_its_state(name):
    usual, quick = network(tiny(name)), network(tiny(name))
    optimise_for_cpu(quick)
    assert not [m for m in quick.modules() if isinstance(m, nn.InstanceNorm3d)]
    assert [m for m in quick.modules() if isinstance(m, InstanceNormInTwo)]
    assert usual.state_dict().keys() == quick.state_dict().keys()
    side = 64 if name == "swin_unetr" else 16
    x = torch.rand(2, 1, side, side, side)
    with torch.inference_mode():
        expected, found = usual(x), quick(x)
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_norm_with_a_memory_is_left_alone():
    module = nn.Sequential(nn.InstanceNorm3d(3, track_running_stats=True), nn.BatchNorm3d(3))
    optimise_for_cpu(module)
    assert [type(layer) for layer in module] == [nn.InstanceNorm3d, nn.BatchNorm3d]
