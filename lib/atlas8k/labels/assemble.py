"""One label a volume from public, revised and pseudo labels: a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas8k.ledger.records import OrganSource

SourceKind = Literal["public", "revised", "pseudo"]
PRIORITY: tuple[SourceKind, ...] = ("public", "revised", "pseudo")


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
        are the organ; ``absent``: there is none; ``unknown`` and ``not_confirmed``: nothing
        is said, so that the next source counts. A pseudo label's voxels are used whatever
        its state.
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
        nobody vouches for is ``pseudo`` with state ``unknown`` or ``not_confirmed``.
    overlaps
        Where sources disagreed over voxels, largest first.
    """

    array: npt.NDArray[np.uint8]
    organs: dict[str, OrganSource]
    overlaps: tuple[Overlap, ...]

    def sources(self) -> list[SourceLabel]:
        """The same label as sources again, one a kind; assembling them gives it back."""
        raise NotImplementedError


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
    raise NotImplementedError
