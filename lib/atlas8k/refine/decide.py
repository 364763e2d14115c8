"""Decide a doubt by strokes: what of an organ is another, near strokes that contradict the label.

A stroke that the label agrees with asks for nothing. About those that contradict it each voxel is
judged by :class:`~atlas8k.refine.model.StrokeModel`; a voxel changes where the judgement is
another than the label, it is near a stroke or doubtful, and it hangs together with a stroke by
such voxels. The strokes themselves are as they were drawn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from atlas8k.core.components import label_components
from atlas8k.refine.features import Floats, Mask, Scene

Judge = Callable[[Scene, Mask], Floats]
NEAR_MM = 25.0
"""So far from a stroke a voxel may change that no network doubts."""
REACH_MM = 36.0
"""No voxel farther from a stroke changes."""
MARGIN = 0.4
"""A logit that speaks against the label by less changes nothing: p of 0.6."""
DOUBT = 0.02
"""A network that gives an organ more than this and less than one minus it doubts."""
SMOOTH_MM = 1.5


def decide(scene: Scene, judge: Judge) -> tuple[Mask, Floats]:
    """Return where the organ is, and how sure that is.

    Parameters
    ----------
    judge
        Gives the logit of some voxels of a scene.

    Returns
    -------
    organ
        ``(X, Y, Z)`` bool: as the label had it but for what changed.
    field
        ``(X, Y, Z)`` float32 logits: positive is organ; large where nothing was judged.
    """
    sure = np.where(scene.organ, np.float32(9), np.float32(-9))
    new = scene.new_inside | scene.new_outside
    if not new.any():
        return scene.organ.copy(), sure
    away = ndimage.distance_transform_edt(~new, sampling=scene.spacing)
    may = (away <= NEAR_MM) | ((away <= REACH_MM) & doubtful(scene))
    # What another organ has it keeps, unless a stroke says that this organ is there.
    if not (scene.inside & scene.other).any():
        may &= ~scene.other
    field = sure.copy()
    judged = away <= REACH_MM
    field[judged] = judge(scene, judged)
    field = ndimage.gaussian_filter(field, [SMOOTH_MM / 2 / mm for mm in scene.spacing])
    field = np.where(may, field, sure)
    field[scene.inside], field[scene.outside] = 9, -9
    changed = np.where(scene.organ, field < -MARGIN, field > MARGIN)
    pieces = label_components(changed, 6)
    touched = np.zeros(int(pieces.max()) + 1, dtype=bool)
    touched[np.unique(pieces[new])] = True
    touched[0] = False
    changed = touched[pieces]
    return scene.organ ^ changed, field


def region_of(
    strokes: Mask, spacing: tuple[float, float, float], start: tuple[int, ...] = (0, 0, 0)
) -> tuple[slice, slice, slice] | None:
    """Return the box of everything that strokes may change; None without any.

    `start` is where the mask's first voxel lies in a larger array.
    """
    if not strokes.any():
        return None
    box = []
    for axis in range(3):
        along = np.flatnonzero(strokes.any(axis=tuple(a for a in range(3) if a != axis)))
        more = int(np.ceil(REACH_MM / spacing[axis])) + 1
        low, high = int(along[0]) + start[axis], int(along[-1]) + start[axis]
        box.append(slice(max(0, low - more), high + more + 1))
    return box[0], box[1], box[2]


def doubtful(scene: Scene) -> Mask:
    """Return where a network doubts, or the networks' mean is not the label."""
    if scene.probs is None:
        return np.zeros(scene.ct.shape, dtype=bool)
    unsure = ((scene.probs > DOUBT) & (scene.probs < 1 - DOUBT)).any(axis=0)
    differ = (scene.probs > 0.5).any(axis=0) != (scene.probs > 0.5).all(axis=0)
    other = (np.mean(scene.probs, axis=0) > 0.5) != scene.organ
    out: Mask = unsure | differ | other
    return out
