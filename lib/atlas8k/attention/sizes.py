"""Attention sizes: Eq. 4 summed over a volume, organ by organ, in millilitres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention import slabs
from atlas8k.attention.equations import OverlapMode, check_overlap_mode
from atlas8k.attention.probabilities import Probs, Quantised, check_voxel_ml
from atlas8k.core.structures import ORGAN_NAMES

N_COLUMNS = 8
"""A table's columns, in voxels: Eq. 1, Eq. 2, Eq. 3 per network and across, the largest
Eq. 4, voxels left out, the most that these can hold of Eq. 4, and the entropy of the
networks' mean prediction."""


@dataclass(frozen=True)
class AttentionSizes:
    """Eq. 1 to 4 summed over the voxels of one volume, by organ name, in ml.

    A sum in ml is the sum over voxels times the voxel's volume, so that volumes on
    different grids compare.

    Attributes
    ----------
    inconsistency_ml, uncertainty_ml
        Sums of Eq. 1 and Eq. 2.
    overlap_per_network_ml, overlap_any_ml
        Sums of Eq. 3 in both readings; ``overlap_mode`` names the one in Eq. 4.
    mean_entropy_ml
        Sum of ``-m ln m``, m the mean of the networks' probabilities: the predictive
        entropy, see :func:`.equations.entropy_of_mean`. Of codes it is the least that it
        can be, by what lies below their floor.
    peak
        Largest value of Eq. 4 anywhere in the organ, no unit.
    overlap_mode
        ``"per_network"`` or ``"any"``.
    left_out_ml
        The most that the sums can be too small by, because runs of voxels where no
        network predicts anything are left out.
    """

    inconsistency_ml: dict[str, float]
    uncertainty_ml: dict[str, float]
    overlap_per_network_ml: dict[str, float]
    overlap_any_ml: dict[str, float]
    mean_entropy_ml: dict[str, float]
    peak: dict[str, float]
    overlap_mode: OverlapMode = "per_network"
    left_out_ml: float = 0.0

    @property
    def overlap_ml(self) -> dict[str, float]:
        """Sum of Eq. 3 as it enters Eq. 4."""
        if self.overlap_mode == "any":
            return self.overlap_any_ml
        return self.overlap_per_network_ml

    @cached_property
    def attention_ml(self) -> dict[str, float]:
        """Attention size of every organ: the sum of Eq. 4."""
        return {
            organ: value + self.uncertainty_ml[organ] + self.overlap_ml[organ]
            for organ, value in self.inconsistency_ml.items()
        }

    @property
    def organs(self) -> tuple[str, ...]:
        """Organ names in the order of the organ axis."""
        return tuple(self.inconsistency_ml)

    @property
    def total_ml(self) -> float:
        """Attention size of the volume."""
        return float(sum(self.attention_ml.values()))

    def per_slice_ml(self, slices: int) -> dict[str, float]:
        """Return every organ's map over its largest value, summed, over the number of slices.

        ``calculate_attention.py`` of the reference code; one of the three published rankings.

        Parameters
        ----------
        slices
            Axial slices of the working grid (its third axis).
        """
        return {
            organ: ml / self.peak[organ] / slices if self.peak[organ] > 0 else 0.0
            for organ, ml in self.attention_ml.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Return fields, ``attention_ml`` and ``total_ml``, ready for JSON."""
        return asdict(self) | {"attention_ml": self.attention_ml, "total_ml": self.total_ml}


def attention_sizes(
    probs: Probs | Quantised,
    voxel_ml: float,
    *,
    overlap: OverlapMode = "per_network",
    organs: Sequence[str] = ORGAN_NAMES,
    name: str = "probabilities",
) -> AttentionSizes:
    """Measure the attention sizes of one volume.

    The kernel computes in float32, within 1e-5 of the sums of :mod:`.equations`, and leaves
    out at most ``left_out_ml``; codes move a probability by up to 0.006 and sums of ordinary
    predictions by less than 1 %.

    Parameters
    ----------
    probs
        ``(models, organs, X, Y, Z)`` float16 or float32 in 0..1, or one such array a
        network, or :class:`~atlas8k.attention.Quantised`. One network is
        allowed, its inconsistency is 0.
    voxel_ml
        Volume of a voxel, ml (:attr:`atlas8k.core.volume.Grid.voxel_ml`).
    overlap
        Reading of Eq. 3 that enters Eq. 4; both are in the result.
    organs
        Names of the organ axis.
    name
        The volume, for messages.

    Raises
    ------
    AttentionError
        Probabilities outside 0..1, NaN, or of the wrong shape; names the volume.
    """
    check_overlap_mode(overlap)
    check_voxel_ml(voxel_ml, name)
    source = slabs.Source.of(probs, organs, name)
    table = slabs.sweep(source, across=overlap == "any").table
    if isinstance(probs, Quantised):
        add_lost(table, probs.lost)
    return sizes_from_table(table, voxel_ml, organs, overlap)


def add_lost(table: npt.NDArray[np.float64], lost: npt.NDArray[np.float64]) -> None:
    """Add what codes left out below their floor to a table, in place.

    The entropy of a mean is no less than the mean of the entropies, which is what is known.
    """
    table[:, :2] += lost
    table[:, 7] += lost[:, 1]


def sizes_from_table(
    table: npt.NDArray[np.float64], voxel_ml: float, organs: Sequence[str], mode: OverlapMode
) -> AttentionSizes:
    """Name the rows and columns of ``table: (organs, N_COLUMNS)`` and turn voxels into ml."""
    by_organ = [
        {organ: float(value) for organ, value in zip(organs, column, strict=True)}
        for column in (table[:, :5] * [voxel_ml, voxel_ml, voxel_ml, voxel_ml, 1.0]).T
    ]
    return AttentionSizes(
        inconsistency_ml=by_organ[0],
        uncertainty_ml=by_organ[1],
        overlap_per_network_ml=by_organ[2],
        overlap_any_ml=by_organ[3],
        mean_entropy_ml={
            organ: float(value * voxel_ml) for organ, value in zip(organs, table[:, 7], strict=True)
        },
        peak=by_organ[4],
        overlap_mode=mode,
        left_out_ml=float(table[:, 6].sum() * voxel_ml),
    )
