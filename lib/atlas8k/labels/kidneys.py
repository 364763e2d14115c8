"""Split both kidneys of one value by where their pieces lie in the patient.

Only world coordinates are looked at (RAS+: the left kidney has the smaller x), never array
axes. The body's midline comes from the CT's bones. What it does not decide stays unknown,
because a kidney under the other one's name is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from atlas8k.core.components import label_components
from atlas8k.core.grid import Grid

State = Literal["present", "absent", "unknown"]

LEFT, RIGHT = 1, 2

# Pieces below both are debris; an atrophic kidney is larger, as is a cyst of concern.
_PIECE_ML, _PIECE_SHARE = 10.0, 0.05
# Share of a piece's voxels on one side from which it lies on that side; up to the other it
# lies across the midline, evenly enough for two kidneys that are joined.
_ONE_SIDED, _ACROSS = 0.8, 0.65
_BIG_SHARE = 0.25
_TWO_KIDNEYS_MM = 80.0
_DEBRIS_MM = 50.0

_BONE_HU, _BODY_HU = 250.0, -300.0
_ENOUGH_ML = 5.0
# What lies that far in front of the kidneys is bowel, which may hold contrast agent.
_BEHIND_MM = 20.0
_AROUND_MM = 30.0
_EVERY_MM = 2.0


@dataclass(frozen=True, eq=False)
class Kidneys:
    """The left and the right kidney of a mask of both.

    Attributes
    ----------
    sides
        ``(X, Y, Z)`` uint8: 1 left kidney, 2 right kidney, 0 neither.
    left, right
        ``unknown`` where it cannot be determined; such a kidney has no voxels.
    notes
        What somebody should look at, one sentence each.
    """

    sides: npt.NDArray[np.uint8]
    left: State
    right: State
    notes: tuple[str, ...] = ()


def split_kidneys(
    mask: npt.NDArray[np.bool_], grid: Grid, midline: Midline | None = None
) -> Kidneys:
    """Split a mask of both kidneys into the left and the right one.

    Each connected piece (26 neighbours) goes to the side it lies on; small ones (debris,
    cysts that are detached) to the nearer kidney. One piece that lies evenly across the
    midline is two kidneys that are joined, and is cut there if bones say where; a kidney
    that is big enough to reach across stays whole. Where two pieces far apart would be one
    kidney, or a single one lies in the middle, both kidneys are unknown.

    Parameters
    ----------
    mask
        ``(X, Y, Z)`` bool: kidneys with their tumours and cysts.
    midline
        From :func:`find_midline`. Without it, the middle between two large pieces counts,
        and for a single kidney the image's centre if it is clearly on one side.
    """
    out = np.zeros(mask.shape, np.uint8)
    if not mask.any():
        return Kidneys(out, "absent", "absent")
    box = _box(mask)
    pieces = _Pieces.of(mask[box], grid.crop(box))
    line = midline or pieces.own_midline() or image_centre(grid)
    sorting = _Sorting(pieces, line)
    inside = sorting.run()
    if inside is None:
        return Kidneys(out, "unknown", "unknown", tuple(sorting.notes))
    out[box] = inside
    states: dict[int, State] = {}
    for side in (LEFT, RIGHT):
        has_voxels = bool((inside == side).any())
        states[side] = "present" if has_voxels else "unknown" if side in sorting.doubt else "absent"
    return Kidneys(out, states[LEFT], states[RIGHT], tuple(sorting.notes))


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Connected pieces of a mask; arrays over pieces start with one for the background."""

    grid: Grid
    parts: npt.NDArray[Any]
    index: npt.NDArray[np.int64]
    """``(n, 3)`` voxels of the mask."""
    piece: npt.NDArray[np.int64]
    """Piece of each of them."""
    world: npt.NDArray[np.float64]
    """``(n, 3)`` mm."""
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_], grid: Grid) -> _Pieces:
        parts = label_components(np.asfortranarray(mask))
        index = np.argwhere(mask)
        piece = parts[mask].astype(np.int64)
        world = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        return cls(grid, parts, index, piece, world, np.bincount(piece))

    def mean_x(self) -> npt.NDArray[np.float64]:
        total = np.bincount(self.piece, self.world[:, 0])
        return np.asarray(total / np.maximum(self.counts, 1))

    def left_share(self, x_mm: float) -> npt.NDArray[np.float64]:
        left = np.bincount(self.piece, self.world[:, 0] < x_mm)
        return np.asarray(left / np.maximum(self.counts, 1))

    def main(self) -> list[int]:
        """Return the pieces that are no debris, the largest first; at least one."""
        least = min(_PIECE_ML / self.grid.voxel_ml, _PIECE_SHARE * self.counts.max())
        order = np.argsort(-self.counts, kind="stable")
        return [int(p) for p in order if self.counts[p] >= least and self.counts[p] > 0]

    def big(self) -> list[int]:
        """Return the pieces large enough to be a kidney beside the largest one."""
        return [p for p in self.main() if self.counts[p] >= _BIG_SHARE * self.counts.max()]

    def spread_mm(self) -> float:
        """Return how far the centres of the big pieces lie apart from left to right."""
        return float(np.ptp(self.mean_x()[self.big()]))

    def own_midline(self) -> Midline | None:
        x = np.sort(self.mean_x()[self.big()])
        if len(x) != 2 or x[1] - x[0] < _TWO_KIDNEYS_MM:
            return None
        return Midline(float(x.mean()), 20.0, "two kidneys")

    def surface(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Return ``(n, 3)`` mm, the outermost of the `chosen` voxels of the mask."""
        whole = np.zeros(self.parts.shape, bool)
        whole[tuple(self.index[chosen].T)] = True
        edge = whole & ~ndimage.binary_erosion(whole)
        return np.asarray(np.argwhere(edge) @ self.grid.affine[:3, :3].T + self.grid.affine[:3, 3])


@dataclass(eq=False)
class _Sorting:
    """Assigns pieces to sides, and notes what somebody should look at."""

    pieces: _Pieces
    line: Midline
    notes: list[str] = field(default_factory=list)
    doubt: set[int] = field(default_factory=set)

    def run(self) -> npt.NDArray[np.uint8] | None:
        """Return ``(X, Y, Z)`` of the pieces' box, 1 left, 2 right; None where it is undecided."""
        pieces = self.pieces
        share, x = pieces.left_share(self.line.x_mm), pieces.mean_x()
        main = pieces.main()
        side = np.zeros(len(pieces.counts), np.uint8)
        across = [p for p in main if 1 - _ONE_SIDED < share[p] < _ONE_SIDED]
        for p in main:
            if p in across:
                continue
            if abs(x[p] - self.line.x_mm) < self.line.margin_mm:
                across.append(p)
            else:
                side[p] = LEFT if share[p] > 0.5 else RIGHT
        of_voxel = side[pieces.piece]
        for p in across:
            decided = self._across(p, float(share[p]), side)
            if decided is None:
                return None
            here = pieces.piece == p
            of_voxel[here] = decided if decided.ndim == 0 else decided[here]
        if self._one_kidney_twice(of_voxel):
            return None
        self._debris(of_voxel)
        inside = np.zeros(pieces.parts.shape, np.uint8)
        inside[tuple(pieces.index.T)] = of_voxel
        return inside

    def _across(
        self, piece: int, share: float, side: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8] | None:
        """Return the side of a piece on the midline, for all or by voxel; None if in doubt."""
        pieces = self.pieces
        ml = pieces.counts[piece] * pieces.grid.voxel_ml
        own = LEFT if share > 0.5 else RIGHT
        opposite = {p for p in pieces.main() if side[p] == LEFT + RIGHT - own}
        beside = {p for p in pieces.main() if side[p] == own}
        even = 1 - _ACROSS <= share <= _ACROSS
        # Beside pieces that lie evenly, a small one opposite may be a cyst of a joined kidney.
        has_partner = opposite & {*pieces.big()} or (opposite and not even)
        if piece not in pieces.big() or (has_partner and not beside & {*pieces.big()}):
            self.notes.append(
                f"a piece of {ml:.0f} ml reaches across the midline; it was taken for the "
                f"{_name(own)} kidney, where most of it lies"
            )
            return np.array(own, np.uint8)
        if even and self.line.found_by == "bones" and not (opposite | beside) & {*pieces.big()}:
            self.notes.append(
                f"one piece of {ml:.0f} ml lies across the midline (a horseshoe kidney, or "
                f"kidneys that touch); it was cut at x = {self.line.x_mm:.0f} mm"
            )
            return np.where(pieces.world[:, 0] < self.line.x_mm, LEFT, RIGHT).astype(np.uint8)
        self.notes.append(
            f"a piece of {ml:.0f} ml lies on or across the midline ({self.line.found_by}, "
            f"x = {self.line.x_mm:.0f} mm); which kidney it is cannot be determined"
        )
        return None

    def _one_kidney_twice(self, of_voxel: npt.NDArray[np.uint8]) -> bool:
        if len(np.unique(of_voxel[of_voxel > 0])) > 1:
            return False
        apart = self.pieces.spread_mm()
        if apart < _TWO_KIDNEYS_MM:
            return False
        self.notes.append(
            f"two large pieces {apart:.0f} mm apart lie on the same side of the midline "
            f"({self.line.found_by}, x = {self.line.x_mm:.0f} mm); which kidney is which "
            "cannot be determined"
        )
        return True

    def _debris(self, of_voxel: npt.NDArray[np.uint8]) -> None:
        """Give small pieces to the nearer kidney; leave out, and note, those far from both."""
        pieces = self.pieces
        small = of_voxel == 0
        if not small.any():
            return
        sides = [s for s in (LEFT, RIGHT) if (of_voxel == s).any()]
        gaps = np.stack(
            [cKDTree(pieces.surface(of_voxel == s)).query(pieces.world[small])[0] for s in sides]
        )
        piece = pieces.piece[small]
        nearest = np.full((len(sides), len(pieces.counts)), np.inf)
        for row, gap in zip(nearest, gaps, strict=True):
            np.minimum.at(row, piece, gap)
        choice = np.array(sides, np.uint8)[nearest.argmin(axis=0)]
        choice[nearest.min(axis=0) > _DEBRIS_MM] = 0
        of_voxel[small] = choice[piece]
        left_out = choice[piece] == 0
        if left_out.any():
            left_out_x = pieces.world[small][left_out, 0]
            self.doubt |= {LEFT} if (left_out_x < self.line.x_mm).any() else set()
            self.doubt |= {RIGHT} if (left_out_x >= self.line.x_mm).any() else set()
            self.notes.append(
                f"{np.count_nonzero(left_out)} voxels in small pieces far from any kidney were "
                "left out"
            )


def _name(side: int) -> str:
    return "left" if side == LEFT else "right"


@dataclass(frozen=True)
class Midline:
    """The plane between left and right.

    Attributes
    ----------
    x_mm
        World x, RAS+.
    margin_mm
        A piece whose centre lies nearer than this is on neither side for certain.
    found_by
        ``bones``, ``body``, ``two kidneys`` or ``image centre``.
    """

    x_mm: float
    margin_mm: float
    found_by: str


def find_midline(
    ct: npt.NDArray[Any],
    mask: npt.NDArray[np.bool_],
    grid: Grid,
) -> Midline | None:
    """Return the body's midline at the kidneys' height; the kidneys' own voxels do not count.

    The median of what is as dense as bone lies in the spine: ribs, arms and hips balance.
    Without bones, the middle of the body is taken.

    Parameters
    ----------
    ct
        ``(X, Y, Z)`` HU on `grid`.
    mask
        ``(X, Y, Z)`` bool, both kidneys.

    Returns
    -------
    Midline or None
        None where the mask is empty or nothing is found.
    """
    if not mask.any():
        return None
    box = _slab(mask, grid)
    # A median needs no more than a voxel every two millimetres.
    steps = [max(1, int(_EVERY_MM / size)) for size in grid.spacing]
    every = tuple(slice(s.start, s.stop, step) for s, step in zip(box, steps, strict=True))
    part, kidneys = ct[every], mask[every]
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [float(span.start) for span in box]
    affine[:3, :3] *= steps
    inner = Grid((part.shape[0], part.shape[1], part.shape[2]), affine)
    x, y = _axis_mm(inner, 0), _axis_mm(inner, 1)
    height = float(np.median(y[kidneys])) if kidneys.any() else float(np.median(y))
    bones = (part > _BONE_HU) & ~kidneys & (y < height + _BEHIND_MM)
    enough = int(np.ceil(_ENOUGH_ML / inner.voxel_ml))
    if np.count_nonzero(bones) >= enough:
        return Midline(float(np.median(x[bones])), 10.0, "bones")
    body = part > _BODY_HU
    if enough <= np.count_nonzero(body) < 0.98 * body.size:
        return Midline(float(np.median(x[body])), 20.0, "body")
    return None


def image_centre(grid: Grid) -> Midline:
    """Return the image's middle, where nothing better is known."""
    middle = grid.affine @ np.array([*((np.array(grid.shape) - 1) / 2), 1.0])
    return Midline(float(middle[0]), 30.0, "image centre")


def _axis_mm(grid: Grid, axis: int) -> npt.NDArray[np.float64]:
    """Return the world coordinate `axis` of every voxel, ``(X, Y, Z)`` mm."""
    a = grid.affine[axis]
    i, j, k = np.ogrid[: grid.shape[0], : grid.shape[1], : grid.shape[2]]
    return np.asarray(a[0] * i + a[1] * j + a[2] * k + a[3])


def _slab(mask: npt.NDArray[np.bool_], grid: Grid) -> tuple[slice, slice, slice]:
    """Return the kidneys' extent from foot to head, and some more; the whole image sideways."""
    axis = int(np.argmax(nib.orientations.io_orientation(grid.affine)[:, 0] == 2))
    around = int(np.ceil(_AROUND_MM / grid.spacing[axis]))
    along = _box(mask)[axis]
    box = [slice(0, n) for n in mask.shape]
    box[axis] = slice(max(0, along.start - around), min(mask.shape[axis], along.stop + around))
    return box[0], box[1], box[2]


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box that holds a mask which is not empty."""
    x, y, z = ndimage.find_objects(mask.view(np.uint8))[0]
    return x, y, z
