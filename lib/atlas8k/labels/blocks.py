"""A label that covers a block of its CT: what becomes of the rest is said, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.errors import GridMismatchError
from atlas8k.labels.ingest import Submitted
from atlas8k.labels.voxels import counts
from atlas8k.organs import ORGAN_IDS


def with_rest(
    start: npt.NDArray[np.uint8] | None,
    submitted: Submitted,
    *,
    partial: bool | None,
    absent: frozenset[str] = frozenset(),
    path: str | Path = "label map",
) -> Submitted:
    """Settle what is outside of the block that a label covers.

    Clients crop a label to what is drawn, so that a block which holds all that was there is
    the whole label. A smaller one would take organs away that its sender has not seen.

    Parameters
    ----------
    start
        ``(X, Y, Z)`` uint8, organ ids, the start label; ``None`` where there is none.
    partial
        ``True``: outside, organs are as in `start`. ``False``: outside there is nothing.
    absent
        Organs that are said not to be there, wherever `start` has them.
    path
        What an error names.

    Returns
    -------
    Submitted
        `submitted` itself where nothing is added.

    Raises
    ------
    GridMismatchError
        `partial` is ``None``, and organs of `start` lie outside of the block; or it is ``True``
        and the label covers the whole CT.
    """
    block, shape = submitted.block, submitted.array.shape
    if block is None:
        if partial:
            raise GridMismatchError(
                path,
                "partial: the label covers the whole CT; crop it to the part that it is about, "
                "or leave partial out",
            )
        return submitted
    if start is None or partial is False:
        return submitted
    kept = [o for o in ORGAN_IDS if o in submitted.named and o not in absent]
    outside = np.where(np.isin(start, [ORGAN_IDS[o] for o in kept]), start, 0).astype(np.uint8)
    outside[block] = 0
    lost = counts(outside)
    if not lost[1:].any():
        return submitted
    if not partial:
        size = " x ".join(str(part.stop - part.start) for part in block)
        listed = ", ".join(f"{organ} {int(lost[i]):,}" for organ, i in ORGAN_IDS.items() if lost[i])
        raise GridMismatchError(
            path,
            f"it covers {size} of {' x '.join(map(str, shape))} voxels, and voxels of the start "
            f"label lie outside ({listed}). Send it over the whole CT, or say in params: "
            '"partial": true (the rest stays as it was) or false (there is nothing else)',
        )
    array = submitted.array.copy(order="K")
    np.copyto(array, outside, where=outside > 0)
    total = counts(array)
    return replace(
        submitted,
        array=array,
        voxels={organ: int(total[ORGAN_IDS[organ]]) for organ in submitted.voxels},
    )
