"""Do attention regions find the errors of a label? Regions, hits, and a control by chance.

The paper gives sensitivity and precision "at the volume (a group of voxels) level" without
saying what a region or a hit is (Qu et al., NeurIPS 2023, Table 1). Here, for one organ:

- An *error region* is a 26-connected component of the voxels where the label and the truth
  disagree, without those within 2 mm of the organ's true surface, of 0.5 ml or more.
- An *attention region* is a 26-connected component of salient voxels of 0.5 ml or more.
- An attention region *hits* an error region where it covers a tenth of it or more.

A case's sensitivity is the share of its error regions that are hit, its precision the share
of its attention regions that hit. The control moves every attention region to a place drawn
by chance, its size and shape as they are.

Arrays are ``(X, Y, Z)``; a set of regions is a list of ``(n, 3)`` int voxel indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.components import label_components
from atlas8k.core.errors import GridMismatchError

SURFACE_MM = 2.0
MIN_ML = 0.5
HIT_SHARE = 0.1

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def off_surface(
    wrong: Mask, truth: Mask, spacing_mm: Sequence[float], margin_mm: float = SURFACE_MM
) -> Mask:
    """Wrong voxels that are not near the true surface.

    The surface lies between voxels of the organ and others. The distance is that from a
    voxel's centre to the nearest voxel of the other kind, its faces included: half a voxel
    for the first layer, one and a half for the second. Beyond the array nothing is known,
    so its edge is no surface.

    Parameters
    ----------
    wrong
        Where label and truth of one organ disagree.
    truth
        The organ.
    spacing_mm
        Voxel size along the array axes.
    margin_mm
        Voxels at this distance or nearer are taken off; 0 takes off none.

    Raises
    ------
    GridMismatchError
        The masks have different shapes.
    """
    if wrong.shape != truth.shape:
        raise GridMismatchError("masks", f"shapes {wrong.shape} and {truth.shape} differ")
    at = np.argwhere(wrong)
    own = truth[wrong]
    near = np.zeros(len(at), dtype=bool)
    for step in _steps(np.asarray(spacing_mm, dtype=float), margin_mm):
        place = at + step
        inside = ((place >= 0) & (place < truth.shape)).all(axis=1)
        place[~inside] = at[~inside]
        near |= truth[tuple(place.T)] != own
    out = np.zeros(wrong.shape, dtype=bool)
    out[tuple(at[~near].T)] = True
    return out


def _steps(spacing: Floats, margin_mm: float) -> list[tuple[int, ...]]:
    """Steps to the voxels that a ball around a voxel's centre reaches into."""
    reach = np.floor(margin_mm / spacing + 0.5 + 1e-9).astype(int)
    steps = [s for s in product(*(range(-n, n + 1) for n in reach)) if any(s)]
    gap = [np.linalg.norm(np.maximum(np.abs(s) - 0.5, 0.0) * spacing) for s in steps]
    return [s for s, distance in zip(steps, gap, strict=True) if distance <= margin_mm + 1e-9]


def components(mask: Mask, voxel_ml: float, min_ml: float = MIN_ML) -> list[Indices]:
    """26-connected components of ``min_ml`` or more, each ``(n, 3)`` voxel indices."""
    at = np.argwhere(mask)
    if not len(at):
        return []
    corner = at.min(axis=0)
    box = tuple(slice(a, b + 1) for a, b in zip(corner, at.max(axis=0), strict=True))
    pieces = label_components(mask[box])
    piece = pieces[tuple((at - corner).T)]
    sizes = np.bincount(piece)
    order = np.argsort(piece, kind="stable")
    ends = np.cumsum(sizes)
    return [
        at[order[end - size : end]]
        for size, end in zip(sizes[1:], ends[1:], strict=True)
        if size * voxel_ml >= min_ml - 1e-9
    ]


@dataclass(frozen=True, eq=False)
class Detection:
    """Error and attention regions of one organ of one case, or of several joined.

    Attributes
    ----------
    error_ml
        ``(errors,)`` volume of every error region.
    covered
        ``(errors,)`` the largest share of it that one attention region covers, 0..1.
    attention_ml
        ``(regions,)`` volume of every attention region.
    best
        ``(regions,)`` the largest share of one error region that it covers, 0..1.
    """

    error_ml: Floats
    covered: Floats
    attention_ml: Floats
    best: Floats

    def sensitivity(self, share: float = HIT_SHARE) -> float:
        """Share of the error regions that are hit; NaN without any."""
        return _share(self.covered, share)

    def precision(self, share: float = HIT_SHARE) -> float:
        """Share of the attention regions that hit; NaN without any."""
        return _share(self.best, share)

    @staticmethod
    def joined(parts: Sequence[Detection]) -> Detection:
        """The regions of several organs as one case's."""
        empty = [np.zeros(0)]
        return Detection(
            *(
                np.concatenate([*empty, *(getattr(part, name) for part in parts)])
                for name in ("error_ml", "covered", "attention_ml", "best")
            )
        )


def _share(values: Floats, least: float) -> float:
    return float(np.mean(values >= least - 1e-9)) if values.size else float("nan")


def detect(
    errors: Sequence[Indices],
    attention: Sequence[Indices],
    shape: tuple[int, ...],
    voxel_ml: float,
) -> Detection:
    """Which attention regions cover how much of which error regions.

    Parameters
    ----------
    errors, attention
        Regions of one organ, see :func:`components`. Error regions share no voxel;
        attention regions may. Voxels beyond the array cover nothing.
    shape
        Of the array.
    voxel_ml
        Volume of a voxel.
    """
    owner = np.zeros(shape, dtype=np.int32)
    for number, region in enumerate(errors, start=1):
        owner[tuple(region.T)] = number
    size = np.array([len(region) for region in errors], dtype=float)
    covered = np.zeros(len(errors))
    best = np.zeros(len(attention))
    if len(errors):
        for index, region in enumerate(attention):
            inside = ((region >= 0) & (region < shape)).all(axis=1)
            met = owner[tuple(region[inside].T)]
            shares = np.bincount(met, minlength=len(errors) + 1)[1:] / size
            covered = np.maximum(covered, shares)
            best[index] = shares.max()
    volume = np.array([len(region) for region in attention], dtype=float) * voxel_ml
    return Detection(size * voxel_ml, covered, volume, best)


def moved(attention: Sequence[Indices], places: Indices, rng: np.random.Generator) -> list[Indices]:
    """The control: each region with the centre of its box on a place drawn by chance.

    Parameters
    ----------
    attention
        Regions of one organ.
    places
        ``(n, 3)`` voxels to draw from, n 1 or more: such as the organ's outline.
    """
    out = []
    for region in attention:
        centre = (region.min(axis=0) + region.max(axis=0)) // 2
        out.append(region + (places[rng.integers(len(places))] - centre))
    return out


def outline(mask: Mask) -> Indices:
    """``(n, 3)`` voxels of a mask with a face to a voxel that is none of it."""
    inner = np.pad(mask, 1)
    for axis in range(3):
        padded = np.pad(mask, [(1, 1)] * 3)
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    edge = mask & ~inner[1:-1, 1:-1, 1:-1]
    found: Indices = np.argwhere(edge)
    return found


def mean_of(values: Sequence[float]) -> dict[str, Any]:
    """Mean, population SD and count over the cases that have any."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not known.size:
        return {"mean": float("nan"), "sd": float("nan"), "n": 0}
    return {"mean": float(known.mean()), "sd": float(known.std()), "n": int(known.size)}
