"""From the networks' probabilities to one label map.

The procedure's final label is the mean of the soft predictions, cut at 0.5 (Qu et al.,
NeurIPS 2023); the reference code then keeps the largest 26-connected piece per organ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
import torch

CUT = 0.5
"""A voxel belongs to an organ above this mean probability."""


@dataclass(frozen=True)
class EnsembleSettings:
    """How probabilities become labels.

    Parameters
    ----------
    largest_component
        Keep the largest 26-connected piece of each organ, as the reference code does.
    """

    largest_component: bool = True


def mean_probability(
    probs: npt.NDArray[np.floating[Any]], covered: npt.NDArray[np.bool_], organ: int
) -> torch.Tensor | None:
    """Mean over the networks that know an organ.

    Parameters
    ----------
    probs
        ``(models, organs, X, Y, Z)`` float16 or float32 in [0, 1].
    covered
        ``(models, organs)``: whether the network has an output for the organ. What
        stands in ``probs`` elsewhere is not looked at.
    organ
        Index on the organ axis.

    Returns
    -------
    Tensor or None
        ``(X, Y, Z)`` float32; ``None`` where no network knows the organ.
    """
    members = np.flatnonzero(covered[:, organ])
    if len(members) == 0:
        return None
    total = torch.from_numpy(probs[members[0], organ]).float()
    if total.data_ptr() == torch.from_numpy(probs[members[0], organ]).data_ptr():
        total = total.clone()  # float32 in: the caller's memory is not ours to add to
    for model in members[1:]:
        total += torch.from_numpy(probs[model, organ])
    return total.div_(len(members))


def label_map(
    probs: npt.NDArray[np.floating[Any]],
    covered: npt.NDArray[np.bool_],
    organ_ids: Sequence[int],
    settings: EnsembleSettings | None = None,
) -> npt.NDArray[np.uint8]:
    """Label map of the networks' mean.

    Parameters
    ----------
    probs
        ``(models, organs, X, Y, Z)`` float16 or float32 in [0, 1].
    covered
        ``(models, organs)`` bool, see :func:`mean_probability`.
    organ_ids
        Label value of each organ, 1 to 255.
    settings
        Defaults where ``None``.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` uint8. A voxel above 0.5 for several organs (each in a piece that
        is kept) goes to the likeliest, to the first of equals.
    """
    settings = settings or EnsembleSettings()
    label = torch.zeros(probs.shape[2:], dtype=torch.uint8)
    best = torch.full(probs.shape[2:], CUT, dtype=torch.float32)
    for organ, value in enumerate(organ_ids):
        mean = mean_probability(probs, covered, organ)
        if mean is None:
            continue
        box = _bounds(mean > CUT)
        if box is None:
            continue
        part = mean[box]
        if settings.largest_component:
            part = part * torch.from_numpy(largest_component((part > CUT).numpy()))
        wins = part > best[box]
        best[box] = torch.where(wins, part, best[box])
        label[box] = torch.where(wins, value, label[box])
    return label.numpy()


def largest_component(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest 26-connected piece of ``(X, Y, Z)``; nothing stays nothing."""
    pieces = cc3d.largest_k(np.ascontiguousarray(mask), k=1, connectivity=26)
    return np.asarray(pieces, dtype=bool)


def _bounds(mask: torch.Tensor) -> tuple[slice, slice, slice] | None:
    """Box around the true voxels, ``None`` where there are none."""
    slices = []
    flat_x = mask.flatten(1).any(1)
    if not bool(flat_x.any()):
        return None
    plane = mask.any(0)
    for line in (flat_x, plane.any(1), plane.any(0)):
        where = torch.nonzero(line)
        slices.append(slice(int(where[0]), int(where[-1]) + 1))
    return slices[0], slices[1], slices[2]
