"""Which instances of a series are copies of one another.

A SOPInstanceUID ought to name one instance. Anonymisers and exports are known to give one
to several slices: a copy is one at the same place, with the same pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from atlas8k.dicom.pixels import same_pixels
from atlas8k.dicom.planes import planes_of, text
from atlas8k.dicom.refusals import SAME_PLACE_MM


def without_copies(group: Sequence[Dataset]) -> list[Dataset]:
    """Return the instances of a series, each copy left out.

    Instances that share a UID and differ in place or pixels are all kept: what they are is
    judged by their geometry.
    """
    kept: list[Dataset] = []
    seen: dict[str, list[Dataset]] = defaultdict(list)
    for header in group:
        uid = text(header, "SOPInstanceUID")
        if uid and any(_copies(header, one) for one in seen[uid]):
            continue
        seen[uid].append(header)
        kept.append(header)
    return kept


def _copies(one: Dataset, other: Dataset) -> bool:
    first, second = planes_of(one), planes_of(other)
    return (
        len(first) == len(second)
        and all(
            a.size == b.size
            and _alike(a.position, b.position)
            and _alike(a.axes, b.axes)
            and _alike(a.pixel_mm, b.pixel_mm)
            for a, b in zip(first, second, strict=True)
        )
        and same_pixels(one, other)
    )


def _alike(one: npt.ArrayLike | None, other: npt.ArrayLike | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.abs(np.subtract(one, other)).max() < SAME_PLACE_MM)
