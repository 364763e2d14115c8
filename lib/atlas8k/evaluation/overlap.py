"""Overlap of two label maps: the Dice similarity coefficient of every organ.

Convention (Touchstone): an organ the truth does not have is NaN, whatever the
prediction says, so that means are over the cases where the organ is present. A
prediction of an organ that is not there is not lost: it is the ``spurious`` count of
:func:`counts`, and `atlas8k evaluate` reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlas8k.errors import GridMismatchError, VolumeError
from atlas8k.organs import N_ORGANS

_SLAB_VOXELS = 1 << 22
"""Voxels counted at a time: bounds the int64 copies that counting makes to some 32 MB."""


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
        """``(organs,)`` float64 in 0..1; NaN where the truth lacks the organ."""
        total = self.truth + self.prediction
        with np.errstate(invalid="ignore"):
            value = 2.0 * self.both / total
        return np.where(self.truth > 0, value, np.nan)

    @property
    def spurious(self) -> npt.NDArray[np.int64]:
        """Voxels predicted of organs that the truth lacks, ``(organs,)`` int64."""
        return np.where(self.truth == 0, self.prediction, 0)


def check_maps(
    pred: npt.NDArray[np.integer[Any]], truth: npt.NDArray[np.integer[Any]], organs: int
) -> None:
    """Refuse two label maps that are not 3D, not of one shape, or not of our organ ids.

    Raises
    ------
    GridMismatchError
        Where the shapes differ or are not 3D.
    VolumeError
        Where a value lies outside ``0..organs``: the map has other organ ids than ours.
    """
    if pred.shape != truth.shape or truth.ndim != 3 or not truth.size:
        raise GridMismatchError(
            "prediction",
            f"shape {pred.shape} is not that of the truth, {truth.shape}; resample it first",
        )
    for name, label in (("prediction", pred), ("truth", truth)):
        low, high = int(label.min()), int(label.max())
        if low < 0 or high > organs:
            raise VolumeError(
                name,
                f"values {low} to {high} go beyond organ ids 0 to {organs}; map the labels "
                "to ours first",
            )


def counts(
    pred: npt.NDArray[np.integer[Any]], truth: npt.NDArray[np.integer[Any]], organs: int = N_ORGANS
) -> Counts:
    """Count voxels per organ in two label maps and in both.

    Parameters
    ----------
    pred, truth
        ``(X, Y, Z)`` integer label maps on one grid, values 0 (background) to ``organs``.
    organs
        Highest organ id.

    Raises
    ------
    GridMismatchError
        Where the shapes differ.
    VolumeError
        Where a value lies outside ``0..organs``: the map has other organ ids than ours.
    """
    check_maps(pred, truth, organs)
    size = organs + 1
    joint = np.zeros(size * size, dtype=np.int64)
    # One memory order for both: a Fortran-ordered map (nibabel's) is flattened as it lies.
    order: Literal["C", "F"] = "F" if truth.flags.f_contiguous else "C"
    flat_pred, flat_truth = pred.ravel(order=order), truth.ravel(order=order)
    for start in range(0, flat_truth.size, _SLAB_VOXELS):
        stop = start + _SLAB_VOXELS
        index = flat_truth[start:stop].astype(np.intp) * size + flat_pred[start:stop]
        joint += np.bincount(index, minlength=size * size)
    table = joint.reshape(size, size)
    return Counts(table.sum(1)[1:], table.sum(0)[1:], table.diagonal()[1:].copy())


def dsc(
    pred: npt.NDArray[np.integer[Any]], truth: npt.NDArray[np.integer[Any]], organs: int = N_ORGANS
) -> npt.NDArray[np.float64]:
    """Dice similarity coefficient per organ, 2|P and T| / (|P| + |T|).

    Parameters
    ----------
    pred, truth
        ``(X, Y, Z)`` integer label maps on one grid, values 0 (background) to ``organs``.

    Returns
    -------
    ndarray
        ``(organs,)`` float64 in 0..1, organ id order; NaN where the truth lacks the
        organ (also where the prediction has it), 0 where only the truth has it.

    Raises
    ------
    GridMismatchError, VolumeError
        As :func:`counts`.
    """
    return counts(pred, truth, organs).dsc
