"""A prediction's CT compared with those the networks were trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from atlas8k.content.familiar import Ranges, compare
from atlas8k.content.features import Features, Labels, measure, thinned
from atlas8k.grid import Grid, Volume
from atlas8k.models.regrid import nearest


def features_of(ct: Volume, labels: Labels, grid: Grid) -> tuple[Features, dict[str, Any]]:
    """Measure a CT with its labels, see :func:`~atlas8k.content.features.measure`.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing.
    labels
        ``(1 + networks, *grid.shape)`` uint8 organ ids: the ensemble's label, then each
        network's own.
    grid
        Of the labels.
    """
    thin = thinned(ct)
    return measure(ct, thin, np.stack([nearest(one, grid, thin.grid) for one in labels]))


def familiar(ct: Volume, labels: Labels, grid: Grid, ranges: Ranges | None) -> dict[str, Any]:
    """Say whether a CT is like the training CTs; JSON-able, kept with the score.

    Returns
    -------
    dict
        As :func:`~atlas8k.content.familiar.compare`, and ``hu``, ``cut`` and ``lung_above``
        of :func:`~atlas8k.content.features.measure`.
    """
    features, found = features_of(ct, labels, grid)
    return {**compare(features, ranges), **found}
