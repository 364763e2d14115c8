"""Find the orientation of a network's training volumes: stated by its files, or tried on a CT.

nnU-Net's readers hand arrays on in the order in which a file stores its voxels. Those named
``…WithReorient`` turn them to RAS first; ``SimpleITKIO``, the default, and ``NibabelIO`` do
not. ITK calls the directions a file states by its own axes (identity is LPS), but nnU-Net
never looks at them: such a network's first axis has the direction that its training files
had, and neither plans nor weights state that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import CheckpointError
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Volume
from atlas8k.metrics.overlap import dsc
from atlas8k.models.checkpoint import Checkpoint
from atlas8k.models.importing.import_options import OrientationUnknownError
from atlas8k.models.predict import Predictor

ORIENTATIONS = tuple("".join(letters) for letters in product("RL", "AP", "SI"))
"""Every direction of the three axes, RAS first. Axes in another order are not supported."""

SETTLED: Mapping[str, str] = {"NibabelIOWithReorient": "RAS", "SimpleITKIOWithReorient": "RAS"}
"""nnU-Net's readers that turn volumes, with the orientation they turn to."""

LEAST_DSC, LEAST_LEAD = 0.5, 0.1
"""An orientation is clear whose mean DSC is at least that, and leads the next by that."""

LEAST_ML = 1.0
"""Smaller organs are not compared."""


def orientation_unknown(path: Path, source: Path, why: str) -> OrientationUnknownError:
    """Return the error with the command to type.

    Parameters
    ----------
    path
        The file that does not state it.
    source
        The file or folder that is being imported.
    """
    command = f"atlas8k weights import {source}"
    return OrientationUnknownError(
        path,
        f"{why}, so that which way the network knows left and right is not known. Type "
        f"`{command} --orientation LPS` with the directions in which the axes of its training "
        "volumes grow (nibabel.aff2axcodes of one of them), or have it found out on a CT: "
        f"`{command} --find-orientation CT.nii.gz --label ORGANS.nii.gz`; without --label the "
        "active networks are compared with",
    )


def orientation_of_plans(path: Path, source: Path, plans: Mapping[str, object]) -> str:
    """Return the orientation that the reader in nnU-Net's plans implies.

    Raises
    ------
    OrientationUnknownError
        They name a reader that leaves volumes as they are stored, or none.
    """
    reader = plans.get("image_reader_writer")
    settled = SETTLED.get(str(reader))
    if settled is not None:
        return settled
    how = "names no reader" if reader is None else f"names {reader}"
    raise orientation_unknown(path, source, f"{how}: volumes were used as they were stored")


@dataclass(frozen=True)
class Trial:
    """Agreement of a network with a label under one orientation; DSC by organ."""

    orientation: str
    dsc: Mapping[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.dsc.values())))


def try_orientations(
    checkpoint: Checkpoint,
    ct: Volume,
    truth: npt.NDArray[np.uint8],
    device: str = "cpu",
) -> list[Trial]:
    """Predict a CT under every orientation and compare; the best first.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation.
    truth
        ``(X, Y, Z)`` uint8, organ ids, on the CT's grid.

    Raises
    ------
    CheckpointError
        `truth` holds none of the network's organs.
    """
    voxels = np.bincount(truth.ravel(order="K"), minlength=10)
    organs = [
        organ
        for organ in checkpoint.organs
        if voxels[ORGAN_IDS[organ]] * ct.grid.voxel_ml >= LEAST_ML
    ]
    if not organs:
        raise CheckpointError(
            checkpoint.name,
            f"segments {', '.join(checkpoint.organs)}; the label to compare with has none of "
            "them: give another --label",
        )
    trials = []
    for orientation in ORIENTATIONS:
        turned = replace(
            checkpoint, preprocessing=replace(checkpoint.preprocessing, orientation=orientation)
        )
        label = Predictor({checkpoint.name: turned}, device).predict(ct).label_on(ct.grid)
        values = dsc(label, truth)
        trials.append(Trial(orientation, {o: float(values[ORGAN_IDS[o] - 1]) for o in organs}))
    return sorted(trials, key=lambda trial: -trial.mean)


def clear_winner(trials: list[Trial]) -> str | None:
    """Return the best of the trials, best first, where it leads clearly, else ``None``."""
    best, second = trials[:2]
    sure = best.mean >= LEAST_DSC and best.mean - second.mean >= LEAST_LEAD
    return best.orientation if sure else None
