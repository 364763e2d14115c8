"""Correct a volume by strokes as a simulated annotator does, to know how long that takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from atlas8k.attention.regions import bounding_box
from atlas8k.campaign.effort import MINUTES_A_VOLUME, MINUTES_AN_ORGAN
from atlas8k.campaign.simulation import Drawing
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGANS
from atlas8k.refine.annotator import next_stroke
from atlas8k.refine.strokes import Strokes
from atlas8k.services.strokes import StrokeService

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

MOST_STROKES = 10
"""On one organ; the rest is brushed."""
LEAST_ML = 1.0
"""An organ that is less wrong than this needs no stroke."""
AROUND_MM = 50.0


class Drawn(NamedTuple):
    """What strokes did to one organ."""

    organ: str
    strokes: int
    wrong_ml: float
    left_ml: float


def draw(
    service: StrokeService, volume: str, draft: Labels, truth: Labels, grid: Grid, seed: int
) -> tuple[Drawn, ...]:
    """Correct every organ of a draft label that is wrong, each by itself.

    Parameters
    ----------
    draft, truth
        ``(X, Y, Z)`` uint8 organ ids on the CT's grid.
    seed
        Of the annotator's hand.
    """
    found = []
    for organ in ORGANS:
        box = bounding_box((draft == organ.id) | (truth == organ.id))
        if box is None:
            continue
        reach = [round(AROUND_MM / mm) for mm in grid.spacing]
        x, y, z = (
            slice(max(0, s.start - n), min(size, s.stop + n))
            for s, n, size in zip(box, reach, grid.shape, strict=True)
        )
        part = (x, y, z)
        label, right = draft[part].copy(), truth[part] == organ.id

        before = left = _wrong(label == organ.id, right) * grid.voxel_ml
        if before < LEAST_ML:
            continue
        rng = np.random.default_rng([organ.id, seed])
        start = np.array([s.start for s in part])
        marked: dict[tuple[int, ...], bool] = {}  # the later of two on a voxel counts
        count = 0
        while count < MOST_STROKES and left >= LEAST_ML:
            stroke = next_stroke(label == organ.id, right, grid.spacing, rng)
            if stroke is None:
                break
            count += 1
            marked |= dict.fromkeys(map(tuple, stroke.voxels.tolist()), stroke.organ)
            strokes = Strokes(*(_points(marked, says) + start for says in (True, False)))
            answer = service.answer(volume, organ, label, strokes, box=part)
            if answer.box is not None and answer.refined is not None:
                there = tuple(
                    slice(s.start - n, s.stop - n) for s, n in zip(answer.box, start, strict=True)
                )
                label[there] = answer.refined.label
            left = _wrong(label == organ.id, right) * grid.voxel_ml
        found.append(Drawn(organ.name, count, before, left))
    return tuple(found)


def _wrong(mask: Mask, right: Mask) -> int:
    return int(np.count_nonzero(mask ^ right))


def _points(marked: dict[tuple[int, ...], bool], says: bool) -> npt.NDArray[np.intp]:
    points = [voxel for voxel, organ in marked.items() if organ == says]
    return np.array(points, dtype=np.intp).reshape(-1, 3)


def drawing(volumes: int, drawn: Sequence[Drawn], seconds_a_stroke: float) -> Drawing:
    """Return the minutes of so many volumes whose organs were drawn so."""
    looking = MINUTES_A_VOLUME * volumes
    by_strokes = sum(
        one.strokes * seconds_a_stroke / 60 + MINUTES_AN_ORGAN * one.left_ml / one.wrong_ml
        for one in drawn
    )
    return Drawing(
        seconds_a_stroke=seconds_a_stroke,
        organs=len(drawn),
        strokes=sum(one.strokes for one in drawn),
        wrong_ml=sum(one.wrong_ml for one in drawn),
        left_ml=sum(one.left_ml for one in drawn),
        minutes_brushed=looking + MINUTES_AN_ORGAN * len(drawn),
        minutes_drawn=looking + by_strokes,
    )
