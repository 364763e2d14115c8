"""Choose and read a part of a volume that is small enough for a browser: thinned, or a block.

A part is voxels of the volume itself, never resampled: every second or third of all, or all of
a block. So what is drawn on a block lies on the volume's own grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Box
from atlas8k.core.nifti_file import PART_BYTES, open_nifti, open_voxels
from atlas8k.core.volume import whole_numbers

MAX_SIDE = 2048
"""Voxels along an axis that every browser's WebGL 2 takes as a texture with room to spare."""
_ALL = (1, 1, 1)
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Part:
    """Some voxels of a volume: ``array[box]``, of which every ``step``-th is taken.

    Attributes
    ----------
    box
        Slices along the volume's own axes, with a start and a stop and no step.
    step
        Along each axis; 1 takes all.
    """

    box: Box
    step: tuple[int, int, int] = _ALL

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = (
            math.ceil((one.stop - one.start) / step)
            for one, step in zip(self.box, self.step, strict=True)
        )
        return x, y, z

    @property
    def slices(self) -> Box:
        """What indexes the whole array."""
        x, y, z = (
            slice(one.start, one.stop, step) for one, step in zip(self.box, self.step, strict=True)
        )
        return x, y, z

    def grid(self, whole: Grid) -> Grid:
        """Return where the part lies, of the grid of the volume."""
        affine = whole.crop(self.box).affine.copy()
        affine[:3, :3] *= self.step
        return Grid(self.shape, affine)


def whole(shape: Sequence[int]) -> Part:
    """Return all of a volume."""
    x, y, z = (slice(0, n) for n in shape)
    return Part((x, y, z))


def fits(shape: Sequence[int], most: int) -> bool:
    """Return whether a volume has at most so many voxels, and none too many along an axis."""
    return math.prod(shape) <= most and max(shape) <= MAX_SIDE


def thinned(grid: Grid, most: int) -> Part:
    """Return every n-th voxel along each axis, at most so many in all.

    The axis whose voxels are closest is thinned first, so that they stay about as far apart
    along each.
    """
    step = [1, 1, 1]
    box = whole(grid.shape).box
    while not fits((part := Part(box, (step[0], step[1], step[2]))).shape, most):
        thick = part.shape
        apart = [n * mm for n, mm in zip(step, grid.spacing, strict=True)]
        axis = min((i for i in range(3) if thick[i] > 1), key=lambda i: (apart[i], -thick[i]))
        step[axis] += 1
    return part


def block(grid: Grid, centre: Sequence[int], most: int) -> Part:
    """Return the block about a voxel, as wide in mm along each axis, of at most so many voxels.

    At an edge of the volume it is moved inwards, not cut.

    Raises
    ------
    IndexError
        The volume has no such voxel.
    """
    if not all(0 <= at < n for at, n in zip(centre, grid.shape, strict=True)):
        raise IndexError(f"{tuple(centre)} of {grid.shape}")

    def size(mm: float) -> list[int]:
        return [
            min(n, MAX_SIDE, max(1, int(mm / one)))
            for n, one in zip(grid.shape, grid.spacing, strict=True)
        ]

    low, high = 0.0, max(n * mm for n, mm in zip(grid.shape, grid.spacing, strict=True)) + 1
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if math.prod(size(middle)) <= most else (low, middle)
    starts = [
        min(max(0, at - n // 2), side - n)
        for at, n, side in zip(centre, size(low), grid.shape, strict=True)
    ]
    x, y, z = (slice(at, at + n) for at, n in zip(starts, size(low), strict=True))
    return Part((x, y, z))


def read_part(path: str | Path, part: Part, *, label: bool = False) -> npt.NDArray[Any]:
    """Read a part of a CT or a label, holding no more than that and some planes in memory.

    Parameters
    ----------
    label
        Whole numbers from 0 to 255.

    Returns
    -------
    ndarray
        ``part.shape``, Fortran order; of a CT int16, HU to the nearest whole number; of a label
        uint8.

    Raises
    ------
    UnreadableVolumeError, NotThreeDimensionalError, NotFiniteError, GeometryError
        As :func:`~atlas8k.core.volume.read_ct`, as far as the part shows it.
    LabelValueError
        As :func:`~atlas8k.core.volume.read_label`.
    IndexError
        The part reaches out of the volume.
    """
    path = Path(path)
    image, geometry = open_nifti(path, 1)
    shape = geometry.grid.shape
    if any(one.stop > n for one, n in zip(part.box, shape, strict=True)):
        raise IndexError(f"{path}: {part.box} of {shape}")
    x, y, z = part.slices
    found = np.empty(part.shape, np.uint8 if label else np.int16, order="F")
    planes = max(1, PART_BYTES // (shape[0] * shape[1] * image.get_data_dtype().itemsize))
    stride = planes - planes % z.step or z.step
    with open_voxels(path, image) as proxy:
        beyond = (0,) * (len(proxy.shape) - 3)
        for k in range(z.start, z.stop, stride):
            upto = min(k + stride, z.stop)
            some = np.asarray(proxy[(..., slice(k, upto), *beyond)])[x, y, :: z.step]
            at = (k - z.start) // z.step
            found[..., at : at + some.shape[2]] = (
                whole_numbers(some, path) if label else _whole_hu(some)
            )
    return found


def _whole_hu(hu: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    if hu.dtype.kind == "f":
        hu = np.rint(np.nan_to_num(hu))
    return np.clip(hu, _INT16.min, _INT16.max).astype(np.int16)
