"""Attention sizes by the plain equations, float64, for whatever computes them faster."""

from __future__ import annotations

import numpy as np

from atlas8k.attention import AttentionSizes, Quantised, equations
from atlas8k.attention.equations import OverlapMode
from atlas8k.attention.sizes import N_COLUMNS, sizes_from_table
from atlas8k.core.structures import ORGAN_NAMES


def exact_sizes(
    probs: np.ndarray | Quantised, voxel_ml: float, overlap: OverlapMode = "per_network"
) -> AttentionSizes:
    """Sizes of ``(models, organs, X, Y, Z)`` or of its codes; nothing is left out."""
    values = probs.probabilities() if isinstance(probs, Quantised) else np.asarray(probs)
    table = np.zeros((values.shape[1], N_COLUMNS))
    terms = (
        equations.inconsistency(values),
        equations.uncertainty(values),
        equations.overlap(values, "per_network"),
        equations.overlap(values, "any"),
    )
    for column, term in enumerate(terms):
        table[:, column] = term.sum(axis=(1, 2, 3))
    table[:, 4] = equations.attention(values, overlap).max(axis=(1, 2, 3))
    table[:, 7] = equations.entropy_of_mean(values).sum(axis=(1, 2, 3))
    if isinstance(probs, Quantised):
        table[:, :2] += probs.lost
        table[:, 7] += probs.lost[:, 1]
    return sizes_from_table(table, voxel_ml, ORGAN_NAMES, overlap)
