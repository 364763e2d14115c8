"""Table 1 of one case: its regions under given settings, and the same by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _quality_cases import codes_of, labels_of

DRAWS = 3
"""Times that the control places the regions of a case."""


@dataclass(frozen=True, eq=False)
class Judged:
    """One case.

    Attributes
    ----------
    organs
        By organ, its :class:`~_quality_detection.Detection`.
    control, outline
        The same with every attention region moved: into the box of the organ's label and
        10 mm around it, and, harder to beat, onto the label's outline. Draws are joined.
    voxels
        By organ, voxels: wrong, salient, both, in error regions, of these salient, and of
        wrong and error regions those in an attention region of any organ.
    voxel_ml
        Volume of a voxel.
    salient_ml
        By organ, every salient voxel, also of components too small to be a region.
    """

    organs: dict[str, Any]
    control: dict[str, Any]
    outline: dict[str, Any]
    voxels: dict[str, list[int]]
    voxel_ml: float
    salient_ml: dict[str, float]


AROUND_MM = 10.0
VOXELS = (
    "wrong",
    "salient",
    "wrong_salient",
    "error",
    "error_salient",
    "wrong_shown",
    "error_shown",
)


def judge(folder: Path, number: int, several: Sequence[Any]) -> list[Judged]:
    """Regions and hits of a case that :func:`_quality_cases.make` made.

    Parameters
    ----------
    several
        :class:`~atlas8k.attention.SalientSettings`, one for each result.
    """
    from atlas8k.attention import salient_regions
    from atlas8k.attention.packed import unpack, unpack_codes
    from atlas8k.core.volume import Grid

    name = f"case {number}"
    probs, _ = unpack_codes(codes_of(folder, number).read_bytes(), name)
    (pseudo, truth), meta = unpack(labels_of(folder, number).read_bytes(), name)
    grid = Grid(pseudo.shape, np.array(meta["affine"]))
    errors = [errors_of(pseudo == organ, truth == organ, grid) for organ in range(1, 10)]
    return [
        compared(salient_regions(probs, grid, settings, name=name), pseudo, errors, number)
        for settings in several
    ]


@dataclass(frozen=True, eq=False)
class Errors:
    """Wrong voxels of one organ, their part that is in error regions, and the regions.

    Masks are ``(X, Y, Z)`` bool; regions are those of
    :func:`_quality_detection.components`.
    """

    wrong: np.ndarray
    clear: np.ndarray
    regions: list[np.ndarray]


def errors_of(own: np.ndarray, true: np.ndarray, grid: Any) -> Errors:
    """Error regions of one organ, from its label and its truth."""
    from _quality_detection import components, off_surface

    from atlas8k.attention.regions import bounding_box

    wrong = own ^ true
    clear = np.zeros_like(wrong)
    box = bounding_box(own | true)
    if box is None:
        return Errors(wrong, clear, [])
    # The voxels beside the box are of neither, and may be the other side of the surface.
    box = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in box)
    corner = [s.start for s in box]
    part = off_surface(wrong[box], true[box], grid.spacing)
    regions = [region + corner for region in components(part, grid.voxel_ml)]
    for region in regions:
        clear[tuple(region.T)] = True
    return Errors(wrong, clear, regions)


def compared(salient: Any, pseudo: np.ndarray, errors: list[Errors], number: int) -> Judged:
    """Attention regions against error regions, and against chance."""
    from _quality_detection import Detection, components, detect, moved, outline

    from atlas8k.attention.regions import bounding_box
    from atlas8k.core.structures import ORGAN_NAMES

    grid = salient.grid
    anywhere = salient.mask.any(axis=0)
    rng = np.random.default_rng(number)
    margin = np.rint(AROUND_MM / np.array(grid.spacing)).astype(int)
    found, control, harder, voxels = {}, {}, {}, {}
    for index, organ in enumerate(ORGAN_NAMES):
        error, shown = errors[index], salient.mask[index]
        attention = components(shown, grid.voxel_ml, 0.0)  # the mask holds regions only

        def against(regions: list[np.ndarray], error: Errors = error) -> Any:
            return detect(error.regions, regions, grid.shape, grid.voxel_ml)

        found[organ] = against(attention)
        voxels[organ] = [
            int(np.count_nonzero(mask))
            for mask in (
                *(error.wrong, shown, error.wrong & shown, error.clear, error.clear & shown),
                *(error.wrong & anywhere, error.clear & anywhere),
            )
        ]
        own = pseudo == index + 1
        box = bounding_box(own) or tuple(slice(0, n) for n in grid.shape)
        corner = np.array([s.start for s in box])
        edge = (outline(own[box]) if own.any() else np.argwhere(np.ones(grid.shape))) + corner
        low, high = edge.min(axis=0) - margin, edge.max(axis=0) + margin
        around = rng.integers(low, high + 1, (DRAWS * max(1, len(attention)), 3))
        for places, target in ((around, control), (edge, harder)):
            target[organ] = Detection.joined(
                [against(moved(attention, places, rng)) for _ in range(DRAWS)]
            )
    return Judged(found, control, harder, voxels, grid.voxel_ml, salient.salient_ml)
