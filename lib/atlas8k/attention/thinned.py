"""Take every few voxels of a volume's probabilities, organ by organ, in the box that matters.

Features and places are measured there: what an annotator can see is larger than
:data:`STEP_MM`, and a share needs no more voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.attention.probabilities import LEVELS, Probs, Quantised
from atlas8k.attention.regions import Box, bounding_box
from atlas8k.core.errors import GridMismatchError
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.resample import resample
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES

STEP_MM = 3.0
LEAST = 0.1
"""Where no network gives an organ more, and the label has none, it is not looked at."""
MARGIN = 3
AIR_HU = -1024.0

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class OrganPart:
    """One organ in its box of the thinned grid.

    Attributes
    ----------
    organ
        Its name.
    box
        Of the thinned array, some voxels around all that is looked at.
    probs
        ``(models, *box)`` float32, of the networks that know the organ.
    mask
        ``box`` bool: the label.
    others
        ``box`` bool: the label of other organs.
    hu
        ``box`` float32: the CT, HU.
    """

    organ: str
    box: Box
    probs: Floats
    mask: Mask
    others: Mask
    hu: Floats


@dataclass(frozen=True, eq=False)
class Thinned:
    """A volume on every few voxels.

    Attributes
    ----------
    label
        ``(X, Y, Z)`` uint8 organ ids.
    grid
        Its grid.
    steps
        Voxels of the whole grid to one here, by axis.
    parts
        Of organs that somebody sees, in their order.
    """

    label: npt.NDArray[np.uint8]
    grid: Grid
    steps: tuple[int, int, int]
    parts: tuple[OrganPart, ...]

    @property
    def spacing(self) -> npt.NDArray[np.float64]:
        """Voxel size by axis, ``(3,)`` mm."""
        return np.asarray(self.grid.spacing)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return self.grid.voxel_ml


def thinned_ct(grid: Grid, ct: Volume) -> Floats:
    """Return a CT on every few voxels of another grid, HU, interpolated between its voxels."""
    own = _every(grid)[0]
    hu: Floats = resample(ct.array, ct.grid, own, linear=True, fill=AIR_HU).astype(np.float32)
    return hu


def thinned(
    probs: Probs | Quantised,
    label: npt.NDArray[np.uint8],
    grid: Grid,
    hu: Floats,
    *,
    organs: Sequence[str] = ORGAN_NAMES,
    known: npt.NDArray[np.bool_] | None = None,
) -> Thinned:
    """Return a volume on every few voxels.

    Parameters
    ----------
    probs
        ``(models, organs, X, Y, Z)``, or codes.
    label
        ``(X, Y, Z)`` uint8 organ ids, what the ensemble says.
    grid
        Of both; axes nearest RAS.
    hu
        The CT, see :func:`thinned_ct`.
    known
        ``(models, organs)``: whether a network knows an organ; all do where ``None``.

    Raises
    ------
    GridMismatchError
        Shapes of probabilities, label and grid differ.
    """
    networks = probs.codes if isinstance(probs, Quantised) else probs
    shape = networks[0].shape[1:]
    if not tuple(shape) == label.shape == tuple(grid.shape):
        raise GridMismatchError(
            "probabilities", f"their shape {shape}, label {label.shape}, grid {grid.shape} differ"
        )
    own, thin = _every(grid)
    coarse = label[thin]
    if hu.shape != coarse.shape:
        raise GridMismatchError("CT", f"shape {hu.shape}, where {coarse.shape} is needed")
    parts = []
    for index, organ in enumerate(organs):
        who = range(len(networks)) if known is None else np.flatnonzero(known[:, index])
        values = [np.asarray(networks[k][index])[thin] for k in who]
        part = _part(organ, values, coarse, hu)
        if part is not None:
            parts.append(part)
    x, y, z = (one.step for one in thin)
    return Thinned(coarse, own, (x, y, z), tuple(parts))


def _every(grid: Grid) -> tuple[Grid, tuple[slice, slice, slice]]:
    """Return the grid of every few voxels, and these voxels: the middle of each cell."""
    steps = [max(1, round(STEP_MM / mm)) for mm in grid.spacing]
    x, y, z = (
        slice(step // 2 if step < length else 0, None, step)
        for step, length in zip(steps, grid.shape, strict=True)
    )
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [one.start for one in (x, y, z)]
    affine[:3, :3] *= steps
    nx, ny, nz = (
        len(range(*one.indices(length))) for one, length in zip((x, y, z), grid.shape, strict=True)
    )
    return Grid((nx, ny, nz), affine), (x, y, z)


def _part(
    organ: str,
    values: Sequence[npt.NDArray[Any]],
    coarse: npt.NDArray[np.uint8],
    hu: Floats,
) -> OrganPart | None:
    """Return one organ where somebody sees it, its codes as probabilities."""
    if not values:
        return None
    coded = values[0].dtype == np.uint8
    least = np.searchsorted(LEVELS, LEAST) if coded else LEAST
    mask = coarse == ORGAN_IDS[organ]
    seen = mask.copy()
    for value in values:
        seen |= value > least
    tight = bounding_box(seen)
    if tight is None:
        return None
    x, y, z = (slice(max(0, span.start - MARGIN), span.stop + MARGIN) for span in tight)
    box = (x, y, z)
    levels = LEVELS.astype(np.float32)
    probs = np.stack(
        [levels[value[box]] if coded else value[box].astype(np.float32) for value in values]
    )
    inside = mask[box]
    return OrganPart(organ, box, probs, inside, (coarse[box] > 0) & ~inside, hu[box])
