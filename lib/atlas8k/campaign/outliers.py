"""Find the outliers of the distribution of attention, which the paper's budget was read from.

Figure 4 of the paper shows that a few volumes have far more attention than the others; those
were given to the annotator. A rule finds them: Tukey's fence ("Exploratory Data Analysis",
1977), the third quartile and 1.5 times the distance of the quartiles. It is made for symmetric
data, and sizes spread by factors, so that it is taken of their logarithms. Of log-normal sizes
0.35 % lie above it whatever their spread, while on the sizes themselves the same fence calls 5
to 10 % of any skewed distribution outliers. Quartiles do not move with the outliers that are
looked for, as a mean and a standard deviation do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from atlas8k.campaign.reports import Outliers
from atlas8k.core.rankings import RANKINGS

FENCE = 1.5
"""Distances of the quartiles above the third (Tukey)."""
FEWEST = 20
"""Volumes with a size: quartiles of fewer say little."""


def fence(sizes: Sequence[float]) -> float | None:
    """Return the size above which a volume is an outlier.

    Parameters
    ----------
    sizes
        One a volume, 0 or more, in any unit. Those of 0 have no logarithm and are no part of it.

    Returns
    -------
    float or None
        ``None``: fewer than :data:`FEWEST` sizes above 0, or half of them are the same.
    """
    logs = np.log([size for size in sizes if size > 0])
    if len(logs) < FEWEST:
        return None
    first, third = np.percentile(logs, [25, 75])
    return math.exp(third + FENCE * (third - first)) if third > first else None


def outliers(
    ranking: str, sizes: Sequence[tuple[float, bool]], budget: int | None
) -> Outliers | None:
    """Report the outliers of a campaign, and the budget that would review them.

    Parameters
    ----------
    ranking
        That the sizes are of.
    sizes
        Of every volume with a score: its size, and whether nobody has submitted it.
    budget
        Volumes to review in the open round, None before the first.

    Returns
    -------
    Outliers or None
        None: nothing is scored.
    """
    if not sizes:
        return None
    limit = fence([size for size, _ in sizes])
    above = [] if limit is None else [to_review for size, to_review in sizes if size > limit]
    found = Outliers(
        ranking=ranking,
        scored=len(sizes),
        fence=limit,
        outliers=len(above),
        share=len(above) / len(sizes),
        to_review=sum(above),
        budget=budget,
        text="",
    )
    above_zero = sum(size > 0 for size, _ in sizes)
    return found.model_copy(update={"text": _text(found, above_zero)})


def _text(found: Outliers, above_zero: int) -> str:
    ranking = RANKINGS[found.ranking]
    unit = ranking.unit
    if found.fence is None and above_zero < FEWEST:
        return (
            f"outliers cannot be named yet: it takes {FEWEST} volumes whose {ranking.figure} is "
            f"above 0, and {above_zero} of the {found.scored} scored ones are such"
        )
    if found.fence is None:
        return f"outliers cannot be named: half of the volumes have the same {ranking.figure}"
    size = f"{found.fence:.3g}{' ' if unit else ''}{unit}"
    text = (
        f"{found.outliers} of {found.scored} volumes ({found.share:.1%}) lie above {size} by "
        f"{found.ranking}, Tukey's fence of the log sizes; {found.to_review} of them are not "
        "submitted yet"
    )
    if found.budget is not None:
        text += f"; the budget is {found.budget}"
    if found.to_review:
        fraction = math.ceil(1e4 * found.to_review / found.scored) / 1e4
        text += f", `campaign next --budget {fraction:g}` reviews these in the next round"
    return text
