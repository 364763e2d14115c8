"""Check soft predictions once, where they come in, and define their byte codes.

Bytes are half the size of float16; the cache of predictions keeps them. Code q stands for
``(q / 127)^3 / 2`` up to 127 and for one minus that of ``255 - q`` from
128 on, so that 0 and 255 are exactly 0 and 1, steps are fine near both ends, where
``-p ln p`` is steep and interiors agree, and ``q >= 128`` exactly where ``p > 0.5``. A
probability gets the nearest code: it moves by no more than :data:`CODE_ERROR`.

Networks predict tiny probabilities all over the body, which would fill every byte. Where no
network has more than a floor, the codes are 0 and the exact sums of Eq. 1 and Eq. 2 over
these voxels are kept beside the codes, so that sizes lose nothing by the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import AttentionError

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
    """Return one array ``(organs, X, Y, Z)`` a network; views, nothing is copied.

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


FLOOR = 1e-3
"""Default floor; the salient thresholds (std 0.1, entropy 0.05) lie far above it."""


def _levels() -> npt.NDArray[np.float64]:
    lower = 0.5 * (np.arange(128) / 127.0) ** 3
    levels: npt.NDArray[np.float64] = np.concatenate([lower, 1.0 - lower[::-1]])
    levels[128] += 2.0**-23  # so that what a code stands for is above 0.5 too, in float32
    return levels


LEVELS: npt.NDArray[np.float64] = _levels()
"""Probability that each of the 256 codes stands for."""

CODE_ERROR = float(np.diff(LEVELS[:128]).max() / 2)
"""Largest distance between a probability and its code's: 0.0059, near 0.5."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """Byte-quantised probabilities of one volume.

    Attributes
    ----------
    codes
        ``(models, organs, X, Y, Z)`` uint8, see :data:`LEVELS`.
    lost
        ``(organs, 2)`` float64: Eq. 1 and Eq. 2 summed, in voxels, where the floor set
        the codes to 0. :func:`~atlas8k.attention.attention_sizes` adds them.
    floor
        See :meth:`of`.
    """

    codes: npt.NDArray[np.uint8]
    lost: npt.NDArray[np.float64]
    floor: float = FLOOR

    def __post_init__(self) -> None:
        if self.codes.dtype != np.uint8 or self.codes.ndim != 5:
            raise AttentionError(
                "codes", f"{self.codes.dtype} {self.codes.shape}; give uint8 of five axes"
            )
        if self.lost.shape != (self.codes.shape[1], 2):
            raise AttentionError("codes", f"lost has shape {self.lost.shape}; give (organs, 2)")

    def probabilities(self) -> npt.NDArray[np.float32]:
        """Return the probabilities of the codes, ``(models, organs, X, Y, Z)`` float32."""
        decoded: npt.NDArray[np.float32] = LEVELS.astype(np.float32)[self.codes]
        return decoded


@cache
def code_search() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return tables by which the kernel finds the code of ``r = min(p, 1 - p)``, 0 to 0.5.

    Returns
    -------
    cells
        By the upper 16 bits of float32 ``r``, the code of the least such value. A code's
        interval spans more than such a cell, so that the code is this or the next one.
    edges
        ``edges[q]``: above it ``q + 1`` is the nearer code.
    """
    edges = np.full(128, np.inf, dtype=np.float32)
    edges[:127] = (LEVELS[:127] + LEVELS[1:128]) / 2
    last = int(np.float32(0.5).view(np.uint32)) >> 16
    least = (np.arange(last + 1, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    return np.searchsorted(edges, least, side="left").astype(np.uint8), edges


def entropies(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return ``-p ln p`` as a float32 table."""
    p = probabilities.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(p > 0, -p * np.log(p), 0.0)
    return np.maximum(values, 0.0).astype(np.float32)
