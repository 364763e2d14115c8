"""Describe where an array lies in the patient: grids and volumes.

Every array in this project has axes ``(X, Y, Z)`` = the file's own index axes and a
:class:`Grid` with the position of its voxels. Affines are nibabel's: voxel index to
millimetres, world axes RAS+ (x grows to the patient's right, y to the front, z to the
head). Nothing here assumes an orientation, a spacing or a handedness.

nibabel is imported where it is used: it takes a fifth of a second, and attention needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError, NotFiniteError, NotThreeDimensionalError

SERVED = "served"
"""Name of the form in which clients get a volume whose own affine they cannot all read."""


class Form(NamedTuple):
    """An affine, ``(4, 4)`` voxel index to RAS+ mm, with its name in messages."""

    name: str
    affine: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and position of a voxel array.

    Parameters
    ----------
    shape
        Voxels along the array axes, ``(X, Y, Z)``.
    affine
        ``(4, 4)`` float64, voxel index (centre) to millimetres, RAS+ world.
    forms
        Other affines by which programs may know the very same voxels: a header can hold
        two, and some are written down in a form that not every program reads.

    Raises
    ------
    NotThreeDimensionalError, NotFiniteError
        Where shape or affine describe no volume.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    forms: tuple[Form, ...] = ()

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise NotThreeDimensionalError("grid", f"shape {shape} is not that of one 3D volume")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise NotFiniteError("grid", "the affine must be 4x4 and finite; fix the file's header")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise NotFiniteError("grid", "the affine is singular; fix the file's header")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along the array axes, mm."""
        sx, sy, sz = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(sx), float(sy), float(sz)

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of one voxel, ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @cached_property
    def orientation(self) -> str:
        """Axis codes such as ``"RAS"``: the world direction in which each index grows."""
        from nibabel.orientations import aff2axcodes

        return "".join(aff2axcodes(self.affine))

    @cached_property
    def served(self) -> Grid:
        """The same voxels in the geometry that clients get: without shear, so all can read it."""
        served = next((form.affine for form in self.forms if form.name == SERVED), None)
        return self if served is None else Grid(self.shape, served)

    def same_as(self, other: Grid, tolerance_voxels: float = 0.01) -> bool:
        """Return whether shapes are equal and every corner lies within the tolerance."""
        if self.shape != other.shape:
            return False
        return corner_gap(self.affine, other.affine, self.shape) <= tolerance_voxels

    def canonical(self) -> Grid:
        """Return the same voxels with axes permuted and flipped to be nearest RAS+."""
        from nibabel.orientations import inv_ornt_aff, io_orientation

        transform = io_orientation(self.affine)
        shape = [0, 0, 0]
        for axis, n in enumerate(self.shape):
            shape[int(transform[axis, 0])] = n
        affine = self.affine @ inv_ornt_aff(transform, self.shape)
        return Grid((shape[0], shape[1], shape[2]), affine)

    def working(self, spacing_mm: float | tuple[float, float, float]) -> Grid:
        """Return a grid of the given spacing over the same extent, axes nearest RAS+.

        The direction cosines stay the same, so that an oblique CT stays separable and is
        not blurred twice. The first voxel's outer corner stays, the far end is rounded to
        the nearest whole voxel.
        """
        base = self.canonical()
        target = np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
        old = np.asarray(base.spacing)
        shape = np.maximum(1, np.rint(np.asarray(base.shape) * old / target)).astype(int)
        scale = target / old
        affine = base.affine.copy()
        affine[:3, :3] = base.affine[:3, :3] * scale
        affine[:3, 3] = base.affine[:3, 3] + base.affine[:3, :3] @ ((scale - 1) / 2)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """Return the grid of ``array[box]``; slices have a start and a stop and no step."""
        start = np.array([s.start for s in box], dtype=np.float64)
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ start + self.affine[:3, 3]
        shape = tuple(s.stop - s.start for s in box)
        return Grid((shape[0], shape[1], shape[2]), affine)


def corners(shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """Return indices of the eight corner voxels, ``(4, 8)`` with a last row of ones."""
    indices = np.array(np.meshgrid(*[(0, n - 1) for n in shape]), dtype=np.float64).reshape(3, -1)
    return np.vstack([indices, np.ones(indices.shape[1])])


def corner_gap(
    affine: npt.NDArray[np.float64], other: npt.NDArray[np.float64], shape: tuple[int, int, int]
) -> float:
    """Return the largest difference of two affines at a corner, in voxels along an axis."""
    points = corners(shape)
    return float(np.abs(np.linalg.solve(affine, other @ points) - points)[:3].max())


@dataclass(frozen=True, eq=False)
class Volume:
    """An array ``(X, Y, Z)`` with its grid and, where it came from a file, the path."""

    array: npt.NDArray[Any]
    grid: Grid
    path: Path | None = None

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise GridMismatchError(
                self.path or "array",
                f"array shape {self.array.shape} does not fit grid shape {self.grid.shape}",
            )
