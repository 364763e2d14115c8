"""One label a volume from public, revised and pseudo labels: a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError
from atlas8k.core.organ_states import OrganSource
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.voxels import fill, joint_counts, renamed

SourceKind = Literal["public", "revised", "pseudo"]
PRIORITY: tuple[SourceKind, ...] = ("public", "revised", "pseudo")
_ANSWERS = ("present", "absent", "confirmed", "revised", "not_assessed")


@dataclass(frozen=True, eq=False)
class SourceLabel:
    """One label of a volume and what it says.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids; voxels of organs that are not in `organs` are not
        used. ``None`` where it has no voxels (absent organs only).
    organs
        What it says of each organ. ``present``, ``confirmed`` and ``revised``: the voxels
        are the organ, ``not_assessed``: so they are, and nobody vouches for them yet;
        ``absent``: there is none; ``unknown``: nothing is said, so that the next source
        counts. A pseudo label's voxels are used whatever its state.
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
class Assembled:
    """The assembled label of a volume.

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
        """Return the same label as sources again, one a kind; assembling them gives it back."""
        found = []
        for kind in PRIORITY:
            organs = {name: source for name, source in self.organs.items() if source.source == kind}
            if organs:
                found.append(SourceLabel(kind, self.array, organs))
        return found


def assemble(
    shape: tuple[int, int, int],
    sources: Sequence[SourceLabel],
    decisions: Mapping[str, SourceKind] | None = None,
) -> Assembled:
    """Put one label together: per organ public before revised before pseudo.

    Parameters
    ----------
    shape
        Voxels of the CT, ``(X, Y, Z)``.
    sources
        In any order; of two of one kind the earlier counts where both say something.
    decisions
        By organ, the kind of source a reviewer chose for this volume. It counts while a
        source of that kind says something about the organ; such an organ is not disputed.

    Returns
    -------
    Assembled
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
        at, decided = chosen
        organs[organ] = _source(organ, ordered, at, decided, organ in disagree)
        if at is not None and _has_voxels(ordered[at], organ):
            tables[at][ORGAN_IDS[organ]] = ORGAN_IDS[organ]
    array, overlaps = _painted(shape, ordered, tables)
    return Assembled(array, organs, overlaps)


def _says(source: SourceLabel, organ: str) -> bool:
    """Return whether a source has an answer for the organ; a pseudo label always has one."""
    found = source.organs.get(organ)
    return found is not None and (source.kind == "pseudo" or found.state in _ANSWERS)


def _has_voxels(source: SourceLabel, organ: str) -> bool:
    """Return whether the source's voxels are to be used for the organ it has an answer for."""
    return source.kind == "pseudo" or source.organs[organ].state != "absent"


def _choose(
    organ: str, ordered: Sequence[SourceLabel], decision: SourceKind | None
) -> tuple[int | None, bool] | None:
    """Position of the source that counts, ``None`` where none has an answer; and if decided.

    ``None`` in place of the pair where no source names the organ.
    """
    answers = [i for i, source in enumerate(ordered) if _says(source, organ)]
    for i in answers:
        if ordered[i].kind == decision:
            return i, True
    if answers:
        return answers[0], False
    return (None, False) if any(organ in source.organs for source in ordered) else None


def _source(
    organ: str,
    ordered: Sequence[SourceLabel],
    at: int | None,
    decided: bool,
    disagrees: bool,
) -> OrganSource:
    if at is not None and ordered[at].kind != "pseudo":
        source = ordered[at].organs[organ]._replace(source=ordered[at].kind)
        disputed = source.source == "public" and (source.disputed or disagrees)
        return source._replace(disputed=disputed and not decided)
    return OrganSource("pseudo", "unknown")


def _disagreements(ordered: Sequence[SourceLabel], shape: tuple[int, int, int]) -> set[str]:
    """Return organs of which a submission has other voxels than a public label has."""
    nothing = np.zeros(shape, dtype=np.uint8)
    public = [source for source in ordered if source.kind == "public"]
    revised = [source for source in ordered if source.kind == "revised"]
    found: set[str] = set()
    for one, other in product(public, revised):
        shared = [o for o in ORGAN_NAMES if _says(one, o) and _says(other, o)]
        if not shared:
            continue
        both = joint_counts(
            *(nothing if source.array is None else source.array for source in (one, other))
        )
        for organ in shared:
            i = ORGAN_IDS[organ]
            before = int(both[i].sum()) if _has_voxels(one, organ) else 0
            after = int(both[:, i].sum()) if _has_voxels(other, organ) else 0
            same = int(both[i, i]) if before and after else 0
            if not before == after == same:
                found.add(organ)
    return found


def _painted(
    shape: tuple[int, int, int],
    ordered: Sequence[SourceLabel],
    tables: Sequence[npt.NDArray[np.uint8]],
) -> tuple[npt.NDArray[np.uint8], tuple[Overlap, ...]]:
    """Paint the organs of each source by its table, the highest source's on top."""
    out = np.zeros(shape, dtype=np.uint8, order="F")
    owner: dict[int, SourceKind] = {}
    overlaps = []
    for source, table in zip(ordered, tables, strict=True):
        if source.array is None or not table.any():
            continue
        both = fill(out, renamed(source.array, table))
        for i, j in np.argwhere(both).tolist():
            kept, lost = ORGAN_NAMES[i - 1], ORGAN_NAMES[j - 1]
            overlaps.append(Overlap(kept, lost, int(both[i, j]), owner[i], source.kind))
        owner.update({int(i): source.kind for i in np.flatnonzero(table)})
    return out, tuple(sorted(overlaps, key=lambda overlap: -overlap.voxels))
