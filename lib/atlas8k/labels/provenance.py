"""Write and read where a label file comes from, in the file itself.

It is JSON in a NIfTI header extension of code 6 ("comment": plain ASCII text, shown by
``nifti_tool -disp_exts`` and passed over by what does not know it; registered, unlike a
code of our own), so that a copied file still states its origin and a lost
ledger can be rebuilt.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from atlas8k.core.grid import Grid
from atlas8k.core.organ_states import OLDER_RULE, OrganChange, OrganSource
from atlas8k.core.structures import ORGAN_NAMES
from atlas8k.core.volume import read_comments, write_nifti

logger = logging.getLogger(__name__)

LabelKind = Literal["assembled", "submission", "public", "pseudo"]

_MARK, _VERSION = "atlas8k_label", 1
_SOURCES = ("public", "revised", "pseudo")
_STATES = ("present", "absent", "unknown", "confirmed", "revised", "not_assessed")
_CHANGES = ("confirmed", "revised", "absent", "not_assessed")
LOOKED_AT = "looked_at"
"""Key of a submission's detail: the organs that were looked at. Earlier releases wrote none,
and took every organ that had not been changed for confirmed."""


@dataclass(frozen=True)
class Provenance:
    """Origin of a label file.

    Attributes
    ----------
    organs
        Source and state of every organ in the file.
    changes
        Outcome of a submission for each organ; empty for other files.
    holder, anonymous
        :class:`~atlas8k.store.records.Holder` of a submission.
    submission
        Its number in the ledger; ids in `organs` are such numbers.
    at
        When it was made, UTC seconds since 1970.
    minutes
        From lease to submission.
    model_version
        Model version of the pseudo label, or of the draft label a submission began from.
    start_sha256
        Hex sha256 of the draft label a submission began from.
    detail
        Anything else, JSON-ready.
    """

    kind: LabelKind
    organs: Mapping[str, OrganSource] = field(default_factory=dict)
    changes: Mapping[str, OrganChange] = field(default_factory=dict)
    holder: str | None = None
    anonymous: bool = False
    submission: int | None = None
    at: float | None = None
    minutes: float | None = None
    model_version: str | None = None
    start_sha256: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


_PROVENANCE = TypeAdapter(Provenance)
_FORMER_MODEL_VERSION = "signature"
"""Its key in labels of releases before this one."""


def write_label(
    path: str | Path, array: npt.NDArray[np.uint8], grid: Grid, provenance: Provenance
) -> Path:
    """Write a label map, ``(X, Y, Z)`` uint8, with where it comes from; complete or not at all.

    Raises
    ------
    GridMismatchError, UnreadableVolumeError
        As :func:`~atlas8k.core.volume.write_nifti`.
    """
    return write_nifti(path, array, grid, comment=to_json(provenance))


def read_provenance(path: str | Path) -> Provenance | None:
    """Read the provenance in a label file's header; ``None`` where there is none to be used.

    Raises
    ------
    VolumeError
        The file is no NIfTI file.
    """
    for text in read_comments(path):
        if provenance := from_json(text):
            return provenance
    return None


def to_json(provenance: Provenance) -> str:
    """Return a provenance as ASCII text for the file; fields at their defaults are left out."""
    record: dict[str, Any] = {
        **{item.name: getattr(provenance, item.name) for item in fields(provenance)},
        "organs": {
            organ: _without_defaults(source._asdict())
            for organ, source in provenance.organs.items()
        },
        "changes": {
            organ: _without_defaults(change._asdict())
            for organ, change in provenance.changes.items()
        },
    }
    return json.dumps({_MARK: _VERSION, **_without_defaults(record)}, allow_nan=False, default=str)


def _without_defaults(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without None, False and empty mappings; a count of 0 stays."""
    return {
        key: value
        for key, value in record.items()
        if not (value is None or value is False or value == {})
    }


def from_json(text: str) -> Provenance | None:
    """Read a provenance that :func:`to_json` wrote; ``None`` for any other text."""
    try:
        record = json.loads(text)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.pop(_MARK, None) != _VERSION:
        return None
    if _FORMER_MODEL_VERSION in record:
        record["model_version"] = record.pop(_FORMER_MODEL_VERSION)
    try:
        provenance = _upgraded(_PROVENANCE.validate_python(record))
    except ValidationError as error:
        logger.info("provenance that cannot be used: %s", error)
        return None
    return provenance if _is_usable(provenance) else None


def _upgraded(provenance: Provenance) -> Provenance:
    """Return the provenance of an earlier release in the states of this one."""
    changes = {
        organ: change._replace(state="not_assessed")
        if change.state in ("unchanged", "not_confirmed")
        else change
        for organ, change in provenance.changes.items()
    }
    if provenance.kind == "submission" and LOOKED_AT not in provenance.detail:
        changes = {
            organ: change._replace(note=OLDER_RULE) if change.state == "confirmed" else change
            for organ, change in changes.items()
        }
    organs = {
        organ: OrganSource("pseudo", "unknown") if source.state == "not_confirmed" else source
        for organ, source in provenance.organs.items()
    }
    return replace(provenance, changes=changes, organs=organs)


def _is_usable(provenance: Provenance) -> bool:
    """Return whether it can go into the store: known organs and states, finite numbers."""
    numbers = [
        provenance.at,
        provenance.minutes,
        *(change.dsc for change in provenance.changes.values()),
    ]
    return (
        set(provenance.organs) | set(provenance.changes) <= set(ORGAN_NAMES)
        and all(s.source in _SOURCES and s.state in _STATES for s in provenance.organs.values())
        and all(change.state in _CHANGES for change in provenance.changes.values())
        and all(math.isfinite(number) for number in numbers if number is not None)
    )
