"""What a submission says of each organ, compared with the start label it began from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.errors import GridMismatchError, NoOrganError
from atlas8k.labels.ingest import Submitted, organ_names
from atlas8k.labels.voxels import fill, joint_counts, renamed
from atlas8k.ledger.records import OrganChange
from atlas8k.organs import ORGAN_IDS


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
    both = joint_counts(_start(start, submitted), submitted.array)
    gone = set(organ_names(absent, "absent"))
    found = {}
    for organ, number in ORGAN_IDS.items():
        before = int(both[number].sum())
        after = int(both[:, number].sum())
        same = int(both[number, number])
        if organ in gone and not after:
            state = "absent"
        elif organ not in submitted.named and not after:
            state, after, same = "unchanged", before, before
        elif after:
            state = "confirmed" if before == after == same else "revised"
        else:
            state = "absent" if before else "not_confirmed"
        dsc = 2 * same / (before + after) if before + after else None
        found[organ] = OrganChange(state, before, after, before + after - 2 * same, dsc)
    return found


def check_reviewed(
    organs: Mapping[str, OrganChange], absent: Sequence[str], name: str | Path
) -> None:
    """Refuse a submission that says of all nine organs that they are not there.

    Parameters
    ----------
    organs
        What :func:`changes` found.
    absent
        Organs the client says are not there.
    name
        What the message calls the label.

    Raises
    ------
    NoOrganError
        It says so: that is no review of an abdomen.
    """
    states = {change.state for change in organs.values()}
    marked = set(absent) == set(ORGAN_IDS) or (
        "absent" in states and states <= {"absent", "not_confirmed"}
    )
    if marked and not any(change.voxels_after for change in organs.values()):
        raise NoOrganError(
            name,
            "all nine organs are marked absent: that is no review of an abdomen. If the CT is "
            "not usable, say so with a reason: on the page /atlas8k/cases, or with "
            "`atlas8k campaign exclude`; nothing was submitted",
        )


def completed(
    start: npt.NDArray[np.uint8] | None,
    submitted: Submitted,
    organs: Mapping[str, OrganChange],
) -> npt.NDArray[np.uint8]:
    """The submission with the organs it says nothing about as the start label has them.

    This is what is kept as the revised label: a merged map without an organ must not
    delete it. Where a named organ was drawn over one that is not named, the drawn one
    counts.

    Parameters
    ----------
    organs
        What :func:`changes` found.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` uint8, organ ids; the submission's own array where nothing is added.
    """
    table = np.zeros(256, dtype=np.uint8)
    for organ, change in organs.items():
        if change.state == "unchanged" and change.voxels_before:
            table[ORGAN_IDS[organ]] = ORGAN_IDS[organ]
    if start is None or not table.any():
        return submitted.array
    made = submitted.array.copy(order="K")
    fill(made, renamed(_start(start, submitted), table))
    return made


def _start(start: npt.NDArray[np.uint8] | None, submitted: Submitted) -> npt.NDArray[np.uint8]:
    if start is None:
        return np.zeros_like(submitted.array)
    if start.shape != submitted.array.shape:
        raise GridMismatchError(
            "start label", f"shape {start.shape} is not that of the CT, {submitted.array.shape}"
        )
    return start
