"""Find and read CTs and label maps: a file a case, a folder a case, or a file an organ.

A truth states, beside its voxels, which organs it labels at all. An organ that is not labeled
is unknown, not absent: a prediction of it is neither right nor spurious.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from atlas8k.core.errors import EvaluationError, GeometryError
from atlas8k.core.grid_alignment import has_position, on_extent
from atlas8k.core.structure_sets import Organ
from atlas8k.core.structures import ORGAN_NAMES, find_organ
from atlas8k.core.volume import NIFTI_SUFFIXES, Volume, read_label, resample, to_canonical
from atlas8k.labels.datasets import Dataset
from atlas8k.labels.public import check_values, interpret
from atlas8k.reports.sheets import case_name

log = logging.getLogger(__name__)

MAP_NAMES = ("combined_labels", "label", "labels", "segmentation", "prediction")
"""Names of the one label map in a case's folder; AbdomenAtlas's first."""

ORGAN_FOLDERS = ("segmentations", "predictions")
"""Folders in a case's folder with one mask an organ."""

_CT_NAMES = ("{case}", "{case}_0000", "{case}/ct", "{case}/{case}", "{case}/image")


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.endswith(NIFTI_SUFFIXES)
                  and not p.name.startswith("."))  # fmt: skip


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def find_labels(root: str | Path) -> dict[str, Path]:
    """Find each case's label map, or its folder of organ masks.

    Read are ``root/<case>.nii.gz``, ``root/<case>/<one of MAP_NAMES>.nii.gz``,
    ``root/<case>/segmentations/<organ>.nii.gz`` and the latter two in one folder more
    (``root/<case>/<folder>/…``). Where all of it lies in one folder of ``root``, as in an
    unpacked archive, that folder is read.

    Raises
    ------
    EvaluationError
        Where ``root`` is no folder, holds no case, one case twice, or several folders of
        cases.
    """
    root = Path(root)
    if not root.is_dir():
        raise EvaluationError(root, "no such folder")
    labels = _cases_in(root)
    if not labels:
        below = {folder: cases for folder in _folders(root) if (cases := _cases_in(folder))}
        if len(below) > 1:
            raise EvaluationError(
                root, f"holds folders of label maps: {', '.join(p.name for p in below)}; name one"
            )
        for folder, cases in below.items():
            log.warning("%s holds no label map itself: reading those in %s", root, folder)
            labels = cases
    if not labels:
        raise EvaluationError(
            root, "holds no label map: <case>.nii.gz, <case>/combined_labels.nii.gz or "
            "<case>/segmentations/<organ>.nii.gz is looked for",
        )  # fmt: skip
    return labels


def find_ct(folder: Path, case: str) -> Path | None:
    """Return the CT of a case in a folder, flat or a folder a case; ``None`` without one."""
    for name in _CT_NAMES:
        for suffix in NIFTI_SUFFIXES:
            path = folder / (name.format(case=case) + suffix)
            if path.is_file():
                return path
    return None


def _cases_in(root: Path) -> dict[str, Path]:
    cases: dict[str, Path] = {}
    for item in sorted([*_images(root), *_folders(root)]):
        labels = _of_case(item) if item.is_dir() else item
        name = item.name if item.is_dir() else case_name(item.name)
        if labels is None:
            continue
        if name in cases:
            raise EvaluationError(root, f"case {name} has two: {cases[name]} and {labels}")
        cases[name] = labels
    if cases and all(find_organ(name) and not path.is_dir() for name, path in cases.items()):
        raise EvaluationError(
            root, "holds one file an organ, so that it is the folder of one case; give the "
            "folder above it",
        )  # fmt: skip
    return cases


def _of_case(folder: Path) -> Path | None:
    """Return the label map or the masks of a case, in its folder or in the only folder in it."""
    own = _label_in(folder)
    if own is not None:
        return own
    below = [label for each in _folders(folder) if (label := _label_in(each))]
    return below[0] if len(below) == 1 else None


def _label_in(folder: Path) -> Path | None:
    maps = [p for p in _images(folder) if case_name(p.name) in MAP_NAMES]
    masks = [folder / name for name in ORGAN_FOLDERS if (folder / name).is_dir()]
    return next(iter(maps or masks or ([folder] if _masks(folder) else [])), None)


def _masks(folder: Path) -> dict[Organ, Path]:
    return {organ: p for p in _images(folder) if (organ := find_organ(case_name(p.name)))}


def read_map(path: Path, orientation: str | None = None) -> Volume:
    """Read a label map; `orientation` is for one that does not state the direction of its axes."""
    return read_oriented(read_label, path, orientation)


def read_oriented(read: Callable[..., Volume], path: Path, orientation: str | None) -> Volume:
    """Read a file; `orientation` is for one that does not state the direction of its axes.

    Parameters
    ----------
    read
        :func:`~atlas8k.core.volume.read_ct` or :func:`~atlas8k.core.volume.read_label`.
    orientation
        Directions in which axes run, such as ``RAS``; ``None``: refuse such files.
    """
    try:
        return read(path)
    except GeometryError:
        if orientation is None:
            raise
    return read(path, stated=orientation)


def read_case(path: Path, orientation: str | None = None) -> Volume:
    """Read the label map at a path of :func:`find_labels`, ``(X, Y, Z)`` uint8.

    A map with values beyond our organ ids, as AbdomenAtlas 1.1's, is read by name from the
    masks in its case's folder, where there are some. `orientation`, such as ``RAS``, is for files
    that do not state the direction of their axes.

    Raises
    ------
    EvaluationError
        Where a folder has no mask of an organ of ours, or masks lie on different grids.
    VolumeError
        Where a file cannot be read.
    """
    if path.is_dir():
        return read_masks(path, orientation)[0]
    label = read_map(path, orientation)
    if label.array.max() > len(ORGAN_NAMES) and case_name(path.name) in MAP_NAMES:
        for name in ORGAN_FOLDERS:
            if (path.parent / name).is_dir() and _masks(path.parent / name):
                return read_masks(path.parent / name, orientation)[0]
    return label


def read_masks(folder: Path, orientation: str | None = None) -> tuple[Volume, tuple[str, ...]]:
    """Read masks an organ as one map ``(X, Y, Z)`` uint8; name the organs without a file.

    Where masks overlap the organ of the higher id has the voxel.

    Raises
    ------
    EvaluationError, VolumeError
        As :func:`read_case`.
    """
    masks = _masks(folder)
    if not masks:
        raise EvaluationError(folder, "holds no mask named after one of the nine organs")
    parts = [
        (organ, read_map(masks[organ], orientation)) for organ in sorted(masks, key=lambda o: o.id)
    ]
    grid = parts[0][1].grid
    whole = np.zeros(grid.shape, np.uint8)
    for organ, mask in parts:
        if not grid.same_as(mask.grid):
            raise EvaluationError(
                mask.path or folder, "lies on another grid than the case's other masks"
            )
        whole[mask.array > 0] = organ.id
    present = {organ.name for organ in masks}
    return Volume(whole, grid, folder), tuple(name for name in ORGAN_NAMES if name not in present)


def on_one_extent(first: Volume, second: Volume) -> tuple[Volume, Volume]:
    """Return two volumes; lay one without a position over the extent of the other."""
    if has_position(second.grid):
        return replace(first, grid=on_extent(first.grid, second.grid)), second
    if has_position(first.grid):
        return first, replace(second, grid=on_extent(second.grid, first.grid))
    return first, second


def onto_truth(pred: Volume, truth: Volume, *, resampled: bool = False) -> tuple[Volume, Volume]:
    """Return both maps on one grid.

    Maps that differ in the order or direction of their axes only are turned; on other
    grids the prediction is resampled (nearest neighbour) if allowed. A map without a
    position is laid over the extent of the other one.

    Raises
    ------
    EvaluationError
        Where the grids differ and resampling is not allowed.
    """
    pred, truth = on_one_extent(pred, truth)
    if pred.grid.same_as(truth.grid):
        return pred, truth
    turned, base = to_canonical(pred), to_canonical(truth)
    if turned.grid.same_as(base.grid):
        return turned, base
    if not resampled:
        raise EvaluationError(
            pred.path or "prediction",
            f"lies on another grid than its truth (shape {pred.grid.shape}, spacing "
            f"{tuple(round(s, 3) for s in pred.grid.spacing)} mm, truth {truth.grid.shape}, "
            f"{tuple(round(s, 3) for s in truth.grid.spacing)} mm); resample it, or allow it here",
        )
    array = resample(pred.array, pred.grid, truth.grid, linear=False)
    return Volume(array, truth.grid, pred.path), truth


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth of one case.

    Attributes
    ----------
    volume
        ``(X, Y, Z)`` uint8, organ ids.
    labeled
        Organs that it labels: those without a voxel are absent.
    presumed
        Whether that is assumed: a map of our organ ids with nothing to state which it labels.
    """

    volume: Volume
    labeled: frozenset[str]
    presumed: bool = False


def read_truth(
    path: Path,
    organs: Collection[str] | None = None,
    dataset: Dataset | None = None,
    orientation: str | None = None,
) -> Truth:
    """Read a truth at a path of :func:`find_labels`.

    Parameters
    ----------
    organs
        Those it labels; ``None``: all nine, or those of the dataset. An organ without a
        file, of masks an organ, is not labeled in any case.
    dataset
        Whose values a map has; ``None``: our organ ids.
    orientation
        Direction of the axes of files that do not state it, such as ``RAS``.

    Raises
    ------
    EvaluationError, VolumeError
        Where a file cannot be read, or has values that are neither our organ ids nor the
        dataset's.
    """
    labeled = set(ORGAN_NAMES)
    if path.is_dir():
        volume, without = read_masks(path, orientation)
        labeled -= {*without}
    elif dataset is not None:
        raw = read_map(path, orientation)
        check_values(raw, dataset)
        label = interpret(raw.array, raw.grid, dataset)
        volume = Volume(label.array, raw.grid, path)
        labeled = {organ for organ, entry in label.organs.items() if entry.source == "public"}
    else:
        volume = read_case(path, orientation)
        if (high := int(volume.array.max())) > len(ORGAN_NAMES):
            raise EvaluationError(
                path,
                f"values up to {high} go beyond organ ids 0 to {len(ORGAN_NAMES)}; say whose "
                "they are: --truth-dataset 'AbdomenAtlas 1.1', or another of "
                "`atlas8k labels datasets`",
            )
    if organs is not None:
        return Truth(volume, frozenset(labeled.intersection(organs)))
    return Truth(volume, frozenset(labeled), presumed=dataset is None and not path.is_dir())
