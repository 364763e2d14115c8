"""Windows through one network: its precision, and the mean over mirrored windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch

Flips = tuple[tuple[int, ...], ...]
"""Sets of window dimensions to flip; the first is empty, the window as it is."""


def flips_along(axes: Sequence[int]) -> Flips:
    """Every set of ``axes`` (0, 1, 2 = left-right, back-front, feet-head), the empty one first.

    Raises
    ------
    ValueError
        An axis that is none, or twice.
    """
    if len(set(axes)) < len(axes) or not set(axes) <= {0, 1, 2}:
        raise ValueError(f"mirror axes {tuple(axes)}: each of 0, 1, 2 once at most")
    dimensions = [axis + 2 for axis in sorted(axes)]
    return tuple(some for n in range(len(dimensions) + 1) for some in combinations(dimensions, n))


def forward(
    module: torch.nn.Module, dtype: torch.dtype, flips: Flips, windows: torch.Tensor
) -> torch.Tensor:
    """Logits of windows, the mean over the windows mirrored by each of ``flips``.

    Parameters
    ----------
    dtype
        The network runs in it; more than one flip is summed in float32.
    windows
        ``(B, 1, x, y, z)`` in 0..1, axes nearest RAS.

    Returns
    -------
    Tensor
        ``(B, C, x, y, z)``, each flip turned back. A mirrored left kidney is still called
        left: averaging along axis 0 is for networks that were trained to do so.
    """
    logits = _once(module, dtype, windows)
    if len(flips) == 1:
        return logits
    total = logits.float()
    for flip in flips[1:]:
        total = total + torch.flip(_once(module, dtype, torch.flip(windows, flip)), flip)
    return total / len(flips)


def _once(module: torch.nn.Module, dtype: torch.dtype, windows: torch.Tensor) -> torch.Tensor:
    if dtype == torch.float32:
        logits: torch.Tensor = module(windows)
        return logits
    windows = windows.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(windows.device.type, dtype):
        logits = module(windows)
    return logits
