"""Probabilities as bytes: half the size of float16, and what the cache keeps.

Code q stands for ``(q / 127)^3 / 2`` up to 127 and for one minus that of ``255 - q`` from
128 on, so that 0 and 255 are exactly 0 and 1, steps are fine near both ends, where
``-p ln p`` is steep and interiors agree, and ``q >= 128`` exactly where ``p > 0.5``. A
probability gets the nearest code: it moves by no more than :data:`CODE_ERROR`.

A network's haze, tiny probabilities all over the body, would fill every byte. Where no
network says more than a floor, the codes are 0 and the exact sums of Eq. 1 and Eq. 2 over
these voxels are kept beside the codes, so that sizes lose nothing by the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.inputs import Probs
from atlas8k.errors import AttentionError
from atlas8k.organs import ORGAN_NAMES

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

    @classmethod
    def of(
        cls,
        probs: Probs,
        *,
        floor: float = FLOOR,
        organs: Sequence[str] = ORGAN_NAMES,
        name: str = "probabilities",
        workers: int | None = None,
    ) -> Quantised:
        """The nearest codes of one volume's probabilities.

        Parameters
        ----------
        probs
            ``(models, organs, X, Y, Z)`` float16 or float32 in 0..1, or one array a network.
        floor
            Where no network says more than this for an organ, the codes are 0. At 0 every
            probability keeps its nearest code.
        organs, name, workers
            As in :func:`~atlas8k.attention.attention_sizes`.

        Raises
        ------
        AttentionError
            As :func:`~atlas8k.attention.attention_sizes`, and for a floor outside 0..0.1.
        """
        from atlas8k.attention import engine

        if not 0 <= floor <= 0.1:
            raise AttentionError(name, f"a floor of {floor}; give a probability from 0 to 0.1")
        codes, lost = engine.encode(engine.Source.of(probs, organs, name), floor, workers)
        return cls(codes, lost, floor)

    def probabilities(self) -> npt.NDArray[np.float32]:
        """``(models, organs, X, Y, Z)`` float32: what the codes stand for."""
        decoded: npt.NDArray[np.float32] = LEVELS.astype(np.float32)[self.codes]
        return decoded


@cache
def code_search() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Tables by which the kernel finds the code of ``r = min(p, 1 - p)``, 0 to 0.5.

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
    """``-p ln p`` as a float32 table."""
    p = probabilities.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(p > 0, -p * np.log(p), 0.0)
    return np.maximum(values, 0.0).astype(np.float32)
