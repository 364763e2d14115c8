"""What the package accepts as soft predictions, checked once at the door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.errors import AttentionError

Probs = npt.NDArray[Any] | Sequence[npt.NDArray[Any]]
"""Soft predictions of one volume: an array ``(models, organs, X, Y, Z)`` or a sequence
of arrays ``(organs, X, Y, Z)``, one a network (``numpy.memmap`` does, so that no more than
a slab need be in memory). float16, float32 or float64, values in 0..1."""

TOLERANCE = 1e-4
"""How far outside 0..1 a value may lie: stitching windows and softmax round to 1.0000001.
Such values are taken as 0 or 1; anything beyond is an error."""

FLOATS = (np.float16, np.float32, np.float64)


def as_networks(
    probs: Probs, organs: Sequence[str], name: str = "probabilities"
) -> tuple[npt.NDArray[Any], ...]:
    """One array ``(organs, X, Y, Z)`` a network; views, nothing is copied.

    Shapes and dtypes are checked here; values are checked where they are read, see
    :func:`check_values`.

    Parameters
    ----------
    probs
        See :data:`Probs`. One network is allowed: its inconsistency is 0.
    organs
        Names of the organ axis, in order.
    name
        The volume, for messages.

    Raises
    ------
    AttentionError
        No network, another number of axes or organs than expected, networks on
        different shapes, or a dtype that holds no probabilities.
    """
    if isinstance(probs, np.ndarray) and probs.ndim != 5:
        raise AttentionError(
            name,
            f"probabilities have shape {probs.shape}; give (models, organs, X, Y, Z)",
        )
    networks = tuple(probs)
    if not networks:
        raise AttentionError(name, "no network's prediction was given; give one or more")
    for index, network in enumerate(networks):
        where = f"network {index + 1} of {len(networks)}"
        if not isinstance(network, np.ndarray) or network.ndim != 4:
            shape = getattr(network, "shape", type(network).__name__)
            raise AttentionError(name, f"{where} is {shape}; give an array (organs, X, Y, Z)")
        if network.dtype.type not in FLOATS:
            raise AttentionError(
                name, f"{where} is {network.dtype}; give probabilities as float16 or float32"
            )
        if network.shape[0] != len(organs):
            raise AttentionError(
                name,
                f"{where} has {network.shape[0]} organs where {len(organs)} are expected "
                f"({', '.join(organs)}); leave out a background channel, and fill organs "
                "a network does not know with 0",
            )
        if network.shape != networks[0].shape or network.dtype != networks[0].dtype:
            raise AttentionError(
                name,
                f"{where} is {network.dtype} {network.shape}, the first is "
                f"{networks[0].dtype} {networks[0].shape}; put all on one grid and dtype",
            )
        if min(network.shape) < 1:
            raise AttentionError(name, f"{where} is empty: shape {network.shape}")
    return networks


def check_values(block: npt.NDArray[Any], name: str = "probabilities") -> bool:
    """Check that a block of probabilities lies in 0..1.

    Parameters
    ----------
    block
        Any shape, floating point.
    name
        The volume, for the message.

    Returns
    -------
    bool
        Whether some value lies outside 0..1 by no more than :data:`TOLERANCE`, so that
        the block must be clipped before use.

    Raises
    ------
    AttentionError
        NaN, or a value outside by more than the tolerance.
    """
    low, high = float(block.min()), float(block.max())  # NaN goes through both
    if np.isnan(low) or np.isnan(high):
        raise AttentionError(
            name, f"{int(np.isnan(block).sum())} probabilities are NaN; predict the volume again"
        )
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise AttentionError(
            name,
            f"probabilities run from {low:.6g} to {high:.6g}, they must lie in 0..1; "
            "apply the network's sigmoid or softmax first",
        )
    return low < 0 or high > 1


def check_voxel_ml(voxel_ml: float, name: str = "probabilities") -> None:
    """Raise :class:`AttentionError` where the voxel volume is not a positive number."""
    if not (np.isfinite(voxel_ml) and voxel_ml > 0):
        raise AttentionError(name, f"a voxel of {voxel_ml} ml; give a positive volume in ml")
