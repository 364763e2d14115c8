"""Simulate a campaign with an annotator who knows the truth: what are the rounds worth?

Everything happens as with people: the ledger hands out samples, labels are submitted through
the label service, the same trainer trains and judges networks. The ledger records how far a
campaign has come; measurements are stored beside it after every phase, so that a simulation
that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from atlas8k.campaign.reports import Training
from atlas8k.core.grid import Grid
from atlas8k.core.resample import resample
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.metrics.overlap import dsc
from atlas8k.reports.folders import find_labels, read_case
from atlas8k.store import Holder

logger = logging.getLogger(__name__)

ORACLE = Holder.identify(client_id="oracle")
FILE = "simulation.json"


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
        """Return the volumes that have no true label."""
        return [volume for volume in volumes if volume not in self.files]

    def on(self, volume: str, grid: Grid) -> npt.NDArray[np.uint8]:
        """Read the true label ``(X, Y, Z)`` uint8, organ ids, on a CT's grid."""
        label = read_case(self.files[volume])
        if label.grid.same_as(grid) and label.grid.shape == grid.shape:
            return label.array
        moved: npt.NDArray[np.uint8] = resample(label.array, label.grid, grid, linear=False)
        return moved


class Quality(BaseModel):
    """Mean DSC of fused labels with the truth.

    A mean over organs is the mean of their means over volumes; an organ that a CT does not
    have is left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    volumes: int
    reviewed: int = Field(description="volumes a person has submitted by then")
    dsc: float | None = Field(description="mean over organs, all volumes")
    dsc_unreviewed: float | None = Field(description="the same, volumes nobody submitted")
    organs: dict[str, float] = Field(description="mean over all volumes, by organ")


Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def quality(pairs: Iterable[tuple[str, Pair]], reviewed: frozenset[str]) -> Quality:
    """Measure the quality of labels, one after another.

    Parameters
    ----------
    pairs
        Volume, and its label and truth: each ``(X, Y, Z)`` uint8, organ ids, on one grid.
    reviewed
        Volumes that a person has submitted.
    """
    rows = {volume: dsc(*pair) for volume, pair in pairs}
    unseen = [row for volume, row in rows.items() if volume not in reviewed]
    organs = _by_organ(rows.values())
    return Quality(
        volumes=len(rows),
        reviewed=len(reviewed & rows.keys()),
        dsc=_mean(organs),
        dsc_unreviewed=_mean(_by_organ(unseen)),
        organs=organs,
    )


def _by_organ(rows: Iterable[npt.NDArray[np.float64]]) -> dict[str, float]:
    means = {}
    for organ, values in zip(ORGAN_NAMES, zip(*rows, strict=True), strict=False):
        known = [float(value) for value in values if not math.isnan(value)]
        if known:
            means[organ] = math.fsum(known) / len(known)
    return means


def _mean(organs: Mapping[str, float]) -> float | None:
    return math.fsum(organs.values()) / len(organs) if organs else None


class Drawing(BaseModel):
    """Minutes of the corrections of a round, as brushed and as drawn with strokes.

    An organ takes :data:`~atlas8k.campaign.effort.MINUTES_AN_ORGAN` with a brush. With strokes it
    takes their seconds, and of those minutes the part of its wrong volume that they leave.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds_a_stroke: float
    organs: int = Field(description="that were wrong by a millilitre or more")
    strokes: int
    wrong_ml: float = Field(description="of these organs before the strokes")
    left_ml: float = Field(description="after them")
    minutes_brushed: float = Field(description="of all volumes, looking at them included")
    minutes_drawn: float


class SimulatedRound(BaseModel):
    """Measurements of one round; null where not measured yet, or interrupted."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    round: int
    model_version: str
    before: Quality = Field(description="when the round's networks had labeled everything")
    revised: Quality | None = Field(None, description="when the oracle had revised the top")
    after: Quality | None = Field(None, description="when the fine-tuned networks had labeled")
    reviewed: int = 0
    organs_corrected: int = 0
    training: Training | None = None
    drawing: Drawing | None = Field(None, description="minutes with strokes, where asked for")
