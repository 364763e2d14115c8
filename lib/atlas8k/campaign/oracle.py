"""An annotator who knows the truth: corrects what it is given as far as it is told to look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.evaluation.folders import find_labels, read_case
from atlas8k.evaluation.overlap import counts
from atlas8k.grid import Grid
from atlas8k.organs import ORGAN_IDS
from atlas8k.resampling import resample


@dataclass(frozen=True, eq=False)
class Corrected:
    """What the oracle submits.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids.
    absent
        Organs that it says are not there.
    corrected
        Organs it has drawn anew or taken away.
    """

    array: npt.NDArray[np.uint8]
    absent: tuple[str, ...]
    corrected: tuple[str, ...]


def correct(
    start: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], below: float | None = None
) -> Corrected:
    """Correct a start label.

    Parameters
    ----------
    start, truth
        ``(X, Y, Z)`` uint8, organ ids, on one grid.
    below
        Correct organs with a DSC below this only, and those drawn where there is none;
        all of them where ``None``.

    Raises
    ------
    GridMismatchError, VolumeError
        The two do not fit, or hold other values than organ ids.
    """
    seen = counts(start, truth)
    wrong = []
    for organ, number in ORGAN_IDS.items():
        there, drawn = seen.truth[number - 1] > 0, seen.prediction[number - 1] > 0
        # An organ that is exactly right needs no correction, however far one looks.
        limit = 1.0 if below is None else below
        if (there and seen.dsc[number - 1] < limit) or (drawn and not there):
            wrong.append(organ)
    absent = tuple(o for o, number in ORGAN_IDS.items() if not seen.truth[number - 1])
    ids = [ORGAN_IDS[organ] for organ in wrong]
    made = np.where(np.isin(start, ids), 0, start).astype(np.uint8)
    np.copyto(made, truth, where=np.isin(truth, ids))
    return Corrected(made, absent, tuple(wrong))


class Truth:
    """True labels of a folder, by volume.

    Parameters
    ----------
    folder
        One label map a case, or a folder a case, as ``atlas8k evaluate`` reads them.

    Raises
    ------
    EvaluationError
        No such folder, or nothing in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: Mapping[str, Path] = find_labels(folder)

    def missing(self, volumes: list[str]) -> list[str]:
        """Volumes that have no true label."""
        return [volume for volume in volumes if volume not in self.files]

    def on(self, volume: str, grid: Grid) -> npt.NDArray[np.uint8]:
        """``(X, Y, Z)`` uint8, organ ids, on a CT's grid."""
        label = read_case(self.files[volume])
        if label.grid.same_as(grid) and label.grid.shape == grid.shape:
            return label.array
        moved: npt.NDArray[np.uint8] = resample(label.array, label.grid, grid, linear=False)
        return moved
