"""Read a public dataset's label file as organ ids on the CT's own grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import EmptyVolumeError, GridMismatchError, LabelValueError
from atlas8k.core.findings import Finding
from atlas8k.core.grid import Grid, Volume
from atlas8k.core.grid_alignment import TOLERANCE_VOXELS, find_placement, on_extent, put
from atlas8k.core.organ_states import OrganSource
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, find_organ
from atlas8k.core.volume import NIFTI_SUFFIXES, read_ct, read_grid, read_label
from atlas8k.core.voxels import counts, renamed
from atlas8k.labels.checks import check_label
from atlas8k.labels.datasets import KIDNEYS, UNKNOWN, Dataset
from atlas8k.labels.kidneys import (
    LEFT,
    RIGHT,
    Midline,
    find_midline,
    split_kidneys,
)
from atlas8k.labels.plausibility import find_missing

UNKNOWN_TAG = "public-unknown"
"""Tag of the mask of voxels that a public label leaves open: 1 where they could be any
organ (FLARE's tumours), which neither an organ's voxels nor its background may be learned
from. Volumes without such voxels have none."""


@dataclass(frozen=True, eq=False)
class PublicLabel:
    """A public label of one CT, in organ ids on its grid.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids, on the CT's grid.
    organs
        All nine: source ``public`` with state ``present`` or ``absent``; source ``pseudo``
        with state ``unknown`` where the file does not label them.
    unknown
        ``(X, Y, Z)`` bool, voxels that could be any organ; None where there are none.
    notes
        What was decided in reading it and somebody should look at.
    findings
        Anatomical rules it breaks.
    """

    array: npt.NDArray[np.uint8]
    grid: Grid
    organs: dict[str, OrganSource]
    unknown: npt.NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def read_public(
    path: Path,
    ct_path: Path,
    dataset: Dataset,
    *,
    tolerance: float = TOLERANCE_VOXELS,
    stated: str | None = None,
) -> PublicLabel:
    """Read a label file of a dataset, or a folder of one mask an organ, for a CT.

    Parameters
    ----------
    tolerance
        How far the dataset's headers may be off, voxels of the CT at a corner; the label is
        snapped to the CT, and a note says so.
    stated
        Direction of the axes of label files whose headers lack it: they must have the CT's
        extent, and are turned to its axes.

    Raises
    ------
    VolumeError
        Empty, unreadable, values that are not whole or that the dataset does not know, not
        on the CT's grid, or nothing in it that can be used; one sentence says which.
    """
    ct_grid = read_grid(ct_path)
    raw, unlabeled = (
        _read_masks(path, dataset, stated)
        if path.is_dir()
        else (read_label(path, stated=stated), ())
    )
    check_values(raw, dataset)
    grid = on_extent(raw.grid, ct_grid) if stated else raw.grid
    placement = find_placement(grid, ct_grid, path, tolerance=tolerance)
    placed = put(raw.array, placement, ct_grid)

    def midline(kidneys: npt.NDArray[np.bool_]) -> Midline | None:
        return find_midline(read_ct(ct_path).array, kidneys, ct_grid)

    label = interpret(placed, ct_grid, dataset, midline, unlabeled)
    if note := placement.note():
        label = replace(label, notes=(note, *label.notes))
    if not any(source.source == "public" for source in label.organs.values()):
        why = "; ".join(label.notes) or "it labels none of the nine organs"
        raise EmptyVolumeError(path, f"nothing in it can be used: {why}")
    return label


def check_values(raw: Volume, dataset: Dataset) -> None:
    """Check that the dataset knows every value of a file.

    Raises
    ------
    LabelValueError, EmptyVolumeError
        Unknown values, naming them; or none but 0.
    """
    where = raw.path or "label map"
    values = {int(v) for v in np.flatnonzero(counts(raw.array))} - {0}
    if not values:
        raise EmptyVolumeError(where, "every voxel is 0: nothing is labeled in it")
    strange = sorted(values - dataset.meanings.keys() - dataset.rest)
    if strange:
        named = ", ".join(map(str, strange[:8])) + (", …" if len(strange) > 8 else "")
        raise LabelValueError(
            where, f"value {named} is not in the map of {dataset.name}: another dataset or release?"
        )


def interpret(
    placed: npt.NDArray[np.uint8],
    grid: Grid,
    dataset: Dataset,
    midline: Callable[[npt.NDArray[np.bool_]], Midline | None] = lambda _: None,
    unlabeled: tuple[str, ...] = (),
) -> PublicLabel:
    """Turn a dataset's raw values into organs, each with its source and state.

    Parameters
    ----------
    placed
        ``(X, Y, Z)`` uint8, the dataset's values, on the CT's grid `grid`; values the
        dataset does not know count as background.
    midline
        Gives the midline for a mask of both kidneys; called where the dataset needs it.
    unlabeled
        Organs that this case has no file of: unknown, not absent.
    """
    array = renamed(placed, dataset.table(ORGAN_IDS))
    notes: tuple[str, ...] = ()
    doubtful: set[str] = {*unlabeled}
    if dataset.kidneys_together:
        kidneys = _mask(placed, dataset, KIDNEYS)
        split = split_kidneys(kidneys, grid, midline(kidneys) if kidneys.any() else None)
        for side, organ, state in (
            (LEFT, "kidney_left", split.left),
            (RIGHT, "kidney_right", split.right),
        ):
            np.copyto(array, ORGAN_IDS[organ], where=split.sides == side)
            if state == "unknown":
                doubtful.add(organ)
        notes = split.notes
    voxels = counts(array)
    organs = {}
    for organ in ORGAN_NAMES:
        has_voxels = bool(voxels[ORGAN_IDS[organ]])
        if organ not in dataset.organs or (
            not has_voxels and (dataset.per_case or organ in doubtful)
        ):
            organs[organ] = OrganSource("pseudo", "unknown", dataset.name)
        else:
            organs[organ] = OrganSource(
                "public", "present" if has_voxels else "absent", dataset.name
            )
    absent = [organ for organ, source in organs.items() if source.state == "absent"]
    for finding in find_missing(array, grid, absent):
        # Not labeled, whatever the dataset says: nobody lacks it.
        organs[finding.organ] = OrganSource("pseudo", "unknown", dataset.name)
        notes = (*notes, f"{finding.text}: unknown, not absent")
    unknown = _mask(placed, dataset, UNKNOWN)
    return PublicLabel(
        array,
        grid,
        organs,
        unknown if unknown.any() else None,
        notes,
        tuple(check_label(array, grid)),
    )


def _mask(placed: npt.NDArray[np.uint8], dataset: Dataset, meaning: str) -> npt.NDArray[np.bool_]:
    return renamed(placed, dataset.table({meaning: 1})).view(np.bool_)


def _read_masks(
    folder: Path, dataset: Dataset, stated: str | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """Read one mask an organ as one map in the dataset's values, and name organs without one.

    Masks of other structures are passed over. Where masks overlap, the later id has the
    voxel.
    """
    values: dict[str, int] = {}
    for raw, meaning in dataset.meanings.items():
        values.setdefault(meaning, raw)
    files = {
        organ.name: path
        for path in sorted(folder.iterdir())
        if path.name.endswith(NIFTI_SUFFIXES)
        and (organ := find_organ(path.name.partition(".nii")[0]))
        and organ.name in values
    }
    if not files:
        raise EmptyVolumeError(folder, f"holds no mask of an organ that {dataset.name} labels")
    masks = {
        o: read_label(files[o], stated=stated)
        for o in sorted(files, key=lambda name: ORGAN_IDS[name])
    }
    grid = next(iter(masks.values())).grid
    whole = np.zeros(grid.shape, np.uint8)
    for name, mask in masks.items():
        if not grid.same_as(mask.grid):
            raise GridMismatchError(files[name], "lies on another grid than the case's others")
        whole[mask.array > 0] = values[name]
    return Volume(whole, grid, folder), tuple(o for o in dataset.organs if o not in files)
