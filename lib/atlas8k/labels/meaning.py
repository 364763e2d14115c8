"""What a submission says of each organ, compared with the start label it began from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.errors import GridMismatchError, NoOrganError
from atlas8k.grid import Grid
from atlas8k.labels.anatomy import odd_volumes
from atlas8k.labels.ingest import Submitted
from atlas8k.labels.statement import NOTHING_SAID, Statement
from atlas8k.labels.voxels import fill, joint_counts, renamed
from atlas8k.ledger.records import OrganChange
from atlas8k.organs import ORGAN_IDS


def changes(
    start: npt.NDArray[np.uint8] | None, submitted: Submitted, said: Statement = NOTHING_SAID
) -> dict[str, OrganChange]:
    """Compare a submission with its start label, organ by organ.

    Parameters
    ----------
    start
        ``(X, Y, Z)`` uint8, organ ids, the start label on the CT's grid; ``None`` where
        there was none, which counts as empty.
    said
        What the annotator says beside the voxels.

    Returns
    -------
    dict
        By organ name, all nine. An organ whose voxels are other ones is ``revised``, one
        whose voxels are gone ``absent``. Clients send every organ, so that one that comes
        back voxel for voxel as it went out, or is not sent at all, is ``not_assessed`` unless
        `said` has it: then it is ``confirmed``, or ``absent`` where it has no voxels.

    Raises
    ------
    GridMismatchError
        `start` has another shape.
    """
    both = joint_counts(_start(start, submitted), submitted.array)
    found = {}
    for organ, number in ORGAN_IDS.items():
        before = int(both[number].sum())
        after = int(both[:, number].sum())
        same = int(both[number, number])
        sent = organ in submitted.named
        if organ in said.absent and not after:
            state = "absent"
        elif not sent and not after:
            after = same = before
            state = _as_it_was(before, organ in said.looked_at)
        elif before == after == same:
            state = _as_it_was(before, said.looked(organ, drawn=before > 0))
        else:
            state = "revised" if after else "absent"
        dsc = 2 * same / (before + after) if before + after else None
        found[organ] = OrganChange(state, before, after, before + after - 2 * same, dsc)
    return found


def _as_it_was(voxels: int, looked_at: bool) -> str:
    if not looked_at:
        return "not_assessed"
    return "confirmed" if voxels else "absent"


def compared(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], grid: Grid
) -> dict[str, OrganChange]:
    """Compare two readings of one CT, ``(X, Y, Z)`` uint8 organ ids on its `grid`.

    ``confirmed`` is an organ in which they agree voxel for voxel.
    """
    every = frozenset(ORGAN_IDS)
    return changes(
        first, Submitted(second, grid, every, "organ ids", {}), Statement(looked_at=every)
    )


def check_reviewed(
    organs: Mapping[str, OrganChange], submitted: Submitted, said: Statement, name: str | Path
) -> None:
    """Refuse a submission that says of all nine organs that they are not there.

    Parameters
    ----------
    organs
        What :func:`changes` found.
    submitted, said
        What was sent, and what the client says beside it.
    name
        What the message calls the label.

    Raises
    ------
    NoOrganError
        It says so: that is no review of an abdomen.
    """
    states = {change.state for change in organs.values()}
    every = frozenset(ORGAN_IDS)
    marked = said.absent == every or (
        submitted.named == every and "absent" in states and states <= {"absent", "not_assessed"}
    )
    if marked and not any(change.voxels_after for change in organs.values()):
        raise NoOrganError(
            name,
            "all nine organs are marked absent: that is no review of an abdomen. If the CT is "
            "not usable, say so with a reason: on the page /atlas8k/cases, or with "
            "`atlas8k campaign exclude`; nothing was submitted",
        )


def not_certified(
    organs: Mapping[str, OrganChange],
    array: npt.NDArray[np.uint8],
    grid: Grid,
    volume_is_right: Collection[str] = (),
) -> dict[str, OrganChange]:
    """Record organs of an implausible volume as not assessed, with the question.

    The label is not refused: 3D Slicer's module can say nothing beside the voxels, so that an
    annotator whose patient has such a spleen could not submit at all. What was drawn is kept
    and shown, and counts once somebody says that the volume is right.

    Parameters
    ----------
    organs
        What :func:`changes` found.
    array
        ``(X, Y, Z)`` uint8, organ ids, the label that it found it in.
    volume_is_right
        Organs that are not asked about.
    """
    certified = {
        organ: change.voxels_after or 0
        for organ, change in organs.items()
        if change.state in ("confirmed", "revised") and organ not in volume_is_right
    }
    asked = odd_volumes(array, grid, certified)
    return {
        organ: change._replace(state="not_assessed", note=asked[organ])
        if organ in asked
        else change
        for organ, change in organs.items()
    }


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
        if organ not in submitted.named and change.state != "absent" and change.voxels_before:
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
