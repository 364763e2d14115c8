"""Resample between grids whose axes are parallel: probabilities up, labels back to the CT.

All working grids of one CT share its direction cosines, so interpolation is separable:
one axis at a time, a few times faster than a general resampling. Where grids are not
parallel, :func:`atlas8k.core.volume.resample` takes over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.volume import Grid, resample
from atlas8k.core.voxels import in_file_order
from atlas8k.models.body import box_of

LEAST = 2.0**-15
"""Probability of an organ that counts as 0. Uncertainty has long faint tails: leaving
out rows that hold no more takes less than 0.1 % off the attention size (Eq. 4) of a real CT;
with 2^-12 it would be 1.7 %."""

FAINT = 2.0**-10
"""What counts as 0 in its place where more than :data:`MANY` structures are predicted: their
tails would fill the memory of all of them over the whole body. Codes of probabilities that are
kept (:data:`atlas8k.attention.probabilities.FLOOR`) leave out as much."""
MANY = 32

Axis = tuple[int, npt.NDArray[np.float64]]
"""Source axis, and the source index (continuous) of every voxel along a target axis."""


def parallel_axes(source: Grid, target: Grid) -> tuple[Axis, Axis, Axis] | None:
    """Return for each target axis the source axis it runs along, and where its voxels lie.

    ``None`` where the grids are not parallel (off by more than a hundredth of a voxel
    from one end to the other).
    """
    index_map = np.linalg.solve(source.affine, target.affine)
    matrix, offset = index_map[:3, :3], index_map[:3, 3]
    axes = [int(i) for i in np.abs(matrix).argmax(axis=0)]
    if sorted(axes) != [0, 1, 2]:
        return None
    rest = matrix.copy()
    rest[axes, [0, 1, 2]] = 0.0
    if (np.abs(rest) @ np.asarray(target.shape)).max() > 0.01:
        return None
    parallel: list[Axis] = [
        (a, offset[a] + matrix[a, i] * np.arange(n))
        for i, (a, n) in enumerate(zip(axes, target.shape, strict=True))
    ]
    return parallel[0], parallel[1], parallel[2]


def least_of(structures: int) -> float:
    """Return the probability that counts as 0 where so many structures are predicted."""
    return LEAST if structures <= MANY else FAINT


def bytes_written(probs: torch.Tensor, source: Grid, target: Grid, least: float) -> int:
    """Return about how much memory :func:`interpolate_into` takes for a float16 array of an organ.

    Parameters
    ----------
    probs
        ``source.shape``, in [0, 1].
    """
    above = probs > least
    length = int(above.any(dim=0).any(dim=0).sum())
    rows = int(above.any(dim=2).sum())
    return int(2 * rows * length * source.voxel_ml / target.voxel_ml)


def interpolate_into(
    out: torch.Tensor, probs: torch.Tensor, source: Grid, target: Grid, least: float = 0.0
) -> None:
    """Interpolate one organ's probabilities linearly onto another grid, into given memory.

    An organ fills a few per cent of a CT, and nearly all of the time would go into
    interpolating zeros.

    Parameters
    ----------
    out
        ``target.shape``, float16 or float32 on the CPU, all 0. Within half a voxel of the
        source's edge the edge voxel's value is used, beyond it nothing is written.
    probs
        ``source.shape``, any float type, in [0, 1].
    source, target
        Both with axes nearest RAS; parallel for two grids of one CT.
    least
        Of parallel grids: a row along z is not written where no row of `probs` that it lies
        between holds more than this.

    Raises
    ------
    GridMismatchError
        Where shapes do not fit the grids.
    """
    if tuple(probs.shape) != source.shape or tuple(out.shape) != target.shape:
        raise GridMismatchError(
            "array",
            f"{tuple(probs.shape)} onto {tuple(out.shape)} does not fit "
            f"grids {source.shape} and {target.shape}",
        )
    axes = parallel_axes(source, target)
    if axes is None or [a for a, _ in axes] != [0, 1, 2]:
        out.copy_(torch.from_numpy(resample(probs.float().numpy(), source, target, linear=True)))
        return
    from atlas8k.models.interpolation_kernel import spread

    array = probs.float().contiguous().numpy()
    box = box_of(~(array <= least))  # also what is no number
    if box is None:
        return
    plans = [_neighbours(at, n, s) for (_, at), n, s in zip(axes, source.shape, box, strict=True)]
    written = out.numpy()
    part = written.view(np.uint16) if written.dtype == np.float16 else written
    spread(array, *(p for p, _ in plans), *(w for _, w in plans), np.float32(least), part)


def nearest(label: npt.NDArray[Any], source: Grid, target: Grid, fill: int = 0) -> npt.NDArray[Any]:
    """Resample a label map onto another grid, by nearest neighbour.

    Parameters
    ----------
    label
        ``(X, Y, Z)`` on ``source``.
    fill
        Value beyond half a voxel from the source's edge.

    Returns
    -------
    ndarray
        ``target.shape``, dtype of ``label``; on parallel axes in the order of files.
    """
    axes = parallel_axes(source, target)
    if axes is None:
        return resample(label, source, target, linear=False, fill=fill)
    order = [a for a, _ in axes]
    out = np.full(target.shape, fill, dtype=label.dtype, order="F")
    indices, targets = [], []
    for a, at in axes:
        index = np.floor(at + 0.5 + 1e-6).astype(int)
        inside = (index >= 0) & (index < source.shape[a])
        indices.append(index[inside])
        targets.append(slice(int(inside.argmax()), int(inside.argmax() + inside.sum())))
    if all(len(p) for p in indices):
        x, y, z = indices
        slices, part = in_file_order(label.transpose(order)).T, out[tuple(targets)].T
        for number, one in enumerate(z):  # the processor's cache holds a slice
            part[number] = slices[one].take(x, axis=1).take(y, axis=0)
    return out


def linear_plan(
    at: npt.NDArray[np.float64], n: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return lower neighbour, upper neighbour and the upper's weight, to interpolate.

    Parameters
    ----------
    at
        Continuous indices on an axis of `n` voxels; those beyond its ends get the end.
    """
    clamped = np.clip(at, 0, n - 1)
    # Working grids that coincide do so but for rounding: a weight of 1e-12 is none.
    clamped = np.where(np.abs(clamped - np.rint(clamped)) < 1e-6, np.rint(clamped), clamped)
    low = np.minimum(clamped.astype(np.intp), max(0, n - 2))
    return low, np.minimum(low + 1, n - 1), (clamped - low).astype(np.float32)


def _neighbours(
    at: npt.NDArray[np.float64], n: int, some: slice
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return lower and upper neighbour ``(2, len(at))`` on an axis of `n` voxels, with weights.

    Weights are 0 beyond the axis, and where neither neighbour is one of `some`.
    """
    low, high, weight = linear_plan(at, n)
    weights = np.stack([1 - weight, weight])
    beyond = (at < -0.5 - 1e-6) | (at > n - 0.5 + 1e-6)  # of a voxel's outer half, too
    weights[:, beyond | (high < some.start) | (low >= some.stop)] = 0
    return np.stack([low, high]).astype(np.int32), weights
