"""Prepare a CT for a network: intensities 0..1 on the grid that it expects."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atlas8k.core.volume import Grid, Volume, to_canonical
from atlas8k.models.regrid import linear_plan, parallel_axes

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """Grid, intensities and windows that a network expects of its input.

    Parameters
    ----------
    spacing_mm
        Voxel size along the axes nearest R, A, S.
    hu_window
        ``(low, high)``, HU; mapped to 0 and 1 and clipped.
    window_size
        Voxels along the axes of one sliding window, of the largest where ``whole`` is set.
    overlap
        Fraction of a window shared with the next, from 0 to below 1.
    hu_scale
        ``(mean, standard deviation)``, HU, of networks that get the clipped HU minus the
        mean over the deviation, as nnU-Net's do; ``None``: they get 0..1. Applied to the
        windows by :func:`network`, so that everything before it has air as 0.
    orientation
        Directions of the patient along the network's three axes, letters
        of R or L, A or P, S or I in this order; windows lie along RAS and are flipped on
        the way in and out.
    whole
        Of networks trained on whole volumes: one window holds the patient, its sides
        rounded up to multiples of this many voxels (:meth:`window_for`). ``None``: every
        window is ``window_size``.

    Raises
    ------
    ValueError
        Where a value is out of its range.
    """

    spacing_mm: tuple[float, float, float] = (1.5, 1.5, 1.5)
    hu_window: tuple[float, float] = (-175.0, 250.0)
    window_size: tuple[int, int, int] = (96, 96, 96)
    overlap: float = 0.5
    hu_scale: tuple[float, float] | None = None
    orientation: str = "RAS"
    whole: int | None = None

    def __post_init__(self) -> None:
        spacing = tuple(float(v) for v in self.spacing_mm)
        window = tuple(float(v) for v in self.hu_window)
        size = tuple(int(v) for v in self.window_size)
        overlap = float(self.overlap)
        if len(spacing) != 3 or not all(math.isfinite(v) and v > 0 for v in spacing):
            raise ValueError(f"spacing_mm {self.spacing_mm}: three positive numbers are needed")
        if len(window) != 2 or not all(map(math.isfinite, window)) or window[0] >= window[1]:
            raise ValueError(f"hu_window {self.hu_window}: (low, high) with low < high is needed")
        if len(size) != 3 or min(size) < 1 or size != tuple(self.window_size):
            raise ValueError(f"window_size {self.window_size}: three whole numbers are needed")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap {self.overlap}: a number from 0 to below 1 is needed")
        object.__setattr__(self, "spacing_mm", spacing)
        object.__setattr__(self, "hu_window", window)
        object.__setattr__(self, "window_size", size)
        if self.hu_scale is not None:
            scale = tuple(float(v) for v in self.hu_scale)
            if len(scale) != 2 or not all(map(math.isfinite, scale)) or scale[1] <= 0:
                raise ValueError(f"hu_scale {self.hu_scale}: (mean, deviation above 0) is needed")
            object.__setattr__(self, "hu_scale", scale)
        if len(self.orientation) != 3 or any(
            letter not in pair
            for letter, pair in zip(self.orientation, ("RL", "AP", "SI"), strict=True)
        ):
            raise ValueError(f"orientation {self.orientation!r}: such as RAS or LPS is needed")
        if self.whole is not None and (self.whole < 1 or any(n % self.whole for n in size)):
            raise ValueError(
                f"whole {self.whole}: a whole number that divides window_size {size} is needed"
            )
        object.__setattr__(self, "overlap", overlap)

    def window_for(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the size of a window over a volume of `shape`, all of it where allowed.

        Networks that normalise over their input need windows like those of the training: a
        patient, neither cut nor surrounded by much padding.
        """
        if self.whole is None:
            return self.window_size
        sides = [
            min(most, math.ceil(n / self.whole) * self.whole)
            for n, most in zip(shape, self.window_size, strict=True)
        ]
        return more_than_one(sides, self.whole)

    def smaller_window(self, size: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """Return `size` with its longest side halved, where memory is short for one window.

        ``None`` where windows have a fixed size, or no side can be halved any more.
        """
        if self.whole is None:
            return None
        longest = max(range(3), key=size.__getitem__)
        half = math.ceil(size[longest] / 2 / self.whole) * self.whole
        if half >= size[longest]:
            return None
        x, y, z = (half if axis == longest else n for axis, n in enumerate(size))
        return x, y, z

    @property
    def fill(self) -> float:
        """Value that a window is padded with where the CT ends, in 0..1.

        That of air; with :attr:`hu_scale` the mean, as nnU-Net does.
        """
        if self.hu_scale is None:
            return 0.0
        low, high = self.hu_window
        return (self.hu_scale[0] - low) / (high - low)

    @property
    def flipped_axes(self) -> tuple[int, ...]:
        """Axes along which the network's orientation is opposite to RAS."""
        return tuple(i for i, letter in enumerate(self.orientation) if letter not in "RAS")

    def as_json(self) -> dict[str, Any]:
        """Return a JSON object of the fields; usual values of some are left out."""
        fields = dataclasses.asdict(self)
        usual = {"hu_scale": None, "orientation": "RAS", "whole": None}
        return {key: value for key, value in fields.items() if usual.get(key, ...) != value}


def adapt(module: torch.nn.Module, preprocessing: Preprocessing) -> None:
    """Adapt a network to input in 0..1 along RAS, by hooks; no tensor is added."""
    flip = tuple(axis - 3 for axis in preprocessing.flipped_axes)
    gain, offset = 1.0, 0.0
    if preprocessing.hu_scale is not None:
        (low, high), (mean, deviation) = preprocessing.hu_window, preprocessing.hu_scale
        gain, offset = (high - low) / deviation, (low - mean) / deviation
    if flip or preprocessing.hu_scale is not None:
        module.register_forward_pre_hook(partial(_input, gain=gain, offset=offset, flip=flip))
    if flip:
        module.register_forward_hook(partial(_output, flip=flip))


def _input(
    module: torch.nn.Module, inputs: Any, *, gain: float, offset: float, flip: tuple[int, ...]
) -> tuple[torch.Tensor]:
    return (inputs[0].mul(gain).add_(offset).flip(flip),)


def _output(
    module: torch.nn.Module, inputs: Any, logits: torch.Tensor, *, flip: tuple[int, ...]
) -> torch.Tensor:
    return logits.flip(flip)


def more_than_one(sides: Sequence[int], whole: int) -> tuple[int, int, int]:
    """Return the sides of a window; double the first where all are the smallest possible.

    A network that halves the window down to a single voxel cannot normalise over that.
    """
    x, y, z = sides
    return (2 * x if x == y == z == whole else x), y, z


def prepare(ct: Volume, preprocessing: Preprocessing) -> tuple[Floats, Grid]:
    """Return intensities in 0..1 on the grid a network works on.

    Parameters
    ----------
    ct
        ``(X, Y, Z)``, HU, any orientation and spacing, any integer or float type.
    preprocessing
        That of the network; window size and overlap do not matter here, so networks that
        differ only in those share one result (:func:`intensity_key`).

    Returns
    -------
    array : (X, Y, Z) float32 in [0, 1]
        0 at and below the window's low end, 1 at and above its high end. Axes nearest
        RAS. Linear interpolation, as the published networks were trained with.
    grid : Grid
        ``ct.grid.working(preprocessing.spacing_mm)``.

    Notes
    -----
    The same bits whatever axes the patient is stored along. Beside the result only a few
    planes are held, never a second copy of the CT.
    """
    # Clipped before interpolating: padding of -3024 HU or metal at 20,000 would otherwise
    # bleed into the voxels beside it.
    low, high = preprocessing.hu_window
    canonical = to_canonical(ct)
    target = ct.grid.working(preprocessing.spacing_mm)
    axes = parallel_axes(canonical.grid, target)
    if axes is None or [axis for axis, _ in axes] != [0, 1, 2]:
        raise AssertionError("a working grid is parallel to its CT, axis by axis")
    x, y, z = (linear_plan(at, n) for (_, at), n in zip(axes, canonical.array.shape, strict=True))
    out = np.empty(target.shape[::-1], dtype=np.float32)  # (Z, Y, X): planes are contiguous
    planes: dict[int, Floats] = {}
    for k, (lower, upper, weight) in enumerate(zip(*z, strict=True)):
        for index in (lower, upper):
            if index not in planes:
                planes[index] = _plane(canonical.array, index, low, high)
        plane = _mix(planes[lower], planes[upper], weight) if weight else planes[lower]
        plane = _mix(plane[y[0]], plane[y[1]], y[2][:, None])
        out[k] = _mix(plane[:, x[0]], plane[:, x[1]], x[2])
        planes = {index: planes[index] for index in (lower, upper)}  # the next may need them
    out -= np.float32(low)
    out *= np.float32(1.0 / (high - low))
    np.clip(out, 0.0, 1.0, out=out)  # rounding
    return np.ascontiguousarray(out.T), target


def intensity_key(
    preprocessing: Preprocessing,
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Return a key of the result of :func:`prepare`: equal keys, equal arrays."""
    return preprocessing.spacing_mm, preprocessing.hu_window


def _plane(array: npt.NDArray[Any], z: int, low: float, high: float) -> Floats:
    """Return one axial plane ``(Y, X)``, clipped."""
    plane = array[:, :, z].T
    return np.clip(plane.astype(np.float32), np.float32(low), np.float32(high))


def _mix(lower: Floats, upper: Floats, weight: Any) -> Floats:
    """Interpolate linearly in float32; `upper` may not be written to."""
    mixed = upper - lower
    mixed *= weight
    mixed += lower
    return mixed
