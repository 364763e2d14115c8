"""What a truth says: its voxels, and which organs it labels at all.

An organ that is not labeled is unknown, not absent: a prediction of it is neither right nor
spurious.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from atlas8k.evaluation.errors import EvaluationError
from atlas8k.evaluation.folders import read_case, read_map, read_masks
from atlas8k.grid import Volume
from atlas8k.labels.datasets import Dataset
from atlas8k.labels.public import check_values, interpret
from atlas8k.organs import ORGAN_NAMES


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
        Nothing says which these are: a map of our organ ids, taken to label all nine.
    """

    volume: Volume
    labeled: frozenset[str]
    presumed: bool = False


def read_truth(
    path: Path,
    organs: Collection[str] | None = None,
    dataset: Dataset | None = None,
    stated: str | None = None,
) -> Truth:
    """Read a truth at a path of :func:`atlas8k.evaluation.folders.find_labels`.

    Parameters
    ----------
    organs
        Those it labels; ``None``: all nine, or those of the dataset. An organ without a
        file, of masks an organ, is not labeled in any case.
    dataset
        Whose values a map has; ``None``: our organ ids.
    stated
        How the axes of files run that do not say it, such as ``RAS``.

    Raises
    ------
    EvaluationError, VolumeError
        A file cannot be read, or has values that are neither our organ ids nor the
        dataset's.
    """
    labeled = set(ORGAN_NAMES)
    if path.is_dir():
        volume, without = read_masks(path, stated)
        labeled -= {*without}
    elif dataset is not None:
        raw = read_map(path, stated)
        check_values(raw, dataset)
        label = interpret(raw.array, raw.grid, dataset)
        volume = Volume(label.array, raw.grid, path)
        labeled = {organ for organ, one in label.organs.items() if one.source == "public"}
    else:
        volume = read_case(path, stated)
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
