"""What a submission says of each organ, compared with the draft label it began from.

Voxels say some of it, the annotator's statement beside them the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.errors import GridMismatchError, LabelNameError, NoOrganError
from atlas8k.core.grid import Grid
from atlas8k.core.organ_states import OrganChange
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.voxels import counts, fill, joint_counts, renamed
from atlas8k.labels.anatomy import odd_volumes
from atlas8k.labels.ingest import Submitted, organ_names

ALL = "all"
KEYS = ("absent", "looked_at", "volume_is_right", "partial")


@dataclass(frozen=True)
class Statement:
    """What is said with a label.

    Attributes
    ----------
    absent
        Organs that were looked for and are not there.
    looked_at
        Organs that were looked at, whether they were changed or not.
    all_looked_at
        Every organ that the label has voxels of was looked at. One without voxels counts
        only where it is named: nothing is there that shows that somebody looked.
    volume_is_right
        Organs whose unusual volume was looked at and is right.
    partial
        Of a label that covers a block of the CT: ``True``, the rest is as in the draft label;
        ``False``, there is nothing outside of the block; ``None``, not said.
    """

    absent: frozenset[str] = frozenset()
    looked_at: frozenset[str] = frozenset()
    all_looked_at: bool = False
    volume_is_right: frozenset[str] = frozenset()
    partial: bool | None = None

    @classmethod
    def of(
        cls, params: Mapping[str, Any], path: str | Path = "request", default: object = None
    ) -> Statement:
        """Read the statement of a request's ``params``; keys are :data:`KEYS`.

        Parameters
        ----------
        path
            What an error names.
        default
            What counts as ``looked_at`` where `params` do not say: that of the lease.

        Raises
        ------
        LabelNameError
            A value is of another kind, or names no organ.
        """
        looked = params.get("looked_at")
        looked = default if looked is None else looked
        partial = params.get("partial")
        if partial is not None and not isinstance(partial, bool):
            raise LabelNameError(path, "partial must be true, false or left out")
        return cls(
            absent=_organs(params, "absent", path),
            looked_at=frozenset()
            if looked is None or looked == ALL
            else frozenset(organ_names(looked, 'looked_at ("all" aside)', path)),
            all_looked_at=looked == ALL,
            volume_is_right=_organs(params, "volume_is_right", path),
            partial=partial,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the statement as it goes into a label's header, JSON-ready."""
        return {
            "looked_at": ALL if self.all_looked_at else sorted(self.looked_at),
            "volume_is_right": sorted(self.volume_is_right),
            "partial": self.partial,
        }

    def looked(self, organ: str, *, drawn: bool) -> bool:
        """Return whether an organ was looked at; `drawn`: the label has voxels of it."""
        return organ in self.looked_at or (self.all_looked_at and drawn)


NOTHING_SAID = Statement()


def _organs(params: Mapping[str, Any], key: str, path: str | Path) -> frozenset[str]:
    named = params.get(key)
    return frozenset() if named is None else frozenset(organ_names(named, key, path))


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
    """Return the submission with the organs it says nothing about as the start label has them.

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
