"""Sum Eq. 1 to 4 on a torch device, where the probabilities are.

A GPU that has just predicted holds the probabilities; they are summed there without
copying them back. Slabs along X bound what is needed beside the input. The reference is
:mod:`atlas8k.attention.equations`; the result is :class:`~atlas8k.attention.AttentionSizes`
as from :func:`~atlas8k.attention.attention_sizes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atlas8k.attention.equations import OverlapMode, check_overlap_mode
from atlas8k.attention.probabilities import LEVELS, TOLERANCE, Quantised, check_voxel_ml
from atlas8k.attention.sizes import N_COLUMNS, AttentionSizes, add_lost, sizes_from_table
from atlas8k.core.errors import AttentionError
from atlas8k.core.structures import ORGAN_NAMES, containers

SLAB_ELEMENTS = 1 << 24
"""Probabilities of one slab: 64 MiB as float32, and five times that while they are used."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def attention_sizes_on(
    device: str | torch.device,
    probs: torch.Tensor | npt.NDArray[np.floating[Any]] | Quantised,
    voxel_ml: float,
    *,
    overlap: OverlapMode = "per_network",
    organs: Sequence[str] = ORGAN_NAMES,
    name: str = "probabilities",
) -> AttentionSizes:
    """Measure the attention sizes of one volume on `device`.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``. Probabilities that lie elsewhere are brought
        there slab by slab.
    probs
        ``(models, organs, X, Y, Z)`` in 0..1, float, on any device, or bytes as
        :class:`~atlas8k.attention.Quantised`.
    voxel_ml
        Volume of a voxel, ml.
    overlap
        Reading of Eq. 3 that enters Eq. 4; both are in the result.
    organs
        Names of the organ axis.
    name
        The volume, for messages.

    Returns
    -------
    AttentionSizes
        Nothing is left out: ``left_out_ml`` is 0.

    Raises
    ------
    AttentionError
        Probabilities outside 0..1, NaN, or of the wrong shape; names the volume.
    """
    check_overlap_mode(overlap)
    check_voxel_ml(voxel_ml, name)
    codes = isinstance(probs, Quantised)
    array = torch.as_tensor(probs.codes if isinstance(probs, Quantised) else probs)
    if array.ndim != 5 or min(array.shape) < 1 or array.shape[1] != len(organs):
        raise AttentionError(
            name,
            f"probabilities have shape {tuple(array.shape)}; give (models, {len(organs)} organs, "
            "X, Y, Z)",
        )
    if not codes and array.dtype not in FLOATS:
        raise AttentionError(name, f"probabilities are {array.dtype}; give a floating-point type")
    target = torch.device(device)
    levels = torch.tensor(LEVELS, dtype=torch.float32, device=target) if codes else None
    models, n_organs, x, y, z = array.shape
    within = containers(organs)
    thick = max(1, SLAB_ELEMENTS // (models * n_organs * y * z))
    table = torch.zeros((n_organs, N_COLUMNS), dtype=torch.float64, device=target)
    for begin in range(0, x, thick):
        slab = array[:, :, begin : begin + thick].to(target)
        values = _checked(slab, name) if levels is None else levels[slab.int()]
        _add(table, values.flatten(2), overlap, within)
    sums = table.cpu().numpy()
    if isinstance(probs, Quantised):
        add_lost(sums, probs.lost)
    return sizes_from_table(sums, voxel_ml, organs, overlap)


def _checked(slab: torch.Tensor, name: str) -> torch.Tensor:
    """Return probabilities as float32 in 0..1, clipped where they are off by rounding."""
    values = slab.float()
    low, high = (float(v) for v in torch.aminmax(values))
    if low != low or high != high:  # noqa: PLR0124
        raise AttentionError(name, "probabilities are NaN; predict the volume again")
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise AttentionError(
            name,
            f"probabilities run from {low:.6g} to {high:.6g}, they must lie in 0..1; "
            "apply the network's sigmoid or softmax first",
        )
    return values.clamp(0, 1)


def _add(
    table: torch.Tensor, values: torch.Tensor, mode: OverlapMode, within: tuple[int, ...]
) -> None:
    """Add the sums of ``values: (models, organs, voxels)`` to ``table: (organs, columns)``."""
    std = values.std(dim=0, correction=0)
    entropy = torch.special.entr(values).mean(dim=0)
    predicted = values > 0.5
    counted = predicted.clone()
    for inner, outer in enumerate(within):
        if outer >= 0:
            counted[:, inner] &= ~predicted[:, outer]
    own = _crowded(predicted, counted).any(dim=0)
    cross = _crowded(*(one.any(dim=0, keepdim=True) for one in (predicted, counted)))[0]
    total = std + entropy + (cross if mode == "any" else own)
    for column, field in enumerate((std, entropy, own, cross)):
        table[:, column] += field.sum(dim=1, dtype=torch.float64)
    of_mean = torch.special.entr(values.mean(dim=0).clamp(max=1.0))
    table[:, 7] += of_mean.sum(dim=1, dtype=torch.float64)
    table[:, 4] = torch.maximum(table[:, 4], total.amax(dim=1).double())


def _crowded(predicted: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Return where an organ and another one, along axis 1, are both predicted."""
    return predicted & (counted.sum(dim=1, keepdim=True) > 1)
