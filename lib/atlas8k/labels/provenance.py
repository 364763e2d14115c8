"""Where a label file comes from, kept in the file itself.

It is JSON in a NIfTI header extension of code 6 ("comment": plain ASCII text, shown by
``nifti_tool -disp_exts`` and passed over by what does not know it; registered, unlike a
code of our own), so that a file that is copied away still says what it is and a lost
ledger can be made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlas8k.grid import Grid
from atlas8k.ledger.records import OrganChange, OrganSource

LabelKind = Literal["assembled", "submission", "public", "pseudo"]


@dataclass(frozen=True)
class Provenance:
    """Where a label file comes from.

    Attributes
    ----------
    organs
        Source and state of every organ in the file.
    changes
        What a submission said of each organ; empty for other files.
    holder, anonymous
        :class:`~atlas8k.ledger.records.Holder` of a submission.
    submission
        Its number in the ledger; ids in `organs` are such numbers.
    at
        When it was made, UTC seconds since 1970.
    minutes
        From lease to submission.
    signature
        Model signature of the pseudo label, or that a submission began from.
    start_sha256
        Hex sha256 of the start label a submission began from.
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
    signature: str | None = None
    start_sha256: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


def write_label(
    path: str | Path, array: npt.NDArray[np.uint8], grid: Grid, provenance: Provenance
) -> Path:
    """Write a label map, ``(X, Y, Z)`` uint8, with where it comes from; complete or not at all.

    Raises
    ------
    GridMismatchError, UnreadableVolumeError
        As :func:`~atlas8k.volume.write_nifti`.
    """
    raise NotImplementedError


def read_provenance(path: str | Path) -> Provenance | None:
    """What a label file says of itself; ``None`` where it says nothing that can be used.

    Raises
    ------
    UnreadableVolumeError
        The file is no NIfTI file.
    """
    raise NotImplementedError
