"""The attention map (Eq. 1 to 4), its salient regions and the rankings made from it.

Array code: no torch, no files. The fast kernels are compiled by numba on first use and
kept in numba's cache; importing this package compiles nothing and loads no numba.

- :mod:`.equations`: the four equations in plain numpy, the reference.
- :func:`attention_sizes`: their sums by organ, in ml.
- :func:`salient_regions`: sizes, salient masks and regions in one pass.
- :func:`priority_list`: volumes in the order in which to look at them.
- :func:`explain_volume`: where to look, in the CT's own index.
- :class:`Quantised`: probabilities as bytes.
"""

from atlas8k.attention.explain import Explanation, explain_volume, explanation_of
from atlas8k.attention.quantise import Quantised
from atlas8k.attention.ranking import (
    DEFAULT_RANKING,
    RANKINGS,
    Ranked,
    RankingScores,
    priority_list,
    ranking_scores,
    scores_of,
)
from atlas8k.attention.regions import Region
from atlas8k.attention.salient import Salient, SalientSettings, salient_regions
from atlas8k.attention.sizes import AttentionSizes, attention_sizes

__all__ = [
    "DEFAULT_RANKING",
    "RANKINGS",
    "AttentionSizes",
    "Explanation",
    "Quantised",
    "Ranked",
    "RankingScores",
    "Region",
    "Salient",
    "SalientSettings",
    "attention_sizes",
    "explain_volume",
    "explanation_of",
    "priority_list",
    "ranking_scores",
    "salient_regions",
    "scores_of",
]
