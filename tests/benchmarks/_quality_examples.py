"""What a predicted CT whose truth is known teaches of networks' errors."""

from __future__ import annotations

from typing import Any

import numpy as np


def example_of(volume: Any, pseudo: np.ndarray, truth: np.ndarray, grid: Any, number: int) -> Any:
    """One example for :func:`atlas8k.attention.quality_fit.fit`.

    Parameters
    ----------
    volume
        The prediction on every few voxels, :func:`atlas8k.attention.thinned.thinned`.
    pseudo, truth
        ``(X, Y, Z)`` uint8 organ ids on `grid`: what the ensemble says, and what is there.
    number
        Of the case: voxels are drawn by it.
    """
    from _quality_regions import errors_of

    from atlas8k.attention.organ_features import organ_features
    from atlas8k.attention.quality_fit import LEAST_ML, VOXELS_AN_ORGAN, Example
    from atlas8k.attention.voxel_features import voxel_features
    from atlas8k.core.structures import ORGAN_IDS

    parts = {part.organ: part for part in volume.parts}
    every = tuple(
        slice(step // 2 if step < length else 0, None, step)
        for step, length in zip(volume.steps, grid.shape, strict=True)
    )
    rng = np.random.default_rng(number)
    dice, wrong_ml, voxels, error, weight = [], [], [], [], []
    for organ, value in ORGAN_IDS.items():
        own, true = pseudo == value, truth == value
        both = int(own.sum()) + int(true.sum())
        dice.append(2 * float((own & true).sum()) / both if both else np.nan)
        found = errors_of(own, true, grid)
        wrong_ml.append(float(found.wrong.sum()) * grid.voxel_ml)
        if organ not in parts:
            continue
        large = np.zeros(grid.shape, dtype=bool)
        for region in found.regions:
            if len(region) * grid.voxel_ml >= LEAST_ML:
                large[tuple(region.T)] = True
        doubtful = voxel_features(parts[organ], volume)
        count = len(doubtful.features)
        drawn = rng.choice(count, min(count, VOXELS_AN_ORGAN), replace=False)
        voxels.append(doubtful.features[drawn])
        error.append(large[every][parts[organ].box][doubtful.where][drawn])
        weight.append(np.full(len(drawn), count / max(1, len(drawn))))
    return Example(
        organ_features(volume),
        np.array(dice),
        np.array(wrong_ml),
        np.concatenate(voxels),
        np.concatenate(error),
        np.concatenate(weight),
    )
