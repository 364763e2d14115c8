"""The rankings: by which figure of its organs a volume is put in the priority list.

One row here names a ranking for the store, the settings, the commands and the pictures. Its
figure by organ, millilitres, comes from :mod:`atlas8k.services.prediction.answers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Ranking(NamedTuple):
    """A ranking in words.

    Attributes
    ----------
    figure
        What a volume is ranked by, as on an axis.
    share
        What a part of all volumes' figures is a part of, as in a sentence.
    unit
        Unit of the figure.
    """

    figure: str
    share: str
    unit: str


EQ4 = "eq4"
RANKINGS: Mapping[str, Ranking] = {
    EQ4: Ranking("attention size", "attention", "ml"),
    "salient": Ranking("salient volume", "salient volume", "ml"),
    "per_slice": Ranking("attention size a slice", "attention a slice", "ml a slice"),
}
"""By name; where each is from is said in :mod:`atlas8k.attention`."""

DEFAULT_RANKING = "salient"
"""Of a new priority list, where none is chosen."""
