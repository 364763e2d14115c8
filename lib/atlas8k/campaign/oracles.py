"""Correct labels as simulated annotators do, who know the truth.

``everything``
    Draws every organ as it is.
``places``
    Corrects the places that are shown with a volume, and nothing else.
``noisy``
    Draws every organ, with boundaries that are off by a smooth error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.structures import ORGAN_IDS, ORGANS
from atlas8k.metrics.overlap import counts

Oracle = Literal["everything", "places", "noisy"]
ORACLES: tuple[Oracle, ...] = get_args(Oracle)

NOISE_MM, SMOOTH_MM = 1.5, 6.0
"""Standard deviation of how far an annotator's boundary lies off, and over what it is alike."""
TOUCHED_ML = 0.5
"""An organ is touched where more than that is changed."""

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Corrected:
    """A label that an oracle submits.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids.
    absent
        Organs that it marks absent.
    corrected
        Organs it has redrawn or removed.
    """

    array: Labels
    absent: tuple[str, ...]
    corrected: tuple[str, ...]


def correct(draft: Labels, truth: Labels, below: float | None = None) -> Corrected:
    """Correct a draft label by what an annotator takes for the truth.

    Parameters
    ----------
    draft, truth
        ``(X, Y, Z)`` uint8, organ ids, on one grid; see :func:`wanted`.
    below
        Correct organs with a DSC below this only, and those drawn where there is none;
        all of them where ``None``.

    Raises
    ------
    GridMismatchError, VolumeError
        The two do not fit, or hold other values than organ ids.
    """
    overlap = counts(draft, truth)
    wrong = []
    for organ, number in ORGAN_IDS.items():
        present, drawn = overlap.truth[number - 1] > 0, overlap.prediction[number - 1] > 0
        # An organ that is exactly right needs no correction.
        limit = 1.0 if below is None else below
        if (present and overlap.dsc[number - 1] < limit) or (drawn and not present):
            wrong.append(organ)
    absent = tuple(o for o, number in ORGAN_IDS.items() if not overlap.truth[number - 1])
    ids = [ORGAN_IDS[organ] for organ in wrong]
    label = np.where(np.isin(draft, ids), 0, draft).astype(np.uint8)
    np.copyto(label, truth, where=np.isin(truth, ids))
    return Corrected(label, absent, tuple(wrong))


def wanted(
    oracle: Oracle,
    draft: Labels,
    truth: Labels,
    *,
    places: Mask | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    seed: int = 0,
) -> Labels:
    """Return the label that an oracle takes for right, ``(X, Y, Z)`` uint8 organ ids.

    Parameters
    ----------
    draft, truth
        On one grid.
    places
        Voxels shown as places to look at; needed by the oracle of that name.
    spacing_mm
        Size of a voxel along each axis.
    seed
        Of the noise: the same annotator draws a volume alike twice.

    Raises
    ------
    ValueError
        An unknown oracle, or no places for the one that needs them.
    """
    if oracle == "everything":
        return truth
    if oracle == "noisy":
        return noisy(truth, spacing_mm, np.random.default_rng(seed))
    if oracle != "places":
        raise ValueError(f"oracle {oracle!r} is none of {', '.join(ORACLES)}")
    if places is None:
        raise ValueError("the oracle that corrects places needs to know them")
    return np.where(places, truth, draft)


def noisy(truth: Labels, spacing_mm: Sequence[float], rng: np.random.Generator) -> Labels:
    """Return a label whose boundaries are off by a smooth error, as an annotator draws them.

    Parameters
    ----------
    truth
        ``(X, Y, Z)`` uint8, organ ids. What lies on no boundary stays: two organs that touch do
        not grow into each other.
    spacing_mm
        Size of a voxel along each axis.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    off = ndimage.gaussian_filter(
        rng.standard_normal(truth.shape, dtype=np.float32), SMOOTH_MM / spacing
    )
    off *= NOISE_MM / off.std()
    out = np.zeros_like(truth)
    reach = [int(np.ceil(3 * NOISE_MM / mm)) + 1 for mm in spacing]
    for organ, box in enumerate(ndimage.find_objects(truth, max_label=len(ORGANS)), start=1):
        if box is None:
            continue
        wide = tuple(
            slice(max(0, one.start - far), one.stop + far)
            for one, far in zip(box, reach, strict=True)
        )
        own = truth[wide] == organ
        if own.all():
            out[wide][own] = organ
            continue
        outside = ndimage.distance_transform_edt(~own, sampling=spacing)
        inside = ndimage.distance_transform_edt(own, sampling=spacing)
        out[wide][(outside - inside + off[wide] < 0) & ((out[wide] == 0) | own)] = organ
    return out


def touched(draft: Labels, label: Labels, voxel_ml: float) -> int:
    """Return how many organs differ by more than :data:`TOUCHED_ML` between two labels."""
    differs = draft != label
    changed = np.bincount(draft[differs], minlength=len(ORGANS) + 1) + np.bincount(
        label[differs], minlength=len(ORGANS) + 1
    )
    return int(np.count_nonzero(changed[1:] * voxel_ml > TOUCHED_ML))
