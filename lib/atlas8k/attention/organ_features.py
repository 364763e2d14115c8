"""Measure, organ by organ, what tells a good predicted label from a bad one.

Everything is measured on what the networks said alone: agreement, doubt by surface, size, place,
pieces, the edge of the CT. No truth is needed, so that the same figures can be had of any CT.
"""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
import numpy.typing as npt

from atlas8k.attention.equations import CUT
from atlas8k.attention.thinned import OrganPart, Thinned
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES

CLAIM = 0.25
"""Mean probability with which an organ claims a voxel."""
LIVER = "liver"

FEATURES: tuple[str, ...] = (
    "expected_dice",
    "least_expected_dice",
    "pairwise_dice",
    "least_pairwise_dice",
    "least_dice",
    "log_ml",
    "log_ratio",
    "log_spread",
    "doubt_mm",
    "spread_mm",
    "confidence",
    "low_confidence",
    "outside",
    "main_piece",
    "claimed",
    "edge",
    "right_mm",
    "front_mm",
    "up_mm",
    "height_mm",
    "others_dice",
)
"""Of each organ, in this order:

``expected_dice``, ``least_expected_dice``
    Dice that the label can expect where the mean probability is right, ``2 sum(p in L) /
    (sum(p) + |L|)``; the least by one network's.
``pairwise_dice``, ``least_pairwise_dice``, ``least_dice``
    Between pairs of networks' own labels, mean and least; between the label and a network's.
``log_ml``, ``log_ratio``, ``log_spread``
    Log of the label's volume in ml (+ 1), of the mean's to the label's, of the largest network's
    to the smallest's.
``doubt_mm``, ``spread_mm``
    ``sum(p (1 - p))`` and the sum of the standard deviation, divided by the label's surface.
``confidence``, ``low_confidence``
    Mean, and 10th percentile, of the mean probability in the label.
``outside``
    Share of the mean probability that lies outside of the label.
``main_piece``
    Share of the voxels above 0.5 in the largest piece.
``claimed``
    Share of the label that another organ claims (:data:`CLAIM`) as well.
``edge``
    Share of the label in the outermost voxels of the CT.
``right_mm``, ``front_mm``, ``up_mm``
    Centre less the liver's centre, RAS; NaN without a liver.
``height_mm``
    Extent from feet to head.
``others_dice``
    Mean of ``expected_dice`` over the CT's other organs.
"""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def organ_features(volume: Thinned, organs: Sequence[str] = ORGAN_NAMES) -> Floats:
    """Return the features of every organ of a volume.

    Parameters
    ----------
    volume
        See :func:`~atlas8k.attention.thinned.thinned`.
    organs
        Rows of the result; organs that nobody predicts stay NaN.

    Returns
    -------
    ndarray
        ``(organs, features)`` float64 as :data:`FEATURES`. NaN where there is nothing to
        measure: an organ that nobody predicts, pairs where there is one network.
    """
    out = np.full((len(organs), len(FEATURES)), np.nan)
    for part in volume.parts:
        out[organs.index(part.organ)] = _measured(part, volume)
    _claims(out, volume, organs)
    _beside(out, organs)
    return out


def _measured(part: OrganPart, volume: Thinned) -> Floats:
    """Return the features of one organ; those that need other organs are NaN."""
    p, inside, spacing = part.probs, part.mask, volume.spacing
    mean, size = p.mean(axis=0), float(part.mask.sum())
    voxel_mm3 = volume.voxel_ml * 1000.0
    hard = p > CUT
    sizes = hard.reshape(len(p), -1).sum(axis=1)
    expected = [2 * float(q[inside].sum()) / max(float(q.sum()) + size, 1e-6) for q in (mean, *p)]
    pairs = [_dice(hard[a], hard[b]) for a in range(len(p)) for b in range(a)]
    surface = _surface_mm2(inside, spacing)
    within = mean[inside]
    centre, height = np.full(3, np.nan), 0.0
    if size:
        at = np.argwhere(inside)
        centre = (at.mean(axis=0) + [span.start for span in part.box]) * spacing
        height = float((np.ptp(at[:, 2]) + 1) * spacing[2])
    values = {
        "expected_dice": expected[0],
        "least_expected_dice": min(expected[1:]),
        "pairwise_dice": float(np.mean(pairs)) if pairs else np.nan,
        "least_pairwise_dice": min(pairs) if pairs else np.nan,
        "least_dice": min(_dice(one, inside) for one in hard),
        "log_ml": np.log1p(size * volume.voxel_ml),
        "log_ratio": np.log((float(mean.sum()) + 1) / (size + 1)),
        "log_spread": np.log((sizes.max() + 1) / (sizes.min() + 1)),
        "doubt_mm": float((mean * (1 - mean)).sum()) * voxel_mm3 / surface,
        "spread_mm": float(p.std(axis=0).sum()) * voxel_mm3 / surface,
        "confidence": float(within.mean()) if size else 0.0,
        "low_confidence": float(np.percentile(within, 10)) if size else 0.0,
        "outside": 1 - float(within.sum()) / max(float(mean.sum()), 1e-6),
        "main_piece": _main_piece(mean > CUT),
        "edge": _edge(part, volume) / size if size else 0.0,
        "right_mm": centre[0],
        "front_mm": centre[1],
        "up_mm": centre[2],
        "height_mm": height,
    }
    return np.array([values.get(name, np.nan) for name in FEATURES], dtype=np.float64)


def _claims(out: Floats, volume: Thinned, organs: Sequence[str]) -> None:
    """Fill in which share of a label others claim."""
    claims = np.zeros(volume.label.shape, dtype=np.uint8)
    for part in volume.parts:
        claims[part.box] += part.probs.mean(axis=0) >= CLAIM
    counts = np.bincount(volume.label.ravel(), minlength=256)
    claimed = np.bincount(volume.label[claims > 1].ravel(), minlength=256)
    for part in volume.parts:
        value = ORGAN_IDS[part.organ]
        share = claimed[value] / counts[value] if counts[value] else 0.0
        out[organs.index(part.organ), FEATURES.index("claimed")] = share


def _beside(out: Floats, organs: Sequence[str]) -> None:
    """Make places relative to the liver, and fill in how the other organs fare."""
    first = FEATURES.index("right_mm")
    places = slice(first, first + 3)
    liver = out[list(organs).index(LIVER), places] if LIVER in organs else np.full(3, np.nan)
    out[:, places] -= liver.copy()
    expected, last = out[:, FEATURES.index("expected_dice")], FEATURES.index("others_dice")
    for index in range(len(organs)):
        others = np.delete(expected, index)
        if np.isfinite(others).any():
            out[index, last] = np.nanmean(others)


def _dice(first: Mask, second: Mask) -> float:
    """Return the Dice of two masks; 1 where both are empty."""
    both = float(first.sum()) + float(second.sum())
    return 2 * float((first & second).sum()) / both if both else 1.0


def _surface_mm2(mask: Mask, spacing: Floats) -> float:
    """Return the area of the faces between a mask and what is around it, one face at least."""
    area = 0.0
    padded = np.pad(mask, 1).view(np.int8)
    for axis in range(3):
        faces = np.count_nonzero(np.diff(padded, axis=axis))
        area += faces * float(np.prod(np.delete(spacing, axis)))
    return max(area, float(np.prod(spacing[:2])))


def _main_piece(mask: Mask) -> float:
    """Return the share of a mask that is its largest piece; 0 where it is empty."""
    if not mask.any():
        return 0.0
    counts = cc3d.statistics(cc3d.connected_components(mask, connectivity=26))["voxel_counts"][1:]
    return float(counts.max() / counts.sum())


def _edge(part: OrganPart, volume: Thinned) -> float:
    """Count the voxels of an organ's label in the outermost layer of the volume."""
    found = np.zeros_like(part.mask)
    for axis, (span, length) in enumerate(zip(part.box, volume.label.shape, strict=True)):
        ends = ((0, span.start == 0), (-1, span.start + part.mask.shape[axis] == length))
        for place, is_outer in ends:
            if is_outer:
                layer = tuple(place if a == axis else slice(None) for a in range(3))
                found[layer] = part.mask[layer]
    return float(np.count_nonzero(found))
