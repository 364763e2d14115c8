"""Read what 3D Slicer's *Scribbles* panel sends: segments merged into one map, scribbles on top.

The value of a segment is the ``id`` that ``label_info`` gives it. Scribbles are written over the
organs, so that the map does not say what lies under them: other organs are taken from the label
that was given out, the organ that is corrected from what surrounds the scribble, since a scribble
stays in the scene after it was answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from atlas8k.core.errors import LabelNameError, LabelValueError
from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import find_placement, put
from atlas8k.core.structure_sets import Organ
from atlas8k.core.structures import ORGAN_NAMES, find_organ
from atlas8k.labels.ingest import read_segmentation

Label = npt.NDArray[np.uint8]
FOREGROUND, BACKGROUND = "foreground_scribbles", "background_scribbles"


@dataclass(frozen=True, eq=False)
class Scribbles:
    """A map of the panel, understood.

    Attributes
    ----------
    organ
        The segment that is corrected.
    label
        ``(X, Y, Z)`` uint8 organ ids on the CT's grid, without scribbles.
    inside, outside
        ``(n, 3)`` voxel indices of the foreground and background scribbles.
    """

    organ: Organ
    label: Label
    inside: npt.NDArray[np.intp]
    outside: npt.NDArray[np.intp]


def read_scribbles(
    path: Path, grid: Grid, label_info: object, selected: object, given: Label | None
) -> Scribbles:
    """Read a map of the panel.

    Parameters
    ----------
    grid
        Of the CT.
    label_info
        ``[{"name": ..., "id": ...}, ...]``, the id being the value.
    selected
        Name of the segment that is corrected.
    given
        The label that was given out last, ``grid.shape`` uint8; None: none.

    Raises
    ------
    LabelNameError
        `label_info` is no such list, or the segment is none of the structures.
    LabelValueError
        A value without a name.
    VolumeError
        The map does not lie on the CT, or cannot be read.
    """
    organ = find_organ(selected) if isinstance(selected, str) else None
    if organ is None:
        raise LabelNameError(
            path,
            f"selected_label_name: {str(selected)[:80]!r} is none of the structures that are "
            f"annotated here: {', '.join(ORGAN_NAMES)}; select one of these for the scribbles",
        )
    names = _names(path, label_info)
    found = read_segmentation(path, within=grid)
    if len(found.layers) > 1:
        raise LabelNameError(path, "segments overlap; the scribbles' map is merged into one layer")
    placement = find_placement(found.grid, grid, path, start=found.start)
    merged = put(found.layers[0], placement, grid)
    to_organ = np.zeros(256, dtype=np.uint8)
    values = {int(value) for value in np.flatnonzero(np.bincount(merged.ravel("K"))) if value}
    if unnamed := sorted(values - set(names)):
        raise LabelValueError(path, f"values {unnamed[:5]} have no name in label_info")
    for value in values:
        known = find_organ(names[value])
        to_organ[value] = 0 if known is None else known.id
    label = to_organ[merged]
    marks = {name: value for value, name in names.items() if name in (FOREGROUND, BACKGROUND)}
    inside, outside = (
        np.argwhere(merged == marks[name]) if name in marks else np.zeros((0, 3), dtype=np.intp)
        for name in (FOREGROUND, BACKGROUND)
    )
    under = np.concatenate([inside, outside])
    if len(under):
        _fill_under(label, under, organ.id, given)
    return Scribbles(organ, label, inside, outside)


def _fill_under(label: Label, under: npt.NDArray[np.intp], organ: int, given: Label | None) -> None:
    """Give voxels under scribbles an organ, in place."""
    low, high = under.min(axis=0), under.max(axis=0) + 1
    box = tuple(slice(max(0, int(a) - 2), int(b) + 2) for a, b in zip(low, high, strict=True))
    part = label[box]
    hidden = np.zeros(part.shape, dtype=bool)
    at = tuple((under - [s.start for s in box]).T)
    hidden[at] = True
    if hidden.all():
        near = np.zeros(part.shape, dtype=np.uint8)
    else:
        nearest = ndimage.distance_transform_edt(
            hidden, return_distances=False, return_indices=True
        )
        near = part[tuple(nearest)]
    before = np.zeros_like(part) if given is None else given[box]
    filled = np.where(near == organ, np.uint8(organ), before)
    filled = np.where((filled == organ) & (near != organ), near, filled)
    part[hidden] = filled[hidden]


def _names(path: Path, label_info: object) -> dict[int, str]:
    """Return names by value."""
    entries = label_info if isinstance(label_info, list) else []
    names: dict[int, str] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        value = entry.get("id") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not isinstance(value, int) or not 0 < value < 256:
            raise LabelNameError(
                path, "label_info: a list of {name, id} with ids 1 to 255 is needed"
            )
        if value in names:
            raise LabelNameError(path, f"label_info: id {value} is given twice")
        names[value] = name
    if not names:
        raise LabelNameError(
            path, "label_info: a list of {name, id} is needed, as 3D Slicer sends it"
        )
    return names
