"""A label map as a client sends it, made into one of ours or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import Grid, read_grid
from atlas8k.labels.ingest import ingest as take_in
from atlas8k.labels.ingest import organ_names


@dataclass(frozen=True, eq=False)
class Submission:
    """A label map that may be kept.

    Attributes
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids 0 to 9, on the CT's own grid.
    grid
        The CT's own grid.
    info
        What the client sent with it, and: ``present`` (organs with voxels), ``absent``
        (organs the annotator looked for and did not find), ``read_by`` (what decided which
        voxels are which organ), ``notes`` (how it was taken, where it could be taken in more
        than one way; left out where it could not). Organs in neither are not
        confirmed: nobody has said anything about them.
    """

    array: npt.NDArray[np.uint8]
    grid: Grid
    info: dict[str, Any]


def ingest(ct_path: Path, label_path: Path, params: Mapping[str, Any]) -> Submission:
    """Check a submitted label map and bring it to organ ids on the CT's grid.

    Parameters
    ----------
    ct_path
        The CT it belongs to.
    label_path
        The file as uploaded.
    params
        ``label_info``: ``[{"name": ..., "idx": ...}, ...]`` as 3D Slicer sends it; the
        value of a structure is 1 + its *position* in this list (``idx`` also counts
        segments that were left out). Without it, values are organ ids.
        ``absent``: names of organs that are not there.

    Raises
    ------
    VolumeError
        Not readable, not 3D, empty, not on the CT's grid; values or names that mean no organ.
    """
    absent = params.get("absent")
    submitted = take_in(
        label_path,
        read_grid(ct_path),
        params.get("label_info"),
        absent=[] if absent is None else absent,
    )
    info = {
        **{
            key: value for key, value in params.items() if key not in {"present", "absent", "notes"}
        },
        "present": [organ for organ in ORGAN_NAMES if submitted.voxels.get(organ)],
        "absent": organ_names(absent or [], "absent"),
        "read_by": submitted.read_by,
        **({"notes": list(submitted.notes)} if submitted.notes else {}),
        # 3D Slicer reads the names of a stored label here.
        "params": {"label_names": dict(ORGAN_IDS)},
    }
    return Submission(submitted.array, submitted.grid, info)
