"""Measure, voxel by voxel of an organ, what tells a real error from an ordinary outline.

Every outline is in doubt. An error region is where the doubt is thick: so most features are the
doubt around a voxel, smoothed over a few millimetres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.attention.thinned import Floats, Mask, OrganPart, Thinned
from atlas8k.core.structure_sets import NINE

DOUBT = 0.08
"""Voxels with less doubt are not looked at."""
FAR_MM = 40.0
NEAR_MM, WIDE_MM, WIDEST_MM = 4.0, 8.0, 16.0
SLOPE_MM = 2.0
HU_RANGE = (-200.0, 300.0)
LEAST_SPREAD_HU = 8.0
SURE = 0.9
MOST_OFF = 8.0
TRUNCATE = 2.5
"""Standard deviations after which the smoothing ends."""

VOXEL_FEATURES: tuple[str, ...] = (
    "doubt",
    "mean",
    "spread",
    "doubt_near",
    "doubt_wide",
    "doubt_widest",
    "spread_near",
    "spread_wide",
    "slope",
    "distance",
    "depth",
    "least",
    "most",
    "other",
    "inside",
    "log_ml",
    "log_ratio",
    "doubt_by_surface",
    "hu",
    "hu_off",
    "hu_off_near",
    "hu_slope",
)
"""Of a voxel and an organ, in this order; a one-hot code of the organ follows.

``doubt``
    One minus the mean probability in the label, the mean outside.
``mean``, ``spread``, ``least``, ``most``
    Of the networks' probabilities.
``..._near``, ``..._wide``, ``..._widest``
    Smoothed by a Gaussian of :data:`NEAR_MM`, :data:`WIDE_MM`, :data:`WIDEST_MM`.
``slope``
    Of the mean, smoothed by :data:`SLOPE_MM`, a millimetre.
``distance``, ``depth``
    To the label's surface, negative inside, at most :data:`FAR_MM`; without its sign.
``other``, ``inside``
    Whether another organ's label, or this one's, has the voxel.
``log_ml``, ``log_ratio``
    Of the organ: log of the label's ml (+ 1); of the mean's volume to the label's.
``doubt_by_surface``
    ``doubt_wide`` by the share of voxels of the label's surface within the same Gaussian.
``hu``, ``hu_off``, ``hu_off_near``, ``hu_slope``
    Of the CT smoothed by :data:`SLOPE_MM`, cut to :data:`HU_RANGE`: hundreds of HU; how far off
    the median of the organ's sure inside, in its own spread; the same smoothed by
    :data:`NEAR_MM`; its slope, HU a millimetre over ten.
"""

LEARNT = NINE
"""Structures that the embedded default was fitted for; to it others are the mean of these, and
their quality is unknown."""
INPUTS = len(VOXEL_FEATURES) + len(LEARNT)


class Doubtful(NamedTuple):
    """Voxels of one organ that are in doubt.

    Attributes
    ----------
    where
        ``box`` bool.
    features
        ``(n, INPUTS)`` float32.
    """

    where: Mask
    features: Floats


def voxel_features(part: OrganPart, volume: Thinned) -> Doubtful:
    """Return the voxels of an organ that are in doubt, and their features."""
    spacing = volume.spacing
    probs, mask = part.probs, part.mask
    mean, spread = probs.mean(axis=0), probs.std(axis=0)
    doubt = np.where(mask, 1 - mean, mean)
    where = doubt > DOUBT

    def smooth(values: npt.NDArray[np.generic], mm: float) -> Floats:
        out: Floats = ndimage.gaussian_filter(
            np.asarray(values, np.float32), mm / spacing, truncate=TRUNCATE, mode="nearest"
        )
        return out

    gradient = np.gradient(smooth(mean, SLOPE_MM), *spacing)
    slope = np.sqrt(sum(np.square(one) for one in gradient))
    distance = _distance(mask, spacing)
    surface = np.abs(distance) <= spacing.max()
    wide = smooth(doubt, WIDE_MM)
    log_ml = np.log1p(float(mask.sum()) * volume.voxel_ml)
    log_ratio = np.log((float(mean.sum()) + 1) / (float(mask.sum()) + 1))
    hu = np.clip(smooth(part.hu, SLOPE_MM), *HU_RANGE)
    hu_near = np.clip(smooth(part.hu, NEAR_MM), *HU_RANGE)
    middle, off = _typical(hu, mask & (mean > SURE), mask)
    hu_slope = np.sqrt(sum(np.square(one) for one in np.gradient(hu, *spacing)))
    values = {
        "hu": hu / 100.0,
        "hu_off": np.clip((hu - middle) / off, -MOST_OFF, MOST_OFF),
        "hu_off_near": np.clip((hu_near - middle) / off, -MOST_OFF, MOST_OFF),
        "hu_slope": hu_slope / 10.0,
        "doubt": doubt,
        "mean": mean,
        "spread": spread,
        "doubt_near": smooth(doubt, NEAR_MM),
        "doubt_wide": wide,
        "doubt_widest": smooth(doubt, WIDEST_MM),
        "spread_near": smooth(spread, NEAR_MM),
        "spread_wide": smooth(spread, WIDE_MM),
        "slope": slope,
        "distance": distance,
        "depth": np.abs(distance),
        "least": probs.min(axis=0),
        "most": probs.max(axis=0),
        "other": part.others,
        "inside": mask,
        "log_ml": log_ml,
        "log_ratio": log_ratio,
        "doubt_by_surface": wide / (smooth(surface, WIDE_MM) + 0.02),
    }
    features = np.zeros((int(np.count_nonzero(where)), INPUTS), dtype=np.float32)
    for column, name in enumerate(VOXEL_FEATURES):
        value = values[name]
        features[:, column] = value[where] if isinstance(value, np.ndarray) else value
    coded = features[:, len(VOXEL_FEATURES) :]
    if part.organ in LEARNT:
        coded[:, LEARNT.index(part.organ)] = 1.0
    else:
        coded[:] = 1.0 / len(LEARNT)
    return Doubtful(where, features)


def _typical(hu: Floats, sure: Mask, mask: Mask) -> tuple[float, float]:
    """Return the median HU of an organ and their spread, of its sure inside where there is one."""
    for inside in (sure, mask):
        values = hu[inside]
        if values.size >= 20:
            middle = float(np.median(values))
            spread = 1.4826 * float(np.median(np.abs(values - middle)))
            return middle, max(spread, LEAST_SPREAD_HU)
    return float("nan"), 1.0


def _distance(mask: Mask, spacing: npt.NDArray[np.float64]) -> Floats:
    """Return the signed distance to a mask's surface, mm, negative inside."""
    if not mask.any():
        return np.full(mask.shape, FAR_MM, np.float32)
    inner = ndimage.distance_transform_edt(mask, sampling=spacing)
    outer = ndimage.distance_transform_edt(~mask, sampling=spacing)
    distance: Floats = np.clip(outer - inner, -FAR_MM, FAR_MM).astype(np.float32)
    return distance
