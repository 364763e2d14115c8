"""The folds of an nnU-Net v2 results folder: which there are, and which make one network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from atlas8k.errors import CheckpointError
from atlas8k.models.importing.source import Source

PLANS, DATASET = "plans.json", "dataset.json"
FILES = ("checkpoint_final.pth", "checkpoint_best.pth")


def is_results(path: Path) -> bool:
    """Whether a path can be a results folder, or a file in one."""
    if path.is_dir():
        return (path / PLANS).is_file() or any(path.glob(f"*/{PLANS}"))
    return (path.parent.parent / PLANS).is_file()


def find(path: Path, folds: Sequence[str] | None) -> tuple[Path, list[Path]]:
    """The results folder, and the checkpoints of its folds that are meant.

    Parameters
    ----------
    path
        The folder, the data set's folder where it holds one such, or a checkpoint in it.
    folds
        Their names; else ``all`` where there is one, else every one.

    Raises
    ------
    CheckpointError
        It is no such folder, or lacks a fold.
    """
    if path.is_file():
        if not (path.parent.parent / PLANS).is_file():
            raise CheckpointError(
                path, f"lies in no results folder: there is no {path.parent.parent / PLANS}"
            )
        return path.parent.parent, [path]
    folder = path
    if not (path / PLANS).is_file():
        inner = sorted(p.parent for p in path.glob(f"*/{PLANS}"))
        if len(inner) != 1:
            listing = ", ".join(p.name for p in inner) or "none"
            raise CheckpointError(
                path, f"is no nnU-Net results folder with {PLANS}; such folders in it: {listing}"
            )
        folder = inner[0]
    files = {
        p.name.removeprefix("fold_"): next(p / name for name in FILES if (p / name).is_file())
        for p in sorted(folder.glob("fold_*"))
        if any((p / name).is_file() for name in FILES)
    }
    wanted = list(dict.fromkeys(folds)) if folds else ["all"] if "all" in files else list(files)
    lacking = [fold for fold in wanted if fold not in files]
    if not files or lacking:
        raise CheckpointError(
            folder,
            f"has no {' or '.join(FILES)} in fold_{', fold_'.join(lacking) or '*'}; "
            f"folds with one: {', '.join(files) or 'none'}",
        )
    return folder, [files[fold] for fold in wanted]


def same_training(first: Source, other: Source) -> None:
    """See that two folds are of one training.

    Raises
    ------
    CheckpointError
        What they say of it differs.
    """
    for key in ("trainer_name", "inference_allowed_mirroring_axes"):
        a, b = (
            tuple(v) if isinstance(v, list | tuple) else v
            for v in (first.content.get(key), other.content.get(key))
        )
        if a != b:
            raise CheckpointError(
                other.path, f"has {key} {b!r}, {first.path.parent.name} has {a!r}; bring one fold"
            )


def together(sources: Sequence[Source]) -> str:
    """sha256 of several files: of their own, one a line."""
    lines = "".join(f"{one.sha256}\n" for one in sources)
    return hashlib.sha256(lines.encode()).hexdigest()
