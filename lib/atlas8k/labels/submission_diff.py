"""Compare a submission with the draft label it began from, organ by organ.

Voxels decide some of it, the annotator's statement sent beside them the rest.
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
from atlas8k.core.structures import ORGAN_IDS, parts_of
from atlas8k.core.voxels import counts, fill, joint_counts, only, renamed
from atlas8k.labels.ingest import Submitted, organ_names
from atlas8k.labels.plausibility import find_odd_volumes

ALL = "all"
KEYS = ("absent", "looked_at", "volume_is_right", "partial")


@dataclass(frozen=True)
class Statement:
    """Statements of an annotator beside the voxels of a label.

    Attributes
    ----------
    absent
        Organs that were looked for and are not there.
    looked_at
        Organs that were looked at, whether they were changed or not.
    all_looked_at
        Every organ that the label has voxels of was looked at. One without voxels counts
        only where it is named: no voxel shows that somebody looked.
    volume_is_right
        Organs whose unusual volume was looked at and is right.
    partial
        Of a label that covers a block of the CT: ``True``, the rest is as in the draft label;
        ``False``, there is nothing outside of the block; ``None``, not stated.
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
            ``looked_at`` where `params` has none: that of the lease.

        Raises
        ------
        LabelNameError
            A value is of another kind, or names no organ.
        """
        looked_at = params.get("looked_at")
        looked_at = default if looked_at is None else looked_at
        partial = params.get("partial")
        if partial is not None and not isinstance(partial, bool):
            raise LabelNameError(path, "partial must be true, false or left out")
        return cls(
            absent=_organs(params, "absent", path),
            looked_at=frozenset()
            if looked_at is None or looked_at == ALL
            else frozenset(organ_names(looked_at, 'looked_at ("all" aside)', path)),
            all_looked_at=looked_at == ALL,
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


NO_STATEMENT = Statement()


def _organs(params: Mapping[str, Any], key: str, path: str | Path) -> frozenset[str]:
    named = params.get(key)
    return frozenset() if named is None else frozenset(organ_names(named, key, path))


def add_rest_of_ct(
    draft: npt.NDArray[np.uint8] | None,
    submitted: Submitted,
    *,
    partial: bool | None,
    absent: frozenset[str] = frozenset(),
    path: str | Path = "label map",
) -> Submitted:
    """Add what lies outside of the block that a label covers, or refuse to guess it.

    Clients crop a label to what is drawn, so that a block which holds all that was there is
    the whole label. A smaller one would take organs away that its sender has not seen.

    Parameters
    ----------
    draft
        ``(X, Y, Z)`` uint8, organ ids, the draft label; ``None`` where there is none.
    partial
        ``True``: outside, organs are as in `draft`. ``False``: outside there is nothing.
    absent
        Organs that are marked absent, wherever `draft` has them.
    path
        What an error names.

    Returns
    -------
    Submitted
        `submitted` itself where nothing is added.

    Raises
    ------
    GridMismatchError
        `partial` is ``None``, and organs of `draft` lie outside of the block; or it is ``True``
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
    if draft is None or partial is False:
        return submitted
    kept_organs = [o for o in ORGAN_IDS if o in submitted.named and o not in absent]
    outside = only(draft, (ORGAN_IDS[o] for o in kept_organs))
    outside[block] = 0
    outside_counts = counts(outside)
    if not outside_counts[1:].any():
        return submitted
    if not partial:
        size = " x ".join(str(part.stop - part.start) for part in block)
        organs_outside = ", ".join(
            f"{organ} {int(outside_counts[i]):,}"
            for organ, i in ORGAN_IDS.items()
            if outside_counts[i]
        )
        raise GridMismatchError(
            path,
            f"it covers {size} of {' x '.join(map(str, shape))} voxels, and voxels of the draft "
            f"label lie outside ({organs_outside}). Send it over the whole CT, or say in params: "
            '"partial": true (the rest stays as it was) or false (there is nothing else)',
        )
    array = submitted.array.copy(order="K")
    np.copyto(array, outside, where=outside > 0)
    organ_counts = counts(array)
    return replace(
        submitted,
        array=array,
        voxels={organ: int(organ_counts[ORGAN_IDS[organ]]) for organ in submitted.voxels},
    )


def compare_with_draft(
    draft: npt.NDArray[np.uint8] | None, submitted: Submitted, statement: Statement = NO_STATEMENT
) -> dict[str, OrganChange]:
    """Compare a submission with its draft label, organ by organ.

    Parameters
    ----------
    draft
        ``(X, Y, Z)`` uint8, organ ids, the draft label on the CT's grid; ``None`` where
        there was none, which counts as empty.
    statement
        What the annotator states beside the voxels.

    Returns
    -------
    dict
        By organ name, all nine. An organ whose voxels are other ones is ``revised``, one
        whose voxels are gone ``absent``. Clients send every organ, so that one that comes
        back voxel for voxel as it went out, or is not sent at all, is ``not_assessed`` unless
        `statement` has it: then it is ``confirmed``, or ``absent`` where it has no voxels.

    Raises
    ------
    GridMismatchError
        `draft` has another shape.
    """
    both = joint_counts(_draft_array(draft, submitted), submitted.array)
    changes = {}
    for organ, number in ORGAN_IDS.items():
        own = list(parts_of(number))  # a tumour that was drawn changes no voxel of its organ
        before = int(both[own].sum())
        after = int(both[:, own].sum())
        shared = int(both[np.ix_(own, own)].sum())
        named = organ in submitted.named
        if organ in statement.absent and not after:
            state = "absent"
        elif not named and not after:
            after = shared = before
            state = _as_it_was(before, organ in statement.looked_at)
        elif before == after == shared:
            state = _as_it_was(before, statement.looked(organ, drawn=before > 0))
        else:
            state = "revised" if after else "absent"
        dsc = 2 * shared / (before + after) if before + after else None
        changes[organ] = OrganChange(state, before, after, before + after - 2 * shared, dsc)
    return changes


def _as_it_was(voxels: int, looked_at: bool) -> str:
    if not looked_at:
        return "not_assessed"
    return "confirmed" if voxels else "absent"


def compare_readings(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], grid: Grid
) -> dict[str, OrganChange]:
    """Compare two readings of one CT, ``(X, Y, Z)`` uint8 organ ids on its `grid`.

    ``confirmed`` is an organ in which they agree voxel for voxel.
    """
    every = frozenset(ORGAN_IDS)
    return compare_with_draft(
        first, Submitted(second, grid, every, "organ ids", {}), Statement(looked_at=every)
    )


def check_reviewed(
    organs: Mapping[str, OrganChange], submitted: Submitted, statement: Statement, name: str | Path
) -> None:
    """Refuse a submission that marks all nine organs absent.

    Parameters
    ----------
    organs
        From :func:`compare_with_draft`.
    submitted, statement
        The label, and the statement sent beside it.
    name
        Name of the label in the message.

    Raises
    ------
    NoOrganError
        It does: that is no review of an abdomen.
    """
    states = {change.state for change in organs.values()}
    every = frozenset(ORGAN_IDS)
    marked = statement.absent == every or (
        submitted.named == every and "absent" in states and states <= {"absent", "not_assessed"}
    )
    if marked and not any(change.voxels_after for change in organs.values()):
        raise NoOrganError(
            name,
            "all nine organs are marked absent: that is no review of an abdomen. If the CT is "
            "not usable, say so with a reason: on the page /atlas8k/cases, or with "
            "`atlas8k campaign exclude`; nothing was submitted",
        )


def withhold_odd_volumes(
    organs: Mapping[str, OrganChange],
    array: npt.NDArray[np.uint8],
    grid: Grid,
    volume_is_right: Collection[str] = (),
) -> dict[str, OrganChange]:
    """Record organs of an implausible volume as not assessed, with the question.

    The label is not refused: 3D Slicer's module sends nothing beside the voxels, so that an
    annotator whose patient has such a spleen could not submit at all. What was drawn is kept
    and shown, and counts once somebody states that the volume is right.

    Parameters
    ----------
    organs
        From :func:`compare_with_draft`.
    array
        ``(X, Y, Z)`` uint8, organ ids, the submitted label.
    volume_is_right
        Organs that are not asked about.
    """
    certified = {
        organ: change.voxels_after or 0
        for organ, change in organs.items()
        if change.state in ("confirmed", "revised") and organ not in volume_is_right
    }
    odd = find_odd_volumes(array, grid, certified)
    return {
        organ: change._replace(state="not_assessed", note=odd[organ]) if organ in odd else change
        for organ, change in organs.items()
    }


def add_unnamed_organs(
    draft: npt.NDArray[np.uint8] | None,
    submitted: Submitted,
    organs: Mapping[str, OrganChange],
) -> npt.NDArray[np.uint8]:
    """Return the submission, with the organs it does not name as the draft label has them.

    This is stored as the revised label: a merged map without an organ must not delete it.
    Where a named organ was drawn over one that is not named, the drawn one counts.

    Parameters
    ----------
    organs
        From :func:`compare_with_draft`.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` uint8, organ ids; the submission's own array where nothing is added.
    """
    table = np.zeros(256, dtype=np.uint8)
    for organ, change in organs.items():
        if organ not in submitted.named and change.state != "absent" and change.voxels_before:
            table[ORGAN_IDS[organ]] = ORGAN_IDS[organ]
    if draft is None or not table.any():
        return submitted.array
    label = submitted.array.copy(order="K")
    fill(label, renamed(_draft_array(draft, submitted), table))
    return label


def _draft_array(
    draft: npt.NDArray[np.uint8] | None, submitted: Submitted
) -> npt.NDArray[np.uint8]:
    if draft is None:
        return np.zeros_like(submitted.array)
    if draft.shape != submitted.array.shape:
        raise GridMismatchError(
            "draft label", f"shape {draft.shape} is not that of the CT, {submitted.array.shape}"
        )
    return draft
