"""Read bodies from TotalSegmentator maps, either one map a subject or a file a structure.

::

    FOLDER/structures.csv                             value,structure
    FOLDER/<subject>_structures.nii.gz                one map

    FOLDER/<subject>/segmentations/<structure>.nii.gz  as the dataset is published

A map names organs, bones and some muscles; fat, the abdominal wall and the skin are what is
between and around them. They are painted by two distances: to the hull of the structures,
slice by slice, and, within a structure, to its surface.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import convex_hull_image

from abdomen_phantom.bodies.tissues import ORGAN_OF, Tissue, tissue_of
from atlas8k.core.errors import VolumeError
from atlas8k.core.structure_sets import NINE, StructureSet, normalise
from atlas8k.core.volume import Volume, read_grid, read_label, resample

Array = npt.NDArray[Any]

SPACING_MM = 2.0
"""Bodies are held at this; an abdomen is 15 MB then."""
SIDE_MM = 64.0
"""Room for fat, skin and air beside what the map shows."""
CUT_VOXELS = 20
"""So many voxels of organs at a side of a map say that it cuts the body."""
TABLE = "structures.csv"
SUFFIX = "_structures.nii.gz"

HULL_STEP = 2
"""The hull is looked for on every n-th voxel; it is smooth."""
HULL_SMOOTH_MM = 8.0
DISC_MM = 9.0
"""Half of the largest gap between two vertebrae that is a disc."""
DEPTHS_PER_MM = 2.0

_PARTS = (
    (r"^lung_(upper|middle|lower)_lobe_", "lung_"),
    (r"^kidney_cyst_", "kidney_"),
)
"""Parts of an organ in TotalSegmentator's map, and how the organ is named."""

_SOLID = (
    Tissue.AORTA,
    Tissue.GALL_BLADDER,
    Tissue.KIDNEY_LEFT,
    Tissue.KIDNEY_RIGHT,
    Tissue.STOMACH,
    Tissue.HEART,
    Tissue.BONE,
    Tissue.SPINE,
    Tissue.SMALL_BOWEL,
    Tissue.COLON,
    Tissue.DUODENUM,
    Tissue.ESOPHAGUS,
    Tissue.BLADDER,
)
"""Tissues whose surface is painted unlike their inside."""


@dataclass(frozen=True, eq=False)
class Body:
    """A person as a map of tissues, ready for painting; axes nearest RAS, :data:`SPACING_MM`.

    Attributes
    ----------
    name
        The subject.
    tissue
        ``(X, Y, Z)`` uint8, :class:`~abdomen_phantom.bodies.tissues.Tissue`.
    depth
        ``(X, Y, Z)`` uint8, half millimetres: :func:`depths`.
    hull
        ``(X, Y, Z)`` int8, mm: :func:`hull_distance`.
    holds
        Ids of the organs that are in it.
    structure
        ``(X, Y, Z)`` uint8, the map's own values: one more of each named structure.
    names
        TotalSegmentator's name by value, ``""`` where a value has none.
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
    structure: Array
    names: tuple[str, ...]

    def labels(self, structures: StructureSet) -> Array:
        """Return the values of a set of structures: ``(X, Y, Z)`` uint8, 0 where none of them is.

        An organ that was put in from another body or taken out is where :attr:`tissue` has it;
        other structures are where the map has them and nothing was put over them.
        """
        organs = np.array([structures.ids.get(name, 0) for name in ("", *NINE)], np.uint8)
        labels = organs[ORGAN_OF][self.tissue]
        if structures.names == NINE:
            return labels
        table = np.zeros(256, np.uint8)
        kinds = np.zeros(256, np.uint8)
        for value, name in enumerate(self.names):
            found = find_structure(name, structures) if name else None
            if found is not None and ORGAN_OF[tissue_of(name) or 0] == 0:
                table[value], kinds[value] = found, tissue_of(name) or 0
        values = table[self.structure]
        free = (values != 0) & (kinds[self.structure] == self.tissue)
        np.copyto(labels, values, where=free)
        return labels

    def known(self, structures: StructureSet) -> tuple[str, ...]:
        """Return the structures of a set that the map's table has a name for.

        One without a voxel is not there; what the table has no name for is unknown, and in the
        label it is as if it were not there.
        """
        found = {find_structure(name, structures) for name in self.names if name}
        organs = {structures.ids.get(name) for name in NINE}
        return tuple(o.name for o in structures.organs if o.id in found | organs)

    @cached_property
    def middles(self) -> dict[Tissue, tuple[Array, float]]:
        """Centre, mm, of each organ present, and radius, mm, of the sphere of its volume."""
        spheres = {}
        for kind, box in enumerate(ndimage.find_objects(self.tissue, int(Tissue.STOMACH)), start=1):
            if box is not None:
                voxels = np.argwhere(self.tissue[box] == kind) + [s.start for s in box]
                radius = (len(voxels) * SPACING_MM**3 * 3 / (4 * np.pi)) ** (1 / 3)
                spheres[Tissue(kind)] = voxels.mean(axis=0) * SPACING_MM, float(radius)
        return spheres


def subjects(folder: Path) -> dict[str, Path]:
    """Return what a folder of either layout holds: subject to its map or its folder.

    Raises
    ------
    VolumeError
        Where the folder is missing or empty.
    """
    if not folder.is_dir():
        raise VolumeError(folder, "no such folder of bodies")
    maps = {path.name[: -len(SUFFIX)]: path for path in folder.glob(f"*{SUFFIX}")}
    for path in folder.glob("*/segmentations"):
        maps.setdefault(path.parent.name, path)
    if not maps:
        raise VolumeError(
            folder, f"no <subject>{SUFFIX} and no <subject>/segmentations in it; name the folder"
        )
    return dict(sorted(maps.items()))


def read_bodies(folder: Path, names: Sequence[str] = ()) -> list[Body]:
    """Read subjects of a folder; all where none is named.

    Raises
    ------
    VolumeError
        Where a named subject is missing, or a map cannot be used.
    """
    maps = subjects(folder)
    missing = [name for name in names if name not in maps]
    if missing:
        raise VolumeError(
            folder, f"no subject {', '.join(missing)}; there are {', '.join(list(maps)[:20])}"
        )
    return [read_body(maps[name], name) for name in names or maps]


def read_body(path: Path, name: str) -> Body:
    """Read one subject: its map, or its folder of structures.

    Raises
    ------
    VolumeError
        A file cannot be read, a structure is unknown, or grids differ.
    """
    volume, names = _structures(path)
    # The body's own axes, nearest RAS: an oblique map is a body that lies askew.
    grid = volume.grid.working(SPACING_MM)
    side = round(SIDE_MM / SPACING_MM)
    structure = resample(volume.array, volume.grid, grid, linear=False)
    seen = _seen(_kinds(names)[structure]) + SIDE_MM
    structure = np.pad(structure, ((side, side), (side, side), (0, 0)))
    tissue = _kinds(names)[structure]
    add_discs(tissue, SPACING_MM)
    return Body(
        name,
        np.ascontiguousarray(tissue),
        depths(tissue, SPACING_MM),
        hull_distance(tissue, SPACING_MM),
        frozenset(np.unique(ORGAN_OF[np.unique(tissue)]).tolist()) - {0},
        seen,
        structure,
        names,
    )


def find_structure(name: str, structures: StructureSet) -> int | None:
    """Return the value in a set of one of TotalSegmentator's structures; ``None`` without one.

    A part is its organ where the set has no part of that name: a lobe the lung, a cyst the kidney.
    """
    for word in (name, *(re.sub(pattern, whole, name) for pattern, whole in _PARTS)):
        organ = structures.by_word.get(normalise(word))
        if organ is not None:
            return organ.id
    return None


def add_discs(tissue: Array, spacing: float) -> None:
    """Fill the gaps between vertebrae with discs, in place; ``(X, Y, Z)`` tissue ids."""
    spine = tissue == Tissue.SPINE
    box = _box(spine)
    if box is None:
        return
    part = spine[box]
    line = np.ones((1, 1, 2 * round(DISC_MM / spacing) + 1), bool)
    padded = np.pad(part, ((0, 0), (0, 0), (line.shape[2],) * 2))
    closed = ndimage.binary_closing(padded, line)[:, :, line.shape[2] : -line.shape[2]]
    tissue[box][closed & (tissue[box] == Tissue.NONE)] = Tissue.DISC


def hull_distance(tissue: Array, spacing: float) -> Array:
    """Return the distance to the hull of the structures, slice by slice.

    Parameters
    ----------
    tissue
        ``(X, Y, Z)`` tissue ids, RAS.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` int8, mm, negative within the hull, cut at -127 and 127.
    """
    step = HULL_STEP
    mask = tissue[::step, ::step, ::step] != Tissue.NONE
    hull = np.zeros(mask.shape, bool)
    for k in range(mask.shape[2]):
        if mask[:, :, k].sum() > 8:
            hull[:, :, k] = convex_hull_image(mask[:, :, k], offset_coordinates=False)
    sigma = HULL_SMOOTH_MM / (spacing * step)
    smooth = ndimage.gaussian_filter(hull.astype(np.float32), (sigma / 3, sigma / 3, sigma))
    inside = smooth > 0.5
    size = spacing * step
    distance = np.full(mask.shape, 127.0, np.float32)
    if inside.any():
        distance = ndimage.distance_transform_edt(~inside, sampling=size).astype(np.float32)
        distance -= ndimage.distance_transform_edt(inside, sampling=size).astype(np.float32)
    distance = _refined(distance, step, tissue.shape)
    return np.clip(np.rint(distance), -127, 127).astype(np.int8)


def depths(tissue: Array, spacing: float) -> Array:
    """Return how deep a voxel lies in its structure, and how far unlabeled ones are from bone.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` uint8, half millimetres, cut at 255. 0 in tissues that are alike
        throughout.
    """
    out = np.zeros(tissue.shape, np.uint8)
    for kind in _SOLID:
        mask = tissue == kind
        box = _box(mask)
        if box is None:
            continue
        depth = ndimage.distance_transform_edt(np.pad(mask[box], 1), sampling=spacing)
        depth = depth[1:-1, 1:-1, 1:-1]
        steps = np.clip(np.rint(depth * DEPTHS_PER_MM), 0, 255).astype(np.uint8)
        np.copyto(out[box], steps, where=mask[box])
    bone = np.isin(tissue, (Tissue.SPINE, Tissue.BONE, Tissue.CARTILAGE, Tissue.DISC))
    coarse = bone[::2, ::2, ::2]
    if coarse.any():
        far = ndimage.distance_transform_edt(~coarse, sampling=2 * spacing).astype(np.float32)
    else:
        far = np.full(coarse.shape, 127.0, np.float32)
    far = _refined(far, 2, tissue.shape) * DEPTHS_PER_MM
    far = np.clip(np.rint(far), 0, 255).astype(np.uint8)
    np.copyto(out, far, where=tissue == Tissue.NONE)
    return out


def _refined(array: Array, step: int, shape: tuple[int, ...]) -> Array:
    """Interpolate what was computed on every ``step``-th voxel linearly, axis by axis."""
    for axis, n in enumerate(shape):
        where = np.minimum(np.arange(n) / step, array.shape[axis] - 1)
        low = np.floor(where).astype(int)
        high = np.minimum(low + 1, array.shape[axis] - 1)
        part = (where - low).astype(np.float32)
        part = part.reshape([-1 if a == axis else 1 for a in range(3)])
        lower = np.take(array, low, axis)
        array = lower + (np.take(array, high, axis) - lower) * part
    return array


def _box(mask: Array) -> tuple[slice, ...] | None:
    """Return the bounds of a mask; ``None`` where it is empty."""
    return next(iter(ndimage.find_objects(mask.view(np.uint8))), None)


def _seen(tissue: Array) -> Array:
    """Return the ends of the map's first two axes, mm; infinite where no organ meets them."""
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
    volume, names = _structures(path)
    return Volume(ORGAN_OF[_kinds(names)[volume.array]], volume.grid)


def _structures(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Read values on the grid of the map, or of the folder's files, and what they are named."""
    return _from_folder(path) if path.is_dir() else _from_map(path)


def _kinds(names: Sequence[str]) -> Array:
    """Return the tissue of each value, ``(len(names),)`` uint8."""
    return np.array([(tissue_of(name) or 0) if name else 0 for name in names], np.uint8)


def _from_map(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Read one map with values of ``structures.csv`` beside it."""
    table = path.parent / TABLE
    try:
        with open(table, encoding="utf-8", newline="") as stream:
            rows = {int(row["value"]): row["structure"] for row in csv.DictReader(stream)}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise VolumeError(table, f"no table `value,structure` of the maps ({err})") from err
    names = [""] * 256
    for value, structure in rows.items():
        _check_known(structure, table)
        if not 1 <= value <= 255:
            raise VolumeError(table, f"{structure} has value {value}; 1 to 255 are expected")
        names[value] = structure
    label = read_label(path)
    values = np.unique(label.array)
    unnamed = [int(value) for value in values if value and not names[value]]
    if unnamed:
        raise VolumeError(path, f"value {unnamed[0]} is not in {table.name}")
    return label, tuple(names)


def _from_folder(folder: Path) -> tuple[Volume, tuple[str, ...]]:
    """Read a file a structure; where two overlap the alphabetically later one stands."""
    files = sorted(folder.glob("*.nii.gz"))
    if not files:
        raise VolumeError(folder, "no structures (*.nii.gz) in it")
    names = tuple(file.name[: -len(".nii.gz")] for file in files)
    grid = read_grid(files[0])
    values = np.zeros(grid.shape, np.uint8)
    for value, (file, name) in enumerate(zip(files, names, strict=True), start=1):
        _check_known(name, file)
        mask = read_label(file)
        if not mask.grid.same_as(grid):
            raise VolumeError(file, f"not on the grid of {files[0].name}; export it again")
        values[mask.array != 0] = value
    return Volume(values, grid), ("", *names)


def _check_known(structure: str, path: Path) -> None:
    if tissue_of(structure) is None:
        raise VolumeError(
            path, f"structure {structure!r} is none of TotalSegmentator's; remove or rename it"
        )
