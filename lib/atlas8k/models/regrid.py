"""Between grids whose axes are parallel: probabilities up, labels back to the CT.

All working grids of one CT share its direction cosines, so interpolation is separable:
one axis at a time, a few times faster than a general resampling. Where grids are not
parallel, :func:`atlas8k.volume.resample` takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atlas8k.errors import GridMismatchError
from atlas8k.models.body import box_of, box_on, whole
from atlas8k.volume import Grid, resample

LEAST = np.float16(2**-12)
"""Probability for an organ that is as good as none: leaving out what is below takes 0.3 % off
the attention size (Eq. 4) of a phantom, whose uncertainty has long faint tails."""

Axis = tuple[int, npt.NDArray[np.float64]]
"""Source axis, and the source index (continuous) of every voxel along a target axis."""


def parallel_axes(source: Grid, target: Grid) -> tuple[Axis, Axis, Axis] | None:
    """For each target axis the source axis it runs along and where on it its voxels lie.

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
    found: list[Axis] = [
        (a, offset[a] + matrix[a, i] * np.arange(n))
        for i, (a, n) in enumerate(zip(axes, target.shape, strict=True))
    ]
    return found[0], found[1], found[2]


def interpolate_into(out: torch.Tensor, probs: torch.Tensor, source: Grid, target: Grid) -> None:
    """Interpolate probabilities linearly onto another grid, into given memory.

    Parameters
    ----------
    out
        ``(organs, *target.shape)``, any float type; every element is written. Within
        half a voxel of the source's edge the edge voxel's value is used, 0 beyond.
    probs
        ``(organs, *source.shape)``, any float type.
    source, target
        Both with axes nearest RAS; parallel for two grids of one CT.

    Raises
    ------
    GridMismatchError
        Where shapes do not fit the grids.
    """
    if tuple(probs.shape[1:]) != source.shape or tuple(out.shape[1:]) != target.shape:
        raise GridMismatchError(
            "array",
            f"{tuple(probs.shape)} onto {tuple(out.shape)} does not fit "
            f"grids {source.shape} and {target.shape}",
        )
    axes = parallel_axes(source, target)
    if axes is None or [a for a, _ in axes] != [0, 1, 2]:
        for one, result in zip(probs, out, strict=True):
            on_target = resample(one.float().numpy(), source, target, linear=True)
            result.copy_(torch.from_numpy(on_target))
        return
    shifts = [_shift(at, n) for (_, at), n in zip(axes, source.shape, strict=True)]
    if None not in shifts:
        # One grid is a part of the other, as for networks of the meeting grid's spacing.
        _copy_part(out, probs, [shift or 0 for shift in shifts])
        return
    z_weights = _weights(axes[2][1], source.shape[2])
    y_weights = _weights(axes[1][1], source.shape[1])
    low, high, weight = linear_plan(axes[0][1], source.shape[0])
    inside = _inside(axes[0][1], source.shape[0])
    for one, result in zip(probs, out, strict=True):
        value = one.float()
        # The small passes first, the one that fills memory last and plane by plane. A
        # product with a nearly empty matrix beats gathering along z tenfold.
        if z_weights is not None:
            value = value @ z_weights.T
        if y_weights is not None:
            value = torch.matmul(y_weights, value)
        for x, (i, j, w) in enumerate(zip(low, high, weight, strict=True)):
            if not inside[x]:
                result[x] = 0
            elif w == 0:
                result[x] = value[i]
            else:
                result[x] = torch.lerp(value[i], value[j], float(w))


def interpolate_where_any(
    out: torch.Tensor, probs: torch.Tensor, source: Grid, target: Grid
) -> None:
    """Interpolate one organ's probabilities where there are any, as :func:`interpolate_into`.

    An organ fills a few per cent of a CT, and nearly all of the time would go into
    interpolating zeros.

    Parameters
    ----------
    out
        ``target.shape``, any float type, all 0. Only the part whose probability can be
        above :data:`LEAST` is written.
    probs
        ``source.shape``, float16 in [0, 1].
    """
    found = box_of(probs.numpy().view(np.int16) > LEAST.view(np.int16))
    if found is None:
        return
    # One voxel more on each side: interpolation reaches into the neighbour.
    x, y, z = (
        slice(max(0, s.start - 1), min(n, s.stop + 1))
        for s, n in zip(found, source.shape, strict=True)
    )
    grid = source.crop((x, y, z))
    box = box_on(whole(grid.shape), grid, target)
    # Beyond half a voxel of its edge a part would end in 0, and the edge holds next to nothing.
    interpolate_into(out[box][None], probs[x, y, z][None], grid, target.crop(box))


def nearest(label: npt.NDArray[Any], source: Grid, target: Grid, fill: int = 0) -> npt.NDArray[Any]:
    """Label map on another grid, nearest neighbour.

    Parameters
    ----------
    label
        ``(X, Y, Z)`` on ``source``.
    fill
        Value beyond half a voxel from the source's edge.

    Returns
    -------
    ndarray
        ``target.shape``, dtype of ``label``, C order.
    """
    axes = parallel_axes(source, target)
    if axes is None:
        return resample(label, source, target, linear=False, fill=fill)
    order = [a for a, _ in axes]
    out = np.full(target.shape, fill, dtype=label.dtype)
    picks, places = [], []
    for a, at in axes:
        index = np.floor(at + 0.5 + 1e-6).astype(int)
        good = (index >= 0) & (index < source.shape[a])
        picks.append(index[good])
        places.append(slice(int(good.argmax()), int(good.argmax() + good.sum())))
    if all(len(p) for p in picks):
        out[tuple(places)] = label.transpose(order)[np.ix_(*picks)]
    return out


def linear_plan(
    at: npt.NDArray[np.float64], n: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Lower neighbour, upper neighbour and the upper's weight, for linear interpolation.

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


def _inside(at: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.bool_]:
    """Whether continuous indices lie on a voxel of the axis, its outer half included."""
    return (at >= -0.5 - 1e-6) & (at <= n - 0.5 + 1e-6)


def _shift(at: npt.NDArray[np.float64], n: int) -> int | None:
    """Source index of the first voxel where all lie on source voxels, one step apart."""
    first = round(float(at[0]))
    steps = first + np.arange(len(at))
    return first if np.abs(at - steps).max() < 1e-6 and -len(at) < first < n else None


def _copy_part(out: torch.Tensor, probs: torch.Tensor, first: Sequence[int]) -> None:
    """Voxel ``first`` of `probs` becomes voxel 0 of `out`; 0 where `probs` has none."""
    into, of = [], []
    for start, n, target in zip(first, probs.shape[1:], out.shape[1:], strict=True):
        low, high = max(0, -start), min(target, n - start)
        into.append(slice(low, high))
        of.append(slice(low + start, high + start))
    out.zero_()
    out[:, into[0], into[1], into[2]] = probs[:, of[0], of[1], of[2]].to(out.dtype)


def _weights(at: npt.NDArray[np.float64], n: int) -> torch.Tensor | None:
    """Linear interpolation along an axis as a matrix ``(len(at), n)``; ``None`` for no change."""
    low, high, weight = linear_plan(at, n)
    if len(at) == n and not weight.any() and np.array_equal(low, np.arange(n)):
        return None
    rows = np.arange(len(at))
    matrix = np.zeros((len(at), n), dtype=np.float32)
    matrix[rows, low] = 1 - weight
    matrix[rows, high] += weight
    matrix[~_inside(at, n)] = 0
    return torch.from_numpy(matrix)
