"""The rankings: by which figure of its organs a volume is put in the priority list.

One row here names a ranking for the store, the settings, the commands, the benchmark and the
pictures. Its figure by organ comes from :mod:`atlas8k.services.prediction.answers`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple


class Ranking(NamedTuple):
    """A ranking in words, and how its figures of organs become one of the volume.

    Attributes
    ----------
    figure
        What a volume is ranked by, as on an axis.
    share
        What a part of all volumes' figures is a part of, as in a sentence.
    unit
        Unit of the figure; empty: it has none.
    over_organs
        ``sum``, or ``mean`` over the organs that have a figure. Both are what SQLite's
        ``sum`` and ``avg`` compute; no organ with a figure is 0.
    """

    figure: str
    share: str
    unit: str
    over_organs: Literal["sum", "mean"] = "sum"

    @property
    def in_unit(self) -> str:
        """Unit in brackets after a blank, nothing where it has none."""
        return f" ({self.unit})" if self.unit else ""

    def score(self, figures: Iterable[float | None]) -> float:
        """Return a volume's figure from those of its organs; ``None``: the organ has none."""
        known = [value for value in figures if value is not None]
        total = math.fsum(known)
        return total / len(known) if known and self.over_organs == "mean" else total


EQ4 = "eq4"
PAIRWISE_DICE = "pairwise_dice"
"""Needs two networks or more."""
EXPECTED_ERROR = "expected_error"
"""Needs networks whose errors were learnt, see :mod:`atlas8k.attention.quality_model`."""
RANKINGS: Mapping[str, Ranking] = {
    EQ4: Ranking("attention size", "attention", "ml"),
    "salient": Ranking("salient volume", "salient volume", "ml"),
    "per_slice": Ranking("attention size a slice", "attention a slice", "ml a slice"),
    PAIRWISE_DICE: Ranking("1 - mean pairwise Dice", "disagreement", "", "mean"),
    "epistemic_sum": Ranking("entropy of the mean prediction", "entropy", "nat ml"),
    "findings": Ranking("anatomical findings", "anatomical findings", ""),
    EXPECTED_ERROR: Ranking("expected wrong volume", "expected wrong volume", "ml"),
}
"""By name; where each is from is said in :mod:`atlas8k.attention`."""

DEFAULT_RANKING = "salient"
"""Of a new priority list, where none is chosen."""
