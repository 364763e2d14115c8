"""Eq. 1 to 4 of the attention map, in plain numpy: the reference.

Everything else in this package that computes these quantities is tested against the
functions here. They are written to be read beside the paper, not to be fast: they hold
float64 maps of the whole volume. Use :func:`atlas8k.attention.attention_sizes` for a
whole CT.

Arrays: ``probs: (models, organs, ...)``, values in 0..1; the voxel axes may be any number
of axes in any space, the equations look at one voxel at a time. Maps: ``(organs, ...)``
float64.

Source: Qu et al., "AbdomenAtlas-8K", NeurIPS 2023, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import AttentionError

Float64 = npt.NDArray[np.float64]
SALIENT_STD, SALIENT_ENTROPY, OVERLAP_OWN, OVERLAP_ANY = 1, 2, 4, 8
"""Bits of a voxel's flags."""
HEAT_STEPS = 128
"""Steps of the byte heat map from 0 to 1; Eq. 4 stays below 1.87, 240 of them."""

OverlapMode = Literal["per_network", "any"]
"""Which networks' organs Eq. 3 compares, see :func:`overlap`."""

OVERLAP_MODES: tuple[OverlapMode, ...] = get_args(OverlapMode)
CUT = 0.5
"""An organ is predicted where p > 0.5 (paper, Eq. 3 and the final label)."""


def check_overlap_mode(mode: str) -> None:
    """Raise :class:`AttentionError` for a mode that is not in ``OVERLAP_MODES``."""
    if mode not in OVERLAP_MODES:
        allowed = " or ".join(repr(m) for m in OVERLAP_MODES)
        raise AttentionError("overlap", f"{mode!r} is not a mode; use {allowed}")


def inconsistency(probs: npt.NDArray[Any]) -> Float64:
    """Compute Eq. 1: population standard deviation of the probabilities over the networks.

    Parameters
    ----------
    probs
        ``(models, organs, ...)``, values in 0..1.

    Returns
    -------
    ndarray
        ``(organs, ...)`` float64, 0 to 0.5. One network agrees with itself: 0.
    """
    deviation: Float64 = np.std(probs, axis=0, dtype=np.float64)
    return deviation


def uncertainty(probs: npt.NDArray[Any]) -> Float64:
    """Compute Eq. 2: mean over the networks of ``-p ln p``, with ``0 ln 0 = 0``.

    One term only (there is no ``(1 - p)`` in the paper) and the natural logarithm.

    Parameters
    ----------
    probs
        ``(models, organs, ...)``, values in 0..1.

    Returns
    -------
    ndarray
        ``(organs, ...)`` float64, 0 to 1/e.
    """
    total = np.zeros(probs.shape[1:], dtype=np.float64)
    for network in probs:
        p = network.astype(np.float64)
        total -= p * np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.maximum(total, 0.0) / len(probs)


def entropy_of_mean(probs: npt.NDArray[Any]) -> Float64:
    """Compute the predictive entropy ``-m ln m``, m the mean over the networks.

    MONAI Label's ``EpistemicScoring`` has this term, nnActive calls it predictive entropy.
    It is no less than :func:`uncertainty`: the difference is what the networks disagree by.

    Parameters
    ----------
    probs
        ``(models, organs, ...)``, values in 0..1.

    Returns
    -------
    ndarray
        ``(organs, ...)`` float64, 0 to 1/e.
    """
    mean = probs.mean(axis=0, dtype=np.float64)
    entropy: Float64 = -mean * np.log(mean, out=np.zeros_like(mean), where=mean > 0)
    return np.maximum(entropy, 0.0)


def overlap(
    probs: npt.NDArray[Any],
    mode: OverlapMode = "per_network",
    containers: Sequence[int] | None = None,
) -> Float64:
    """Compute Eq. 3: 1 where an organ and another organ are both predicted at a voxel.

    Parameters
    ----------
    probs
        ``(models, organs, ...)``, values in 0..1.
    mode
        ``"per_network"``: some one network predicts both organs there, as the formula
        has it (a softmax network then never overlaps itself). ``"any"``: some network
        predicts this organ and some network, the same or not, predicts another.
    containers
        By structure the place of the one that it lies within, -1 for none: a network that
        predicts both, a tumour and its liver, predicts one thing.

    Returns
    -------
    ndarray
        ``(organs, ...)`` float64, 0 or 1.
    """
    check_overlap_mode(mode)
    predicted = probs > CUT
    counted = predicted.copy()
    for inner, outer in enumerate(containers or ()):
        if outer >= 0:
            counted[:, inner] &= ~predicted[:, outer]
    if mode == "any":
        predicted, counted = (one.any(axis=0, keepdims=True) for one in (predicted, counted))
    crowded = counted.sum(axis=1, keepdims=True) > 1
    overlaps: Float64 = (predicted & crowded).any(axis=0).astype(np.float64)
    return overlaps


def attention(probs: npt.NDArray[Any], mode: OverlapMode = "per_network") -> Float64:
    """Compute Eq. 4: the sum of inconsistency, uncertainty and overlap.

    Parameters
    ----------
    probs
        ``(models, organs, ...)``, values in 0..1.
    mode
        How Eq. 3 is read, see :func:`overlap`.

    Returns
    -------
    ndarray
        ``(organs, ...)`` float64.
    """
    return inconsistency(probs) + uncertainty(probs) + overlap(probs, mode)
