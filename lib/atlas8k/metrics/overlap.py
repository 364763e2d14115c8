"""Measure the overlap of two label maps: the Dice similarity coefficient of every organ.

Convention (Touchstone): an organ the truth does not have is NaN, whatever the
prediction is, so that means are over the cases where the organ is present. A
prediction of an organ that the truth lacks is not lost: it is the ``spurious`` count of
:func:`counts`, and `atlas8k evaluate` reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError, VolumeError
from atlas8k.core.structures import ORGANS, in_use
from atlas8k.core.voxels import joint_counts

Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Counts:
    """Voxels per organ, each ``(organs,)`` int64, organ id order.

    Attributes
    ----------
    truth, prediction
        Voxels of the organ in either map.
    both
        Voxels that are the organ in both.
    """

    truth: npt.NDArray[np.int64]
    prediction: npt.NDArray[np.int64]
    both: npt.NDArray[np.int64]

    @property
    def dsc(self) -> npt.NDArray[np.float64]:
        """Dice coefficient, ``(organs,)`` float64 in 0..1; NaN where the truth lacks the organ."""
        total = self.truth + self.prediction
        with np.errstate(invalid="ignore"):
            value = 2.0 * self.both / total
        return np.where(self.truth > 0, value, np.nan)

    @property
    def spurious(self) -> npt.NDArray[np.int64]:
        """Voxels predicted of organs that the truth lacks, ``(organs,)`` int64."""
        return np.where(self.truth == 0, self.prediction, 0)


def check_maps(pred: Labels, truth: Labels) -> None:
    """Refuse two label maps that are not 3D, not of one shape, or not of our organ ids.

    Raises
    ------
    GridMismatchError
        Where the shapes differ or are not 3D.
    VolumeError
        Where a value is no organ id of ours.
    """
    if pred.shape != truth.shape or truth.ndim != 3 or not truth.size:
        raise GridMismatchError(
            "prediction",
            f"shape {pred.shape} is not that of the truth, {truth.shape}; resample it first",
        )
    for name, label in (("prediction", pred), ("truth", truth)):
        low, high = int(label.min()), int(label.max())
        if low < 0 or high > len(ORGANS):
            raise VolumeError(
                name,
                f"values {low} to {high} go beyond organ ids 0 to {len(ORGANS)}; map the labels "
                "to ours first",
            )


def counts(pred: Labels, truth: Labels) -> Counts:
    """Count voxels per organ in two label maps and in both.

    Parameters
    ----------
    pred, truth
        ``(X, Y, Z)`` integer label maps on one grid: 0, and organ ids 1 to 9.

    Raises
    ------
    GridMismatchError, VolumeError
        As :func:`check_maps`.
    """
    check_maps(pred, truth)
    table = joint_counts(truth.astype(np.uint8, copy=False), pred.astype(np.uint8, copy=False))
    table = table[: len(ORGANS) + 1, : len(ORGANS) + 1]
    found = Counts(table.sum(1)[1:], table.sum(0)[1:], table.diagonal()[1:].copy())
    for organ, parts in in_use().parts.items():  # a tumour's voxels are its organ's, too
        own = list(parts)
        found.truth[organ - 1] = table[own].sum()
        found.prediction[organ - 1] = table[:, own].sum()
        found.both[organ - 1] = table[np.ix_(own, own)].sum()
    return found


def dsc(pred: Labels, truth: Labels) -> npt.NDArray[np.float64]:
    """Return the Dice similarity coefficient per organ, 2|P and T| / (|P| + |T|).

    Parameters
    ----------
    pred, truth
        ``(X, Y, Z)`` integer label maps on one grid: 0, and organ ids 1 to 9.

    Returns
    -------
    ndarray
        ``(organs,)`` float64 in 0..1, organ id order; NaN where the truth lacks the
        organ (also where the prediction has it), 0 where only the truth has it.

    Raises
    ------
    GridMismatchError, VolumeError
        As :func:`check_maps`.
    """
    return counts(pred, truth).dsc
