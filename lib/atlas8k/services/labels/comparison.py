"""Two labels of a CT side by side, organ by organ, for who decides between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.structures import ORGAN_NAMES, ORGANS
from atlas8k.core.volume import label_parts, read_grid
from atlas8k.services.errors import NotFoundError
from atlas8k.services.labels.drafts import PSEUDO, PUBLIC

if TYPE_CHECKING:
    from atlas8k.services.labels.service import LabelService
    from atlas8k.store import Review

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Label:
    """A label that can be looked at: ``key`` names it in an address, ``text`` says what it is.

    ``holder`` is the key of who submitted it, empty for nobody.
    """

    key: str
    text: str
    holder: str
    path: Path
    sha256: str
    is_current: bool = False


@dataclass(frozen=True)
class ComparedOrgan:
    """One organ in two labels.

    Attributes
    ----------
    first_ml, second_ml
        Its volume in each.
    differs_ml
        What one of them has and the other has not.
    planes
        By array axis the plane where it differs most; where it is the same, that with most of it.
    """

    organ: str
    first_ml: float
    second_ml: float
    differs_ml: float
    dsc: float
    planes: tuple[int, int, int]


KINDS = {
    "double_read": ", second reading",
    "gold": ", of a gold case",
    "restore": ", restored",
}


def labels(service: LabelService, volume: str) -> list[Label]:
    """Return the labels of a volume that a reviewer may compare, submissions first.

    Of each submission also the draft label it began from, where that is still known.

    Raises
    ------
    UnknownVolumeError
        There is no such volume.
    """
    versions, found = service.versions, []
    for one in service.reviews.history(volume):
        said = one.submission
        if one.file is not None:
            now = ", current" if one.is_current else ""
            kind = KINDS.get(said.purpose, "")
            text = f"submission {said.id}{kind}{now}"
            sha256 = said.sha256 or str(one.file.stat().st_mtime_ns)
            found.append(Label(str(said.id), text, said.holder, one.file, sha256, one.is_current))
    for one in service.reviews.history(volume):
        said = one.submission
        draft = versions.find(volume, said.start_sha256) if said.start_sha256 else None
        if draft is not None:
            text = f"draft label of submission {said.id}"
            found.append(Label(f"draft-{said.id}", text, "", draft.path, draft.sha256))
    for tag, text in ((PUBLIC, "public label"), (PSEUDO, "prediction of the networks")):
        if (version := versions.current(volume, tag)) is not None:
            found.append(Label(tag, text, "", version.path, version.sha256))
    return found


def named(found: Sequence[Label], key: str) -> Label:
    """Return the label of a key; :class:`NotFoundError` where there is none."""
    for one in found:
        if one.key == key:
            return one
    raise NotFoundError("label of this case", key)


def proposed(found: Sequence[Label], questions: Sequence[Review]) -> tuple[str, str]:
    """Return which two labels the oldest open question is about; the first two without one."""
    keys = [one.key for one in found]
    pairs: list[tuple[str, str]] = []
    for one in questions:
        if one.closed_at is not None or one.submission is None:
            continue
        own = str(one.submission)
        if one.kind == "dispute":
            pairs.append((PUBLIC, own))
        if one.other is not None and one.other != one.submission:
            pairs.append((str(one.other), own))
        pairs.append((f"draft-{own}", own))
    current = next((one.key for one in found if one.is_current), None)
    if current is not None:
        pairs += [(f"draft-{current}", current), (PSEUDO, current)]
    for pair in pairs:
        if all(key in keys for key in pair):
            return pair
    return (keys[0], keys[-1]) if keys else ("", "")


def compare(first: Path, second: Path) -> tuple[ComparedOrgan, ...]:
    """Compare two labels on one grid, a part at a time; organs that neither has are left out.

    Raises
    ------
    GridMismatchError
        They are on different grids.
    VolumeError
        One cannot be read.
    """
    grid = read_grid(first, block=True)
    if read_grid(second, block=True).shape != grid.shape:
        raise GridMismatchError(second, "the two labels are not of the same CT grid")
    joint = np.zeros((256, 256), np.int64)
    there = [np.zeros((len(ORGANS) + 1, n), np.int64) for n in grid.shape]
    differs = [np.zeros((len(ORGANS) + 1, n), np.int64) for n in grid.shape]
    for (start, one), (_, two) in zip(label_parts(first), label_parts(second), strict=True):
        for k in range(one.shape[2]):  # a plane at a time: places take many times a label's bytes
            rows, columns = np.nonzero(one[..., k] | two[..., k])
            a, b = one[rows, columns, k], two[rows, columns, k]
            joint += np.bincount(a.astype(np.int64) * 256 + b, minlength=1 << 16).reshape(256, 256)
            for organ in np.union1d(a, b):
                if 1 <= organ <= len(ORGANS):
                    _add(there, organ, (rows, columns), start + k, (a == organ) | (b == organ))
                    _add(differs, organ, (rows, columns), start + k, (a == organ) != (b == organ))
    found = []
    for organ, name in enumerate(ORGAN_NAMES, start=1):
        in_first, in_second = int(joint[organ].sum()), int(joint[:, organ].sum())
        if not in_first + in_second:
            continue
        both = int(joint[organ, organ])
        by_axis = differs if in_first + in_second > 2 * both else there
        x, y, z = (int(counts[organ].argmax()) for counts in by_axis)
        found.append(
            ComparedOrgan(
                name,
                in_first * grid.voxel_ml,
                in_second * grid.voxel_ml,
                (in_first + in_second - 2 * both) * grid.voxel_ml,
                2 * both / (in_first + in_second),
                (x, y, z),
            )
        )
    return tuple(found)


def _add(
    by_axis: Sequence[Counts],
    organ: int,
    place: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    k: int,
    chosen: npt.NDArray[np.bool_],
) -> None:
    for counts, at in zip(by_axis, place, strict=False):
        counts[organ] += np.bincount(at[chosen], minlength=counts.shape[1])
    by_axis[2][organ, k] += int(chosen.sum())
