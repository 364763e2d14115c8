"""How far the networks' label maps of one volume differ, organ by organ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from atlas8k.core.structures import ORGAN_IDS


def pairwise_dice(
    labels: npt.NDArray[np.uint8],
    organs: Sequence[str],
    knows: Sequence[Collection[str]] | None = None,
) -> dict[str, float | None]:
    """Return every organ's mean Dice over the pairs of networks.

    The strong baseline of failure detection: Zenk et al., Medical Image Analysis 101 (2025),
    after Roy et al., NeuroImage 195 (2019). One pass over the maps counts for all organs.

    Parameters
    ----------
    labels
        ``(networks, X, Y, Z)`` organ ids, one map a network, on one grid.
    organs
        Names of the organs to compare.
    knows
        Of each network the organs that it knows; only those who know an organ are compared in
        it. All know all where ``None``.

    Returns
    -------
    dict
        0 to 1 by organ; ``None`` where no network found the organ, or fewer than two know it.
        Two networks of which one found it have a Dice of 0.
    """
    flat = labels.reshape(len(labels), -1)
    flat = flat[:, np.logical_or.reduce(flat, axis=0)]  # a tenth of a CT, and less to count
    codes = 1 + max(ORGAN_IDS[organ] for organ in organs)
    totals, pairs = np.zeros(codes), np.zeros(codes)
    found = np.zeros(codes, dtype=bool)
    sizes = [np.bincount(row, minlength=codes)[:codes] for row in flat]
    for size in sizes:
        found |= size > 0
    known = np.ones((len(flat), codes), dtype=bool)
    if knows is not None:
        known[:] = [[code in {ORGAN_IDS[o] for o in own} for code in range(codes)] for own in knows]
    for one, other in combinations(range(len(flat)), 2):
        shared = np.bincount(flat[one][flat[one] == flat[other]], minlength=codes)[:codes]
        either = sizes[one] + sizes[other]
        both = known[one] & known[other]
        # Both without the organ, where a third network has it: they agree.
        totals += both * np.where(either > 0, 2 * shared / np.maximum(either, 1), 1.0)
        pairs += both
    ids = {organ: ORGAN_IDS[organ] for organ in organs}
    return {
        organ: float(totals[value] / pairs[value]) if pairs[value] and found[value] else None
        for organ, value in ids.items()
    }
