"""What a submitted label says of each organ where nothing but its voxels tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.ledger.records import OLDER_RULE, OrganChange
from atlas8k.organs import ORGAN_IDS
from atlas8k.volume import Volume


def told_by_voxels(
    start: Volume | None, label: Volume, info: Mapping[str, Any]
) -> dict[str, OrganChange]:
    """Compare a submitted label with its start label.

    An organ without voxels is ``not_assessed``, unless `info` lists it under ``absent``; one
    that is as in the start label is ``confirmed``, by the rule that such files are from.
    """
    absent = info.get("absent")
    absent = set(absent) if isinstance(absent, list) else set()
    before = _voxels(start) if start is not None and start.grid.same_as(label.grid) else None
    after = _voxels(label)
    both = None
    if before is not None and start is not None:
        both = _counts(label.array[label.array == start.array])
    return dict(_per_organ(before, after, both, absent))


def _counts(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.bincount(values.ravel(), minlength=256)


def _voxels(volume: Volume) -> npt.NDArray[np.int64]:
    return _counts(volume.array)


def _per_organ(
    before: npt.NDArray[np.int64] | None,
    after: npt.NDArray[np.int64],
    both: npt.NDArray[np.int64] | None,
    absent: set[str],
) -> Iterator[tuple[str, OrganChange]]:
    for organ, number in ORGAN_IDS.items():
        now = int(after[number])
        was = None if before is None else int(before[number])
        same = None if both is None else int(both[number])
        changed = None if was is None or same is None else was + now - 2 * same
        if organ in absent and not now:
            state = "absent"
        elif not now:
            state = "not_assessed"  # nothing says that somebody looked for it
        else:
            state = "confirmed" if changed == 0 else "revised"
        dsc = None if was is None or same is None or not was + now else 2 * same / (was + now)
        note = OLDER_RULE if state == "confirmed" else None
        yield organ, OrganChange(state, was, now, changed, dsc, note)
