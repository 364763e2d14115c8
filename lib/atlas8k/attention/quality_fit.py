"""Fit what tells good labels from bad ones, on CTs whose truth is known.

scikit-learn fits; what is stored is a :class:`~atlas8k.attention.perceptron.Perceptron`. Several
small networks with one hidden layer, each from another start, are stored as one wider network:
their mean is steadier than any of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.perceptron import Perceptron
from atlas8k.attention.quality_model import FEWEST, LEAST_SPREAD, QualityModel, expit, inputs_of
from atlas8k.core.structures import ORGAN_NAMES

FOLDS = 5
STARTS = 8
HIDDEN = 24
DECAY = 0.3
"""Weight decay (``alpha``): of 0.3, 1, 3 and 10 the one with the least error over folds."""
VOXEL_HIDDEN = (48, 24)
VOXEL_EPOCHS = 16
VOXELS_AN_ORGAN = 5000
LEAST_ML = 2.0
"""Error regions smaller than this teach nothing: an annotator would pass over them."""
CLIP = 0.003

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Example:
    """One CT whose truth is known.

    Attributes
    ----------
    features
        ``(organs, features)``, see :func:`~atlas8k.attention.organ_features.organ_features`.
    dice, wrong_ml
        ``(organs,)`` of the predicted label; Dice NaN where neither it nor the truth has any.
    voxels
        ``(n, INPUTS)`` float32 features of voxels in doubt.
    error
        ``(n,)`` bool: whether they are in an error region of :data:`LEAST_ML` or more.
    weight
        ``(n,)``: how many voxels each stands for.
    """

    features: Floats
    dice: Floats
    wrong_ml: Floats
    voxels: npt.NDArray[np.float32]
    error: npt.NDArray[np.bool_]
    weight: Floats


def fit(examples: Sequence[Example], made_of: str, networks: int = 3) -> QualityModel:
    """Fit both networks, and measure on folds how far off the first one is.

    Parameters
    ----------
    examples
        One a CT, 20 or more.
    made_of
        Description of them, for people who read the file.
    networks
        How many networks predicted them.
    """
    inputs, dice, wrong, case, organ = _table(examples)
    logit = np.log(dice.clip(CLIP, 1 - CLIP) / (1 - dice.clip(CLIP, 1 - CLIP)))
    fold = case % FOLDS
    first = _out_of_fold(inputs, logit[:, None], fold)
    off = np.abs(dice - expit(first[:, 0]))
    targets = np.stack([logit, np.log(off + LEAST_SPREAD), np.log1p(wrong)], axis=1)
    unseen = _out_of_fold(inputs, targets, fold)
    spread = np.maximum(np.exp(np.clip(unseen[:, 1], -8, 0)), LEAST_SPREAD)
    scaled = np.abs(dice - expit(unseen[:, 0])) / spread
    residuals = {
        name: np.sort(scaled[organ == index])
        for index, name in enumerate(ORGAN_NAMES)
        if np.count_nonzero(organ == index) >= FEWEST
    }
    return QualityModel(
        _regressor(inputs, targets), _classifier(examples), residuals, made_of, networks
    )


def _table(examples: Sequence[Example]) -> tuple[Floats, Floats, Floats, Any, Any]:
    """Return inputs, Dice, wrong ml, number of the CT and of the organ, a row an organ."""
    parts = []
    for number, one in enumerate(examples):
        rows = np.flatnonzero(np.isfinite(one.features[:, 0]) & np.isfinite(one.dice))
        place = np.full(len(rows), number)
        parts.append(
            (inputs_of(one.features)[rows], one.dice[rows], one.wrong_ml[rows], place, rows)
        )
    inputs, dice, wrong, case, organ = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return inputs, dice, wrong, case, organ


def _out_of_fold(inputs: Floats, targets: Floats, fold: Any) -> Floats:
    """Return what networks say that were fitted to the other folds."""
    out = np.zeros(targets.shape)
    for number in range(FOLDS):
        unseen = fold == number
        out[unseen] = _regressor(inputs[~unseen], targets[~unseen])(inputs[unseen])
    return out


def _regressor(inputs: Floats, targets: Floats) -> Perceptron:
    """Fit several networks with one hidden layer; return them as one, their outputs averaged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    warnings.simplefilter("ignore", ConvergenceWarning)  # it is ended early on purpose
    mean, scale, values = _standardised(inputs)
    middle, width = targets.mean(axis=0), np.maximum(targets.std(axis=0), 1e-6)
    fitted = [
        MLPRegressor(
            hidden_layer_sizes=(HIDDEN,),
            alpha=DECAY,
            max_iter=400,
            learning_rate_init=3e-3,
            random_state=start,
        ).fit(values, ((targets - middle) / width).squeeze())
        for start in range(STARTS)
    ]
    first = np.concatenate([one.coefs_[0] for one in fitted], axis=1)
    first_bias = np.concatenate([one.intercepts_[0] for one in fitted])
    last = np.concatenate([one.coefs_[1] for one in fitted], axis=0) / STARTS * width
    last_bias = np.mean([one.intercepts_[1] for one in fitted], axis=0) * width + middle
    return _perceptron(mean, scale, (first, last), (first_bias, last_bias))


def _classifier(examples: Sequence[Example]) -> Perceptron:
    """Fit the chance of error by voxel, each voxel drawn as often as it stands for others."""
    from sklearn.neural_network import MLPClassifier

    voxels = np.concatenate([one.voxels for one in examples])
    error = np.concatenate([one.error for one in examples])
    weight = np.concatenate([one.weight for one in examples])
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(voxels), size=len(voxels), p=weight / weight.sum())
    mean, scale, values = _standardised(voxels[drawn])
    fitted = MLPClassifier(
        hidden_layer_sizes=VOXEL_HIDDEN,
        alpha=1e-3,
        batch_size=2048,
        max_iter=VOXEL_EPOCHS,
        learning_rate_init=2e-3,
        random_state=0,
    ).fit(values, error[drawn])
    return _perceptron(mean, scale, tuple(fitted.coefs_), tuple(fitted.intercepts_))


def _standardised(inputs: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return means, standard deviations, and inputs by both; NaN counts as the mean."""
    mean, scale = np.nanmean(inputs, axis=0), np.nanstd(inputs, axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    return mean, scale, np.nan_to_num((inputs - mean) / scale, nan=0.0)


def _perceptron(
    mean: Floats, scale: Floats, weights: tuple[Floats, ...], biases: tuple[Floats, ...]
) -> Perceptron:
    return Perceptron(
        mean.astype(np.float32),
        scale.astype(np.float32),
        tuple(one.astype(np.float32) for one in weights),
        tuple(one.astype(np.float32) for one in biases),
    )
