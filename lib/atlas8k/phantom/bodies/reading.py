"""Bodies from a folder of TotalSegmentator maps, either one map a subject or a file a structure.

::

    FOLDER/structures.csv                             value,structure
    FOLDER/<subject>_structures.nii.gz                one map

    FOLDER/<subject>/segmentations/<structure>.nii.gz  as the dataset is published
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.errors import VolumeError
from atlas8k.phantom.bodies.outline import add_discs, depths, hull_distance
from atlas8k.phantom.bodies.tissues import N_TISSUES, ORGAN_OF, Tissue, tissue_of
from atlas8k.volume import Volume, read_grid, read_label, resample

Array = npt.NDArray[Any]

SPACING_MM = 2.0
"""Bodies are held at this; an abdomen is 15 MB then."""
SIDE_MM = 64.0
"""Room for fat, skin and air beside what the map shows."""
CUT_VOXELS = 20
"""So many voxels of organs at a side of a map say that it cuts the body."""
TABLE = "structures.csv"
SUFFIX = "_structures.nii.gz"


@dataclass(frozen=True, eq=False)
class Body:
    """A person as a map of tissues, ready for painting; axes nearest RAS, :data:`SPACING_MM`.

    Attributes
    ----------
    name
        The subject.
    tissue
        ``(X, Y, Z)`` uint8, :class:`~atlas8k.phantom.bodies.tissues.Tissue`.
    depth
        ``(X, Y, Z)`` uint8, half millimetres: :func:`~atlas8k.phantom.bodies.outline.depths`.
    hull
        ``(X, Y, Z)`` int8, mm: :func:`~atlas8k.phantom.bodies.outline.hull_distance`.
    holds
        Ids of the organs that are in it.
    seen
        ``(2, 2)`` mm: left and right, back and front end of what is known of the body. A map
        whose side cuts through an organ says nothing of what is beyond; else infinite.
    """

    name: str
    tissue: Array
    depth: Array
    hull: Array
    holds: frozenset[int]
    seen: Array


def subjects(folder: Path) -> dict[str, Path]:
    """Return what a folder of either layout holds: subject to its map or its folder.

    Raises
    ------
    VolumeError
        No such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise VolumeError(folder, "no such folder of bodies")
    found = {path.name[: -len(SUFFIX)]: path for path in folder.glob(f"*{SUFFIX}")}
    for path in folder.glob("*/segmentations"):
        found.setdefault(path.parent.name, path)
    if not found:
        raise VolumeError(
            folder, f"no <subject>{SUFFIX} and no <subject>/segmentations in it; name the folder"
        )
    return dict(sorted(found.items()))


def read_bodies(folder: Path, names: Sequence[str] = ()) -> list[Body]:
    """Read subjects of a folder; all where none is named.

    Raises
    ------
    VolumeError
        A named subject is not there, or a map cannot be used.
    """
    found = subjects(folder)
    missing = [name for name in names if name not in found]
    if missing:
        raise VolumeError(
            folder, f"no subject {', '.join(missing)}; there are {', '.join(list(found)[:20])}"
        )
    return [read_body(found[name], name) for name in names or found]


def read_body(path: Path, name: str) -> Body:
    """Read one subject: its map, or its folder of structures.

    Raises
    ------
    VolumeError
        A file cannot be read, a structure is unknown, or grids differ.
    """
    volume = _tissues(path)
    # The body's own axes, nearest RAS: an oblique map is a body that lies askew.
    grid = volume.grid.working(SPACING_MM)
    tissue = resample(volume.array, volume.grid, grid, linear=False)
    side = round(SIDE_MM / SPACING_MM)
    seen = _seen(tissue) + SIDE_MM
    tissue = np.pad(tissue, ((side, side), (side, side), (0, 0)))
    add_discs(tissue, SPACING_MM)
    return Body(
        name,
        np.ascontiguousarray(tissue),
        depths(tissue, SPACING_MM),
        hull_distance(tissue, SPACING_MM),
        frozenset(np.unique(ORGAN_OF[np.unique(tissue)]).tolist()) - {0},
        seen,
    )


def _seen(tissue: Array) -> Array:
    """Ends of the map along its first two axes, mm, infinite where no organ meets them."""
    out = np.array([[-np.inf, np.inf]] * 2)
    for axis in range(2):
        last = tissue.shape[axis] - 1
        for end, index in enumerate((0, last)):
            if (ORGAN_OF[np.take(tissue, index, axis)] != 0).sum() >= CUT_VOXELS:
                out[axis, end] = index * SPACING_MM
    return out


def read_organs(path: Path) -> Volume:
    """Read the nine organs of a subject on the map's own grid: ``(X, Y, Z)`` uint8 organ ids.

    Raises
    ------
    VolumeError
        As :func:`read_body`.
    """
    volume = _tissues(path)
    return Volume(ORGAN_OF[volume.array], volume.grid)


def _tissues(path: Path) -> Volume:
    """Tissues on the grid of the map, or of the folder's files."""
    return _from_folder(path) if path.is_dir() else _from_map(path)


def _from_map(path: Path) -> Volume:
    """One map with values of ``structures.csv`` beside it, as tissues."""
    table = path.parent / TABLE
    try:
        with open(table, encoding="utf-8", newline="") as stream:
            rows = [(int(row["value"]), row["structure"]) for row in csv.DictReader(stream)]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise VolumeError(table, f"no table `value,structure` of the maps ({err})") from err
    to_tissue = np.full(256, 255, np.uint8)
    to_tissue[0] = Tissue.NONE
    for value, structure in rows:
        to_tissue[value] = _known(structure, table)
    label = read_label(path)
    found = to_tissue[label.array]
    if found.max() >= N_TISSUES:
        value = int(label.array[found >= N_TISSUES].min())
        raise VolumeError(path, f"value {value} is not in {table.name}")
    return Volume(found, label.grid)


def _from_folder(folder: Path) -> Volume:
    """A file a structure; where two overlap the alphabetically later one stands."""
    files = sorted(folder.glob("*.nii.gz"))
    if not files:
        raise VolumeError(folder, "no structures (*.nii.gz) in it")
    grid = read_grid(files[0])
    tissue = np.zeros(grid.shape, np.uint8)
    for file in files:
        kind = _known(file.name[: -len(".nii.gz")], file)
        mask = read_label(file)
        if not mask.grid.same_as(grid):
            raise VolumeError(file, f"not on the grid of {files[0].name}; export it again")
        tissue[mask.array != 0] = kind
    return Volume(tissue, grid)


def _known(structure: str, path: Path) -> Tissue:
    tissue = tissue_of(structure)
    if tissue is None:
        raise VolumeError(
            path, f"structure {structure!r} is none of TotalSegmentator's; remove or rename it"
        )
    return tissue
