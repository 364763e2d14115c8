"""What the tests of labels share: a CT's grid, label maps on it, files as clients write them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import numpy.typing as npt

from atlas8k.core.grid import Grid
from atlas8k.labels.public import PublicLabel

Labels = npt.NDArray[np.uint8]

SHAPE = (7, 6, 5)
GRID = Grid(SHAPE, np.array([[-2.0, 0, 0, 10], [0, -1.5, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]]))
TURNS = list(product(permutations(range(3)), product((1, -1), repeat=3)))
"""The 48 ways to store one volume: order of the axes, direction of each."""


def oblique() -> Grid:
    """A grid tilted by 10 degrees about x and then 5 about z."""
    a, b = np.deg2rad([10, 5])
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = GRID.affine.copy()
    affine[:3, :3] = tilt @ turn @ affine[:3, :3]
    return Grid(SHAPE, affine)


def label(*values: int) -> Labels:
    """Six voxels of each value, one slab a value; 0 leaves its slab empty."""
    array = np.zeros(SHAPE, dtype=np.uint8)
    for x, value in enumerate(values):
        array[x, 1:4, 2:4] = value
    return array


def turned(
    array: npt.NDArray[Any], grid: Grid, axes: Sequence[int], signs: Sequence[int]
) -> tuple[npt.NDArray[Any], Grid]:
    """The same voxels, stored along other axes."""
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[old, new] = sign
        if sign < 0:
            matrix[old, 3] = grid.shape[old] - 1
    out = array.transpose(tuple(axes))[tuple(slice(None, None, sign) for sign in signs)]
    n = out.shape
    return np.ascontiguousarray(out), Grid((n[0], n[1], n[2]), grid.affine @ matrix)


def save_nifti(path: Path, array: npt.NDArray[Any], grid: Grid = GRID) -> Path:
    """Written by nibabel alone, not by the code under test."""
    nib.save(nib.Nifti1Image(array, grid.affine), path)
    return path


def save_nrrd(
    path: Path,
    layers: Sequence[npt.NDArray[Any]],
    segments: Sequence[tuple[str, int, int]] | None = None,
    grid: Grid = GRID,
    **header: Any,
) -> Path:
    """A NRRD as 3D Slicer writes it: LPS, layers along the first axis if there are several.

    Parameters
    ----------
    segments
        Name, value and layer of each; ``None`` for a plain label map.
    header
        Fields to add or replace.
    """
    lps = np.diag([-1.0, -1, 1, 1]) @ grid.affine
    directions: Any = lps[:3, :3].T
    kinds = ["domain"] * 3
    data: npt.NDArray[Any] = np.asarray(layers[0])
    if len(layers) > 1:
        data = np.stack(layers)
        directions = np.vstack([[np.nan] * 3, directions])
        kinds = ["list", *kinds]
    fields = {
        "space": "left-posterior-superior",
        "space directions": directions,
        "space origin": lps[:3, 3],
        "kinds": kinds,
        "encoding": "gzip",
    }
    if segments is not None:
        fields["Segmentation_MasterRepresentation"] = "Binary labelmap"
        for i, (name, value, layer) in enumerate(segments):
            fields[f"Segment{i}_Name"] = name
            fields[f"Segment{i}_LabelValue"] = str(value)
            fields[f"Segment{i}_Layer"] = str(layer)
    nrrd.write(str(path), data, {**fields, **header}, index_order="F")
    return path


def info(*names: str) -> list[dict[str, Any]]:
    """`label_info` as 3D Slicer sends it; ``idx`` is wrong, as after a skipped segment."""
    return [{"name": name, "idx": i + 3} for i, name in enumerate(names)]


def blocks(shape: tuple[int, int, int]) -> list[tuple[slice, slice, slice]]:
    """Some sub-blocks: corners, the middle, one slice."""
    x, y, z = shape
    return [
        (slice(0, x), slice(0, y), slice(0, z)),
        (slice(1, x), slice(0, y - 1), slice(1, z - 1)),
        (slice(0, x), slice(1, 4), slice(2, 3)),
        (slice(2, 4), slice(2, 4), slice(0, 4)),
    ]


def of_state(found: PublicLabel, state: str) -> list[str]:
    return [organ for organ, source in found.organs.items() if source.state == state]
