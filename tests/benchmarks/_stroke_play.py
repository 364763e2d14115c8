"""Play annotators on stored cases: strokes one after another, by any method of answering them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from _stroke_cases import Stored
from scipy import ndimage

from atlas8k.refine.annotator import Stroke, next_stroke

ORGANS = range(1, 10)
LEAST_ML = 1.0
"""An organ that is less wrong than this is not corrected."""


@dataclass(frozen=True, eq=False)
class Step:
    """A stroke and all before it, on the label as it was when it was drawn."""

    label: np.ndarray
    strokes: list[Stroke]


Answer = Callable[[Stored, int, Step], np.ndarray]
"""The organ's new mask, ``(X, Y, Z)`` bool, of a case, an organ and a step."""


def spacing_of(case: Stored) -> tuple[float, float, float]:
    """Return the spacing of a case, mm."""
    x, y, z = np.linalg.norm(case.affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def masks(case: Stored, strokes: list[Stroke]) -> tuple[np.ndarray, np.ndarray]:
    """Return strokes as masks, organ and not; the later of two on a voxel counts."""
    inside, outside = (np.zeros(case.ct.shape, dtype=bool) for _ in range(2))
    for stroke in strokes:
        at = tuple(stroke.voxels.T)
        inside[at], outside[at] = stroke.organ, not stroke.organ
    return inside, outside


def scene_of(case: Stored, organ: int, step: Step, *, opinions: bool = True):
    """Return the region about a step's strokes that contradict its label, and its box."""
    from atlas8k.refine.decide import region_of
    from atlas8k.refine.features import Scene

    inside, outside = masks(case, step.strokes)
    mine = step.label == organ
    spacing = spacing_of(case)
    box = region_of((inside & ~mine) | (outside & mine), spacing)
    if box is None:
        return None, None
    probs = case.probs[(slice(None), slice(None), *box)]
    others = np.delete(probs, organ - 1, axis=1).mean(axis=0).max(axis=0)
    scene = Scene(
        case.ct[box],
        mine[box],
        (step.label > 0)[box] & ~mine[box],
        inside[box],
        outside[box],
        spacing,
        probs[:, organ - 1] if opinions else None,
        others if opinions else None,
    )
    return scene, box


def by_model(model, *, opinions: bool = True) -> Answer:
    """Return the project's answer."""

    def answer(case: Stored, organ: int, step: Step) -> np.ndarray:
        from atlas8k.refine.decide import decide

        scene, box = scene_of(case, organ, step, opinions=opinions)
        out = step.label == organ
        if scene is not None:
            out[box] = decide(scene, model)[0]
        return out

    return answer


def by_brush(radius_mm: float = 3.0) -> Answer:
    """Return what a brush does: everything within a radius of the last stroke."""

    def answer(case: Stored, organ: int, step: Step) -> np.ndarray:
        last = step.strokes[-1]
        spacing = spacing_of(case)
        away = np.ones(case.ct.shape, dtype=bool)
        away[tuple(last.voxels.T)] = False
        low, high = last.voxels.min(axis=0), last.voxels.max(axis=0)
        more = np.ceil(radius_mm / np.asarray(spacing)).astype(int) + 1
        box = tuple(
            slice(max(0, a - m), b + m + 1) for a, b, m in zip(low, high, more, strict=True)
        )
        near = ndimage.distance_transform_edt(away[box], sampling=spacing) <= radius_mm
        out = step.label == organ
        out[box][near] = last.organ
        return out

    return answer


@dataclass(frozen=True, eq=False)
class Played:
    """What a step was, and what came of it."""

    organ: int
    step: Step
    number: int
    seconds: float
    wrong_ml: float
    dsc: float
    label: np.ndarray


def about(case: Stored, organ: int) -> Stored:
    """Return the part of a case within 50 mm of an organ's box, true or predicted."""
    from atlas8k.attention.regions import bounding_box

    box = bounding_box((case.pseudo == organ) | (case.truth == organ))
    if box is None:
        return case
    box = tuple(
        slice(max(0, s.start - m), s.stop + m)
        for s, m in zip(box, (round(50 / mm) for mm in spacing_of(case)), strict=True)
    )
    ct, pseudo, truth = case.ct[box], case.pseudo[box], case.truth[box]
    probs = case.probs[(slice(None), slice(None), *box)]
    return Stored(case.name, ct, probs, pseudo, truth, case.affine)


def play(
    case: Stored, organ: int, answer: Answer, most: int, rng: np.random.Generator
) -> Iterator[Played]:
    """Draw strokes on an organ, `most` at most; the first thing given is the state before any.

    Parameters
    ----------
    case
        As :func:`about` gives it, or whole.
    """
    spacing = spacing_of(case)
    ml = float(np.prod(spacing)) / 1000
    truth = case.truth == organ
    label, strokes = case.pseudo.copy(), []

    def state(number: int, step: Step, seconds: float) -> Played:
        mine = label == organ
        wrong = float(np.count_nonzero(mine ^ truth)) * ml
        size = np.count_nonzero(mine) + np.count_nonzero(truth)
        dsc = 2 * np.count_nonzero(mine & truth) / size if size else 1.0
        return Played(organ, step, number, seconds, wrong, dsc, label)

    yield state(0, Step(label, []), 0.0)
    for number in range(1, most + 1):
        stroke = next_stroke(label == organ, truth, spacing, rng)
        if stroke is None:
            return
        strokes = [*strokes, stroke]
        step = Step(label, strokes)
        begun = time.perf_counter()
        new = answer(case, organ, step)
        seconds = time.perf_counter() - begun
        label = np.where(label == organ, np.uint8(0), label)
        label[new] = organ
        yield state(number, step, seconds)
