"""Fuse public, revised and pseudo labels into one label a volume; pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.organ_states import OrganSource
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES, in_use, parts_of
from atlas8k.core.voxels import fill, joint_counts, renamed

SourceKind = Literal["public", "revised", "pseudo"]
PRIORITY: tuple[SourceKind, ...] = ("public", "revised", "pseudo")
_ANSWERED = ("present", "absent", "confirmed", "revised", "not_assessed")


@dataclass(frozen=True, eq=False)
class SourceLabel:
    """A label of a volume, and its answer for each organ.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids; voxels of organs that are not in `organs` are not
        used. ``None`` where it has no voxels (absent organs only).
    organs
        Its answer for each organ. ``present``, ``confirmed`` and ``revised``: the voxels
        are the organ. ``not_assessed``: they are too, and nobody vouches for them yet.
        ``absent``: there is none. ``unknown``: no answer, so that the next source counts. A
        pseudo label's voxels are used whatever its state.
    """

    kind: SourceKind
    array: npt.NDArray[np.uint8] | None
    organs: Mapping[str, OrganSource]


@dataclass(frozen=True)
class Overlap:
    """Voxels that two sources give to different organs; the higher source keeps them."""

    kept: str
    lost: str
    voxels: int
    kept_source: SourceKind
    lost_source: SourceKind


@dataclass(frozen=True, eq=False)
class FusedLabel:
    """The fused label of a volume.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids.
    organs
        Source and state of every organ that some source names. An organ whose voxels
        nobody vouches for is ``pseudo`` with state ``unknown``.
    overlaps
        Where sources disagreed over voxels, largest first.
    """

    array: npt.NDArray[np.uint8]
    organs: dict[str, OrganSource]
    overlaps: tuple[Overlap, ...]

    def sources(self) -> list[SourceLabel]:
        """Return the label as sources again, one a kind; fusing these gives it back."""
        labels = []
        for kind in PRIORITY:
            organs = {name: source for name, source in self.organs.items() if source.source == kind}
            if organs:
                labels.append(SourceLabel(kind, self.array, organs))
        return labels


def fuse(
    shape: tuple[int, int, int],
    sources: Sequence[SourceLabel],
    decisions: Mapping[str, SourceKind] | None = None,
) -> FusedLabel:
    """Fuse the labels of a volume: per organ public before revised before pseudo.

    Parameters
    ----------
    shape
        Voxels of the CT, ``(X, Y, Z)``.
    sources
        In any order; of two of one kind the earlier counts where both have an answer.
    decisions
        By organ, the kind of source a reviewer chose for this volume. It counts while a
        source of that kind has an answer for the organ; such an organ is not disputed.

    Returns
    -------
    FusedLabel
        A public organ is ``disputed`` where its source says so already or a submission
        has other voxels of it, until decided.

    Raises
    ------
    GridMismatchError
        A source of another shape.
    """
    decisions = decisions or {}
    ordered = sorted(sources, key=lambda source: PRIORITY.index(source.kind))
    for source in ordered:
        if source.array is not None and source.array.shape != shape:
            raise GridMismatchError(
                f"{source.kind} label", f"shape {source.array.shape} is not that of the CT, {shape}"
            )
    organs: dict[str, OrganSource] = {}
    tables = [np.zeros(256, dtype=np.uint8) for _ in ordered]
    disagree = _disagreements(ordered, shape)
    for organ in ORGAN_NAMES:
        chosen = _choose(organ, ordered, decisions.get(organ))
        if chosen is None:
            continue
        position, decided = chosen
        organs[organ] = _source(organ, ordered, position, decided, organ in disagree)
        if position is not None and _has_voxels(ordered[position], organ):
            tables[position][ORGAN_IDS[organ]] = ORGAN_IDS[organ]
    for table in tables:  # what is within an organ, and comes from elsewhere, is the organ here
        for outer, parts in in_use().parts.items():
            if table[outer]:
                table[[value for value in parts if not table[value]]] = outer
    array, overlaps = _painted(shape, ordered, tables)
    return FusedLabel(array, organs, overlaps)


def _answers(source: SourceLabel, organ: str) -> bool:
    """Return whether a source has an answer for the organ; a pseudo label always has one."""
    answer = source.organs.get(organ)
    return answer is not None and (source.kind == "pseudo" or answer.state in _ANSWERED)


def _has_voxels(source: SourceLabel, organ: str) -> bool:
    """Return whether the source's voxels are to be used for the organ it has an answer for."""
    return source.kind == "pseudo" or source.organs[organ].state != "absent"


def _choose(
    organ: str, ordered: Sequence[SourceLabel], decision: SourceKind | None
) -> tuple[int | None, bool] | None:
    """Return the position of the source that counts, and whether a reviewer chose it.

    The position is ``None`` where no source has an answer; the pair is, where none names the organ.
    """
    answers = [i for i, source in enumerate(ordered) if _answers(source, organ)]
    for i in answers:
        if ordered[i].kind == decision:
            return i, True
    if answers:
        return answers[0], False
    return (None, False) if any(organ in source.organs for source in ordered) else None


def _source(
    organ: str,
    ordered: Sequence[SourceLabel],
    position: int | None,
    decided: bool,
    disagrees: bool,
) -> OrganSource:
    if position is not None and ordered[position].kind != "pseudo":
        source = ordered[position].organs[organ]._replace(source=ordered[position].kind)
        disputed = source.source == "public" and (source.disputed or disagrees)
        return source._replace(disputed=disputed and not decided)
    return OrganSource("pseudo", "unknown")


def _disagreements(ordered: Sequence[SourceLabel], shape: tuple[int, int, int]) -> set[str]:
    """Return the organs of which a submission and a public label have different voxels."""
    nothing = np.zeros(shape, dtype=np.uint8)
    public = [source for source in ordered if source.kind == "public"]
    revised = [source for source in ordered if source.kind == "revised"]
    organs: set[str] = set()
    for public_label, revised_label in product(public, revised):
        shared = [
            o for o in ORGAN_NAMES if _answers(public_label, o) and _answers(revised_label, o)
        ]
        if not shared:
            continue
        both = joint_counts(
            *(
                nothing if source.array is None else source.array
                for source in (public_label, revised_label)
            )
        )
        for organ in shared:
            own = list(parts_of(ORGAN_IDS[organ]))
            before = int(both[own].sum()) if _has_voxels(public_label, organ) else 0
            after = int(both[:, own].sum()) if _has_voxels(revised_label, organ) else 0
            same = int(both[np.ix_(own, own)].sum()) if before and after else 0
            if not before == after == same:
                organs.add(organ)
    return organs


def _painted(
    shape: tuple[int, int, int],
    ordered: Sequence[SourceLabel],
    tables: Sequence[npt.NDArray[np.uint8]],
) -> tuple[npt.NDArray[np.uint8], tuple[Overlap, ...]]:
    """Paint the organs of each source by its table, the highest source's on top.

    What lies within another structure lies on top of it, whatever source either comes from.
    """
    out = np.zeros(shape, dtype=np.uint8, order="F")
    owner: dict[int, SourceKind] = {}
    overlaps, parts = [], in_use().parts
    for source, table in zip(ordered, tables, strict=True):
        if source.array is None or not table.any():
            continue
        both = fill(out, renamed(source.array, table))
        for i, j in np.argwhere(both).tolist():
            kept, lost = ORGAN_NAMES[i - 1], ORGAN_NAMES[j - 1]
            if j in parts.get(i, ()):
                inner = (source.array == j) & (out == i)
                out[inner] = j
            elif i not in parts.get(j, ()):
                overlaps.append(Overlap(kept, lost, int(both[i, j]), owner[i], source.kind))
        owner.update({int(i): source.kind for i in np.unique(table)})
    return out, tuple(sorted(overlaps, key=lambda overlap: -overlap.voxels))
