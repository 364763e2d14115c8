"""Bound what a file may claim of itself, before anything is paid for it.

A file of some kilobytes can say that it holds terabytes, and one that says little can cost
much: voxels of 16 mm become a thousand each on the grid that networks work on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MAX_VOXELS = 1 << 30
"""Of a CT: 1,073,741,824, as 1024 x 1024 x 1024; 4 GiB as float32. The largest CTs in public
collections have half of that (512 x 512 x 2048)."""
MAX_LABEL_VOXELS = 1 << 29
"""Of a label whose CT is not known, 512 x 512 x 2048; one that lies on its CT has no more."""
MAX_LAYER_BYTES = 1 << 31
"""Of all layers of a label as they are stored: nine layers of 512 x 512 x 900 in a byte each."""
MAX_SIDE = 8192
"""Along an axis: two metres at 0.25 mm, the thinnest slices that scanners make. A plane is read
at once."""
MAX_EXTENT_MM = 2500.0
"""No scanner's table moves further than two metres."""
MAX_EXTENSION_BYTES = 1 << 24
"""What may lie between a header and its voxels. Extensions hold text; converters that copy every
DICOM element of every slice write some MB."""

PLANNED_MM = 1.5
"""Of the grid that networks meet on (:data:`atlas8k.models.predict.GRID_MM`)."""
MAX_PLANNED = 1 << 29
"""Voxels on that grid: 780 x 780 mm, the widest that scanners show, over all of
:data:`MAX_EXTENT_MM`. What a patient takes of it is known when the voxels are read, see
:func:`atlas8k.models.resources.check_memory`."""
SMALL_PLANNED = 1 << 24
"""So many cost no more than any abdomen: 384 mm each way."""
MAX_FINER = 75
"""Beyond that, voxels on that grid for one of the CT. The coarsest that are taken, for a PET's
attenuation, have pixels of 5 mm and slices of up to 10 mm."""


def excess(shape: Sequence[int], spacing_mm: Sequence[float]) -> str | None:
    """Return why a CT of this shape and voxel size is not taken; ``None`` where it is.

    Parameters
    ----------
    shape
        Voxels along each axis.
    spacing_mm
        Voxel size along each axis.
    """
    if (why := too_many(shape)) is not None:
        return why
    extent = [n * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    said = f"{_by(shape)} voxels of {' x '.join(f'{mm:.4g}' for mm in spacing_mm)} mm"
    if max(extent) > MAX_EXTENT_MM:
        return (
            f"{said} reach over {max(extent) / 1000:.3g} m, farther than any scanner; correct the "
            "voxel size in the header"
        )
    planned = math.prod(max(1.0, mm / PLANNED_MM) for mm in extent)
    if planned > MAX_PLANNED:
        return (
            f"{said} need {planned / 1e6:,.0f} million on the networks' grid of {PLANNED_MM:g} mm; "
            f"at most {MAX_PLANNED / 1e6:,.0f} million are taken: crop it to the patient"
        )
    if planned > SMALL_PLANNED and planned > MAX_FINER * math.prod(shape):
        return (
            f"{said} are too coarse for organs: each would be {planned / math.prod(shape):,.0f} on "
            f"the networks' grid of {PLANNED_MM:g} mm; give the CT as it was reconstructed"
        )
    return None


def too_many(shape: Sequence[int], most: int = MAX_VOXELS) -> str | None:
    """Return why an array of this shape is not read; ``None`` where it is."""
    if math.prod(shape) > most:
        return f"the header claims {_by(shape)} voxels, at most {most:,} are read; it is broken"
    if max(shape) > MAX_SIDE:
        return f"the header claims {_by(shape)} voxels, at most {MAX_SIDE:,} a side; it is broken"
    return None


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
