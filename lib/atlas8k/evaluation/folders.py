"""Label maps in folders: one file a case, a folder a case, or a file an organ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.sheets import case_name
from atlas8k.organs import find_organ
from atlas8k.volume import NIFTI_SUFFIXES, Volume, read_label, resample, to_canonical

MAP_NAMES = ("combined_labels", "label", "labels", "segmentation", "prediction")
"""Names of the one label map in a case's folder; AbdomenAtlas's first."""

ORGAN_FOLDERS = ("segmentations", "predictions")
"""Folders in a case's folder with one mask an organ."""


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.endswith(NIFTI_SUFFIXES)
                  and not p.name.startswith("."))  # fmt: skip


def find_labels(root: str | Path) -> dict[str, Path]:
    """Case name to its label map, or to its folder of organ masks.

    Taken are ``root/<case>.nii.gz``, ``root/<case>/<one of MAP_NAMES>.nii.gz`` and
    ``root/<case>/segmentations/<organ>.nii.gz``.

    Raises
    ------
    EvaluationError
        Where ``root`` is no folder, holds no case, or one case twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise EvaluationError(root, "no such folder")
    found: dict[str, Path] = {}
    for item in sorted(root.iterdir()):
        where: Path | None = None
        if item.is_dir():
            maps = [p for p in _images(item) if case_name(p.name) in MAP_NAMES]
            organs = [item / name for name in ORGAN_FOLDERS if (item / name).is_dir()]
            where = next(iter(maps or organs), None)
            name = item.name
        elif item.name.endswith(NIFTI_SUFFIXES) and not item.name.startswith("."):
            where, name = item, case_name(item.name)
        if where is None:
            continue
        if name in found:
            raise EvaluationError(root, f"case {name} is there twice: {found[name]} and {where}")
        found[name] = where
    if not found:
        raise EvaluationError(
            root, "holds no label map: <case>.nii.gz, <case>/combined_labels.nii.gz or "
            "<case>/segmentations/<organ>.nii.gz is looked for",
        )  # fmt: skip
    return found


def read_case(path: Path) -> Volume:
    """The label map at a path of :func:`find_labels`, ``(X, Y, Z)`` uint8.

    Masks an organ are put into one map in organ id order: where they overlap the later
    organ has the voxel.

    Raises
    ------
    EvaluationError
        Where a folder has no mask of an organ of ours, or masks lie on different grids.
    VolumeError
        Where a file cannot be read.
    """
    if not path.is_dir():
        return read_label(path)
    masks = {organ: p for p in _images(path) if (organ := find_organ(case_name(p.name)))}
    if not masks:
        raise EvaluationError(path, "holds no mask named after one of the nine organs")
    parts = [(organ, read_label(masks[organ])) for organ in sorted(masks, key=lambda o: o.id)]
    grid = parts[0][1].grid
    whole = np.zeros(grid.shape, np.uint8)
    for organ, mask in parts:
        if not grid.same_as(mask.grid):
            raise EvaluationError(
                mask.path or path, "lies on another grid than the case's other masks"
            )
        whole[mask.array > 0] = organ.id
    return Volume(whole, grid, path)


def onto_truth(pred: Volume, truth: Volume, *, resampled: bool = False) -> tuple[Volume, Volume]:
    """Both maps on one grid.

    Maps that differ in the order or direction of their axes only are turned; on other
    grids the prediction is resampled (nearest neighbour) if allowed.

    Raises
    ------
    EvaluationError
        Where the grids differ and resampling is not allowed.
    """
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
