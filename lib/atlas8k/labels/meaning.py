"""What a submission says of each organ, compared with the start label it began from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from atlas8k.labels.ingest import Submitted
from atlas8k.ledger.records import OrganChange


def changes(
    start: npt.NDArray[np.uint8] | None, submitted: Submitted, absent: Sequence[str] = ()
) -> dict[str, OrganChange]:
    """What a submission says of each of the nine organs.

    Parameters
    ----------
    start
        ``(X, Y, Z)`` uint8, organ ids, the start label on the CT's grid; ``None`` where
        there was none, which counts as empty.
    absent
        Organs the client says are not there, whatever the start label shows.

    Returns
    -------
    dict
        By organ name, all nine: ``absent`` (named and empty, not empty in the start label,
        or in `absent`), ``not_confirmed`` (named, empty in both), ``unchanged`` (not named;
        counts are those of the start label), ``confirmed`` (voxels equal), ``revised``.

    Raises
    ------
    GridMismatchError
        `start` has another shape.
    """
    raise NotImplementedError


def completed(
    start: npt.NDArray[np.uint8] | None,
    submitted: Submitted,
    organs: Mapping[str, OrganChange],
) -> npt.NDArray[np.uint8]:
    """The submission with the organs it says nothing about as the start label has them.

    This is what is kept as the revised label: a merged map without an organ must not
    delete it. Where a named organ was drawn over one that is not named, the drawn one
    counts.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` uint8, organ ids.
    """
    raise NotImplementedError
