"""How good the labels of a collection are, where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from atlas8k.evaluation.overlap import dsc
from atlas8k.organs import ORGAN_NAMES


class Quality(BaseModel):
    """Mean DSC of assembled labels with the truth.

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
    """Measure labels one after another.

    Parameters
    ----------
    pairs
        Volume, and its label and truth: each ``(X, Y, Z)`` uint8, organ ids, on one grid.
    reviewed
        Volumes that a person has submitted.
    """
    rows: dict[str, npt.NDArray[np.float64]] = {v: dsc(*pair) for v, pair in pairs}
    organs = _by_organ(rows)
    return Quality(
        volumes=len(rows),
        reviewed=len(reviewed & rows.keys()),
        dsc=_mean(organs),
        dsc_unreviewed=_mean(_by_organ({v: r for v, r in rows.items() if v not in reviewed})),
        organs=organs,
    )


def _by_organ(rows: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, float]:
    found = {}
    for index, organ in enumerate(ORGAN_NAMES):
        values = [float(row[index]) for row in rows.values() if not math.isnan(row[index])]
        if values:
            found[organ] = math.fsum(values) / len(values)
    return found


def _mean(organs: Mapping[str, float]) -> float | None:
    return math.fsum(organs.values()) / len(organs) if organs else None
