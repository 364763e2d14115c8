"""Change an organ of a label by strokes, on the CT's own voxels.

What is judged, is judged on a grid of 2 mm nearest RAS, on which the judge was fitted, whatever
the CT's spacing and orientation; what changes is brought back to the CT's voxels. Everything else
stays as it was to the voxel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.attention.regions import bounding_box
from atlas8k.core.errors import VolumeError
from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Box, box_on
from atlas8k.core.resample import on_canonical_axes, on_own_axes, resample
from atlas8k.refine.decide import Judge, decide, region_of
from atlas8k.refine.features import Floats, Mask, Scene
from atlas8k.refine.model import embedded_model

Label = npt.NDArray[np.uint8]
WORKING_MM = 2.0
MOST_ML = 12_000.0
"""Strokes may not ask for more of a CT at once: a patient's trunk has about 30,000 ml."""


class StrokeError(VolumeError):
    """Strokes that cannot be meant so, or reach over too much of a CT."""


class Opinions(NamedTuple):
    """What networks give an organ on a grid.

    Attributes
    ----------
    probs
        ``(networks, X, Y, Z)`` probabilities of the organ.
    others
        ``(X, Y, Z)``, the largest mean probability of any other.
    """

    probs: npt.NDArray[Any]
    others: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Strokes:
    """Voxels of one CT that somebody has marked.

    Attributes
    ----------
    inside, outside
        ``(n, 3)`` voxel indices: organ, and not this organ.
    """

    inside: npt.NDArray[np.intp]
    outside: npt.NDArray[np.intp]

    def check(self, shape: tuple[int, int, int], name: str) -> None:
        """Raise where no voxel is marked, one lies outside the CT, or one is marked as both.

        Raises
        ------
        StrokeError
            Names the CT, and the first voxel that cannot be.
        """
        if not len(self.inside) + len(self.outside):
            raise StrokeError(name, "no voxel is marked; draw a stroke first")
        for points in (self.inside, self.outside):
            out = ((points < 0) | (points >= shape)).any(axis=1)
            if out.any():
                at = ", ".join(map(str, points[out.argmax()]))
                size = " x ".join(map(str, shape))
                raise StrokeError(name, f"a stroke has voxel {at}; the CT has {size} voxels")
        one, two = (
            np.unique(np.ravel_multi_index(tuple(points.T), shape))
            for points in (self.inside, self.outside)
        )
        both = np.intersect1d(one, two, assume_unique=True)
        if len(both):
            at = ", ".join(map(str, np.unravel_index(both[0], shape)))
            raise StrokeError(
                name,
                f"{len(both)} voxels are marked as organ and as not this organ, the first is "
                f"{at}; erase one of the two",
            )

    def contradicting(self, label: Label, organ: int) -> Strokes:
        """Return the voxels of which a label, ``(X, Y, Z)``, says the opposite."""
        return Strokes(
            self.inside[label[tuple(self.inside.T)] != organ],
            self.outside[label[tuple(self.outside.T)] == organ],
        )

    def box(self, grid: Grid, name: str) -> Box | None:
        """Return the block of a CT that these strokes may change; None without any.

        Raises
        ------
        StrokeError
            It is more than :data:`MOST_ML`.
        """
        points = np.concatenate([self.inside, self.outside])
        if not len(points):
            return None
        low, high = points.min(axis=0), points.max(axis=0) + 1
        ends = np.zeros(tuple(high - low), dtype=bool)
        ends[0, 0, 0] = ends[-1, -1, -1] = True
        found = region_of(ends, grid.spacing, start=tuple(int(n) for n in low))
        assert found is not None
        x, y, z = (slice(s.start, min(s.stop, n)) for s, n in zip(found, grid.shape, strict=True))
        ml = float(np.prod([s.stop - s.start for s in (x, y, z)])) * grid.voxel_ml
        if ml > MOST_ML:
            raise StrokeError(
                name,
                f"the strokes reach over {ml:,.0f} ml of the CT, {MOST_ML:,.0f} are possible at "
                "once; send those of one place at a time",
            )
        return x, y, z


@dataclass(frozen=True, eq=False)
class Refined:
    """A block of a label after strokes.

    Attributes
    ----------
    label
        ``(X, Y, Z)`` uint8.
    added, removed
        Voxels that are of the organ now, and no longer.
    predicted
        False: networks never saw this CT, what changed follows from intensities alone.
    """

    label: Label
    added: int
    removed: int
    predicted: bool


def refine(
    ct: npt.NDArray[Any],
    label: Label,
    grid: Grid,
    organ: int,
    strokes: Strokes,
    opinions: Callable[[Grid], Opinions | None],
    judge: Judge | None = None,
) -> Refined:
    """Return a block of a label with an organ as strokes on it have it.

    Parameters
    ----------
    ct, label
        ``(X, Y, Z)`` HU and uint8 on `grid`: a block about the strokes, see
        :meth:`Strokes.box`.
    strokes
        In voxels of the block; those that the label agrees with bind, too.
    opinions
        Gives what networks think on a grid of 2 mm about the block; None: they never saw it.
    judge
        As for :func:`~atlas8k.refine.decide.decide`; the embedded one where None.

    Raises
    ------
    StrokeError
        See :meth:`Strokes.check`.
    """
    strokes.check(grid.shape, "strokes")
    # All on axes nearest RAS: halves are rounded alike whatever the file's own axes.
    upright, working = grid.canonical(), grid.working(WORKING_MM)
    mine = on_canonical_axes(label, grid)
    marks = [
        _mask_on(points, grid, upright, working) for points in (strokes.inside, strokes.outside)
    ]
    inside, outside = marks[0] & ~marks[1], marks[1] & ~marks[0]
    coarse = resample(mine, upright, working, linear=False).astype(np.uint8)
    hu = _smoothed(on_canonical_axes(ct, grid), upright.spacing)
    hu = resample(hu, upright, working, linear=True, fill=-1000.0)
    thought = opinions(working)
    scene = Scene(
        hu,
        coarse == organ,
        (coarse != organ) & (coarse > 0),
        inside,
        outside,
        working.spacing,
        None if thought is None else thought.probs,
        None if thought is None else thought.others,
    )
    now, field = decide(scene, judge or embedded_model())
    new = on_own_axes(_brought_back(now, field, scene, working, mine == organ, upright), grid)
    new[tuple(strokes.inside.T)] = True
    new[tuple(strokes.outside.T)] = False
    out = laid(label, new, organ, strokes)
    before, now_organ = label == organ, out == organ
    added, removed = (int(np.count_nonzero(m)) for m in (now_organ & ~before, before & ~now_organ))
    return Refined(out, added, removed, thought is not None)


def laid(label: Label, new: Mask, organ: int, strokes: Strokes) -> Label:
    """Return a label with an organ where `new` has it; others give way to a stroke alone.

    Parameters
    ----------
    label, new
        ``(X, Y, Z)`` uint8, and bool.
    strokes
        An organ that one inside goes through is this one instead wherever `new` says so.
    """
    taken = np.zeros(256, dtype=bool)
    taken[[0, organ, *np.unique(label[tuple(strokes.inside.T)])]] = True
    out = label.copy()
    out[(label == organ) & ~new] = 0
    out[new & taken[label]] = organ
    return out


def _mask_on(points: npt.NDArray[np.intp], grid: Grid, upright: Grid, working: Grid) -> Mask:
    """Return voxels of a grid, the same on axes nearest RAS, as a mask of another."""
    mask = np.zeros(working.shape, dtype=bool)
    at = points
    for source, target in ((grid, upright), (upright, working)):
        index_map = np.linalg.solve(target.affine, source.affine)
        at = np.rint(at @ index_map[:3, :3].T + index_map[:3, 3]).astype(int)
    at = np.clip(at, 0, np.asarray(working.shape) - 1)
    mask[tuple(at.T)] = True
    return mask


def _smoothed(ct: npt.NDArray[Any], spacing: tuple[float, float, float]) -> Floats:
    """Return HU averaged over the 2 mm that a working voxel stands for."""
    size = [max(1, round(WORKING_MM / mm)) for mm in spacing]
    out: Floats = ndimage.uniform_filter(ct.astype(np.float32), size)
    return out


def _brought_back(
    now: Mask, field: Floats, scene: Scene, working: Grid, before: Mask, grid: Grid
) -> Mask:
    """Return the organ on the CT's voxels: as it was but where the working grid's changed."""
    out = before.copy()
    changed = now ^ scene.organ
    if not changed.any():
        return out
    # The outline runs where the field is 0, also between a voxel that changed and its neighbours.
    zone = ndimage.binary_dilation(changed, iterations=1)
    around = bounding_box(zone)
    assert around is not None
    zone, there = zone[around], working.crop(around)
    part = field[around]
    part = np.where(
        changed[around] | (now[around] == (part > 0)), part, np.where(now[around], 1, -1)
    )
    level = np.clip(part, -4, 4).astype(np.float32)
    box = box_on(around, working, grid)
    target = grid.crop(box)
    near = resample(zone.astype(np.uint8), there, target, linear=False) > 0
    fine = resample(level, there, target, linear=True) > 0
    out[box][near] = fine[near]
    return out
