"""Make one label out of two of the same CT, each organ as one of them has it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from atlas8k.core.structures import in_use, parts_of
from atlas8k.core.voxels import joint_counts

Labels = npt.NDArray[np.uint8]


def combine(
    first: Labels, second: Labels, from_second: Collection[int]
) -> tuple[Labels, dict[int, int]]:
    """Return the label that has some organs as the second label has them, the others as the first.

    Where the two organs that are taken overlap, the smaller one keeps the voxel: it would lose
    more of itself. A voxel whose organ is taken from the other label, and is not there, is empty.

    Parameters
    ----------
    first, second
        ``(X, Y, Z)`` uint8, organ ids, on one grid.
    from_second
        Ids of the organs that are as in `second`.

    Returns
    -------
    label
        As `first`.
    lost
        Voxels that an organ has in the label it is taken from and lost to a smaller one; only
        organs that lost some.
    """
    ids = [organ.id for organ in in_use().organs]
    both = joint_counts(first, second)
    counts = {True: both.sum(axis=0), False: both.sum(axis=1)}
    size = {o: int(counts[o in from_second][list(parts_of(o))].sum()) for o in ids}
    claims: dict[bool, dict[int, list[int]]] = {True: {}, False: {}}
    for organ in ids:
        for value in parts_of(organ):
            claims[organ in from_second].setdefault(value, []).append(organ)
    table, lost = np.zeros((256, 256), np.uint8), dict.fromkeys(ids, 0)
    for a, b in np.argwhere(both):
        claimed = claims[False].get(int(a), []) + claims[True].get(int(b), [])
        if not claimed:
            continue
        # A part, such as a tumour, is no larger than its organ and has fewer parts.
        kept = min(claimed, key=lambda o: (size[o], len(parts_of(o)), o))
        table[a, b] = kept
        for organ in claimed:
            if kept not in parts_of(organ):
                lost[organ] += int(both[a, b])
    made = first.copy(order="K")
    differs = first != second
    made[differs] = table[first[differs], second[differs]]
    return made, {organ: voxels for organ, voxels in lost.items() if voxels}
