"""Change a label that is being drawn as a tool does; see :mod:`atlas8k.labels.editing`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.attention.explain import PLANES
from atlas8k.core.grid import Grid
from atlas8k.core.parts import Part, read_part
from atlas8k.core.structure_sets import Organ
from atlas8k.core.volume import read_label
from atlas8k.labels.editing import fill_between, keep_largest, take_organ
from atlas8k.labels.ingest import ingest
from atlas8k.services.case_parts import pasted

Tool = Literal["largest", "between", "take"]


@dataclass(frozen=True)
class Drawn:
    """A label as a page sends it.

    Attributes
    ----------
    sent
        Its file, on the CT's grid or on a block of it.
    part
        The block; None: it covers all of the CT.
    around, begun
        Label of the whole CT as it was drawn so far, and as the case began with it; None: empty.
    """

    sent: Path
    part: Part | None = None
    around: Path | None = None
    begun: Path | None = None

    def read(self, path: Path, grid: Grid) -> npt.NDArray[np.uint8]:
        """Return a label that came with it, on the same voxels."""
        if self.part is None:
            return ingest(path, grid, may_be_empty=True).array
        return read_label(path, block=True).array

    def before(self) -> npt.NDArray[np.uint8] | None:
        """Return what the case began with, on the same voxels."""
        if self.begun is None:
            return None
        if self.part is None:
            return read_label(self.begun).array
        found: npt.NDArray[np.uint8] = read_part(self.begun, self.part, label=True)
        return found


def change(
    drawn: Drawn,
    grid: Grid,
    do: Tool,
    organ: Organ,
    *,
    plane: str = "axial",
    other: Path | None = None,
    guide: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.uint8], Grid, int]:
    """Return a label as a tool changes it.

    Parameters
    ----------
    grid
        Of the CT.
    plane
        Of the slices to fill between: ``axial``, ``coronal`` or ``sagittal``.
    other
        The label that `take` takes the organ from, on the same voxels.
    guide
        ``grid.shape``, where networks have the organ: it guides what is filled between slices.

    Returns
    -------
    array, grid, slices
        ``(X, Y, Z)`` uint8 on the CT's grid as clients get it, or on the block; how many slices
        were filled.

    Raises
    ------
    VolumeError
        A label does not fit the CT, or the block.
    """
    part, filled = drawn.part, 0
    if do == "largest" and part is not None:
        # Which piece is the largest is not seen on the block alone.
        everything = pasted(drawn.sent, part, grid, drawn.around)
        label = keep_largest(everything, organ.id)[part.slices]
    else:
        label = drawn.read(drawn.sent, grid)
        if do == "largest":
            label = keep_largest(label, organ.id)
        elif do == "take" and other is not None:
            label = take_organ(label, drawn.read(other, grid), organ.id)
        elif do == "between":
            letters = [PLANES.get(letter, "axial") for letter in grid.orientation]
            axis = letters.index(plane)
            if guide is not None and part is not None:
                guide = guide[part.slices]
            label, filled = fill_between(label, drawn.before(), organ.id, axis, grid.spacing, guide)
    return label, grid.served if part is None else part.grid(grid.served), filled
