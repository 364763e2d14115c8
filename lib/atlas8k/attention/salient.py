"""Find salient masks and regions of probabilities, organ by organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from atlas8k.attention import slabs
from atlas8k.attention.equations import (
    SALIENT_ENTROPY,
    SALIENT_STD,
    OverlapMode,
    check_overlap_mode,
)
from atlas8k.attention.probabilities import Probs, Quantised
from atlas8k.attention.regions import (
    PUBLISHED_MM,
    PUBLISHED_WIDTHS,
    Box,
    Region,
    Widths,
    bounding_box,
    by_attention,
    find_regions,
    opened,
    widths_for,
)
from atlas8k.attention.sizes import AttentionSizes, add_lost, sizes_from_table
from atlas8k.core.components import label_components
from atlas8k.core.errors import AttentionError, GridMismatchError
from atlas8k.core.grid import Grid
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES


@dataclass(frozen=True)
class SalientSettings:
    """Thresholds of a salient region.

    Attributes
    ----------
    inconsistency, uncertainty
        A voxel is salient where Eq. 1 or Eq. 2 is above these (reference code), and
        where Eq. 3 is 1.
    opening_mm
        The first two masks are opened by a box of this edge: what is thinner is taken
        for an organ's ordinary outline. ``None`` is the published form, five voxels
        whatever their size. 0 opens nothing.
    min_ml
        Connected components smaller than this are not shown as regions.
    overlap
        Reading of Eq. 3.
    """

    inconsistency: float = 0.1
    uncertainty: float = 0.05
    opening_mm: float | None = PUBLISHED_MM
    min_ml: float = 0.5
    overlap: OverlapMode = "per_network"

    def __post_init__(self) -> None:
        check_overlap_mode(self.overlap)
        for field in ("inconsistency", "uncertainty", "min_ml", "opening_mm"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < float("inf"):
                raise AttentionError("settings", f"{field} is {value}; give 0 or more")

    def widths(self, spacing_mm: Sequence[float]) -> Widths:
        """Return the edges of the opening's box in voxels."""
        if self.opening_mm is None:
            return PUBLISHED_WIDTHS
        return widths_for(self.opening_mm, spacing_mm)


@dataclass(frozen=True, eq=False)
class Salient:
    """Attention sizes and salient regions of one volume, from one pass.

    Attributes
    ----------
    grid
        Grid of the masks.
    sizes
        Attention sizes of the same volume.
    mask
        ``(organs, X, Y, Z)`` bool: the voxels of ``regions``.
    regions
        Largest attention first, over all organs.
    salient_ml
        By organ, the volume of every salient voxel, also of components too small to
        be a region.
    heat
        ``(organs, X, Y, Z)`` uint8, Eq. 4 in steps of 1/128, where asked for.
    """

    grid: Grid
    sizes: AttentionSizes
    mask: npt.NDArray[np.bool_]
    regions: tuple[Region, ...]
    salient_ml: dict[str, float]
    heat: npt.NDArray[np.uint8] | None = None

    def of(self, organ: str) -> tuple[Region, ...]:
        """Return one organ's regions, largest attention first."""
        return tuple(region for region in self.regions if region.organ == organ)

    def voxels_of(self, region: Region) -> npt.NDArray[np.bool_]:
        """Return one region's own voxels, ``(X, Y, Z)`` bool."""
        out = np.zeros(self.grid.shape, dtype=bool)
        part = self.mask[self.sizes.organs.index(region.organ)][region.box]
        pieces = label_components(part)
        # Pieces of other regions may reach into the box; this one spans it with its size.
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        target = region.ml / self.grid.voxel_ml
        out[region.box] = pieces == int(np.argmin(np.abs(sizes - target)))
        return out

    def label(self) -> npt.NDArray[np.uint8]:
        """Draw all regions into one label map.

        Returns
        -------
        ndarray
            ``(X, Y, Z)`` uint8: id of the organ in doubt, 0 elsewhere. Where several
            organs are, the one with the largest attention size of them.
        """
        out = np.zeros(self.grid.shape, dtype=np.uint8)
        rank = sorted(self.sizes.organs, key=lambda organ: self.sizes.attention_ml[organ])
        for organ in rank:
            index = self.sizes.organs.index(organ)
            out[self.mask[index]] = ORGAN_IDS.get(organ, index + 1)
        return out


def salient_regions(
    probs: Probs | Quantised,
    grid: Grid,
    settings: SalientSettings | None = None,
    *,
    organs: Sequence[str] = ORGAN_NAMES,
    name: str = "probabilities",
    heat: bool = False,
) -> Salient:
    """Find attention sizes, salient masks and regions of one volume.

    Parameters
    ----------
    probs
        ``(models, organs, X, Y, Z)`` on ``grid``, as for
        :func:`~atlas8k.attention.attention_sizes`.
    grid
        Where the probabilities lie; the opening and the volumes are measured by it.
    settings
        Thresholds, opening and the smallest region; the defaults are the reference
        code's at 1.5 mm.
    heat
        Whether to make the byte heat maps too.
    organs, name
        As for :func:`~atlas8k.attention.attention_sizes`.

    Raises
    ------
    AttentionError
        Probabilities outside 0..1, NaN, or of the wrong shape; names the volume.
    GridMismatchError
        The probabilities do not have the grid's shape; names the volume.
    """
    settings = settings or SalientSettings()
    source = slabs.Source.of(probs, organs, name)
    if source.shape != grid.shape:
        raise GridMismatchError(
            name, f"probabilities {source.shape} do not fit their grid {grid.shape}"
        )
    swept = slabs.sweep(
        source,
        across=settings.overlap == "any",
        limits=(settings.inconsistency, settings.uncertainty),
        flags=True,
        heat=heat,
    )
    if isinstance(probs, Quantised):
        add_lost(swept.table, probs.lost)
    assert swept.flags is not None  # asked for above
    regions: list[Region] = []
    salient_ml: dict[str, float] = {}
    widths = settings.widths(grid.spacing)
    for index, organ in enumerate(organs):
        flags = swept.flags[index]
        outer = bounding_box(flags)
        if outer is None:
            salient_ml[organ] = 0.0
            continue
        inside = salient_mask(flags[outer], widths, settings.overlap)
        salient_ml[organ] = float(np.count_nonzero(inside) * grid.voxel_ml)
        measure = partial(_attention, source, index, flags[outer], outer, settings.overlap)
        organ_regions, region_mask = find_regions(
            inside,
            measure,
            organ,
            grid.voxel_ml,
            min_ml=settings.min_ml,
            origin=(outer[0].start, outer[1].start, outer[2].start),
        )
        regions += organ_regions
        # The flags have been read: their array becomes the mask, so that nothing of that
        # size is made twice.
        flags[outer] = region_mask
    return Salient(
        grid=grid,
        sizes=sizes_from_table(swept.table, grid.voxel_ml, organs, settings.overlap),
        mask=swept.flags.view(np.bool_),
        regions=tuple(by_attention(regions)),
        salient_ml=salient_ml,
        heat=swept.heat,
    )


def salient_mask(
    flags: npt.NDArray[np.uint8], widths: Widths, overlap: OverlapMode
) -> npt.NDArray[np.bool_]:
    """Return where one organ is salient: opened std, opened entropy, or overlap.

    Parameters
    ----------
    flags
        ``(X, Y, Z)`` uint8, bits as in :mod:`atlas8k.attention.equations`.
    widths
        Edges of the opening's box in voxels; the overlap is not opened (reference code).
    """
    mask = opened((flags & SALIENT_STD) != 0, widths)
    mask |= opened((flags & SALIENT_ENTROPY) != 0, widths)
    mask |= (flags & slabs.overlap_bit(overlap)) != 0
    return mask


def _attention(
    source: slabs.Source,
    organ: int,
    flags: npt.NDArray[np.uint8],
    outer: Box,
    overlap: OverlapMode,
    box: Box,
) -> npt.NDArray[np.float32]:
    """Return Eq. 4 of one organ in a box of ``flags``, which is the volume's part ``outer``."""
    place = tuple(
        slice(o.start + b.start, o.start + b.stop) for o, b in zip(outer, box, strict=True)
    )
    values = slabs.deviation_and_entropy(source, organ, (place[0], place[1], place[2]))
    values += (flags[box] & slabs.overlap_bit(overlap)) != 0
    return values
