"""A label map as a client sends it, made into one of ours or refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas8k.errors import EmptyVolumeError, GridMismatchError
from atlas8k.organs import N_ORGANS, ORGAN_IDS, ORGAN_NAMES, find_organ
from atlas8k.server.errors import RequestError
from atlas8k.volume import Grid, Volume, read_grid, read_label, resample


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
        (organs the annotator looked for and did not find). Organs in neither are not
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
        Not readable, not 3D, empty, or not on the CT's grid.
    RequestError
        Values or names that mean no organ.
    """
    grid = read_grid(ct_path)
    # By its header first: what does not fit is not read, however large it claims to be.
    _check_grid(label_path, grid, ct_path)
    array = _on_grid(read_label(label_path), grid)
    absent = _organs("absent", params.get("absent"))
    ids = _rename(array, params.get("label_info"))
    present = [ORGAN_NAMES[i - 1] for i in np.unique(ids) if i]
    if not present and not absent:
        raise EmptyVolumeError(
            label_path.name,
            "the label map holds no organ; name organs that are not there in absent",
        )
    both = sorted(set(present) & set(absent))
    if both:
        raise RequestError(f"absent: {', '.join(both)} has voxels in the label map")
    info = {
        **{key: value for key, value in params.items() if key not in {"present", "absent"}},
        "present": present,
        "absent": absent,
        # 3D Slicer reads the names of a stored label here.
        "params": {"label_names": dict(ORGAN_IDS)},
    }
    return Submission(ids, grid, info)


def _check_grid(label_path: Path, grid: Grid, ct_path: Path) -> None:
    found = read_grid(label_path)
    # A tool that stores the axes in another order still means the same voxels.
    if not found.same_as(grid) and not found.canonical().same_as(grid.canonical()):
        raise GridMismatchError(
            label_path,
            f"shape {found.shape} and position do not fit the CT {ct_path.name} of shape "
            f"{grid.shape}; export the label map with the CT as reference volume",
        )


def _on_grid(label: Volume, grid: Grid) -> npt.NDArray[np.uint8]:
    if label.grid.same_as(grid):
        return np.asarray(label.array, dtype=np.uint8)
    return np.asarray(resample(label.array, label.grid, grid, linear=False), dtype=np.uint8)


def _rename(array: npt.NDArray[np.uint8], label_info: object) -> npt.NDArray[np.uint8]:
    values = [int(v) for v in np.unique(array) if v]
    if label_info is None:
        unknown = [v for v in values if v > N_ORGANS]
        if unknown:
            raise RequestError(
                f"label values {unknown} mean no organ: without label_info, values are "
                f"{', '.join(f'{i} {name}' for name, i in ORGAN_IDS.items())}"
            )
        return array
    table = np.zeros(256, dtype=np.uint8)
    named = dict(enumerate(_names(label_info), start=1))
    for value in values:
        if value not in named:
            raise RequestError(
                f"label value {value} has no entry: label_info names {len(named)} structures"
            )
        organ = find_organ(named[value])
        # Regions the attention map marked are no organ and are left out, as are
        # structures of the annotator's own; they must not be lost silently though.
        if organ is None and not named[value].startswith("attention_"):
            raise RequestError(
                f"label_info: {named[value]!r} is no organ of this server; "
                f"there are: {', '.join(ORGAN_NAMES)}"
            )
        table[value] = organ.id if organ else 0
    return table[array]


def _names(label_info: object) -> list[str]:
    if not isinstance(label_info, Sequence) or isinstance(label_info, str):
        raise RequestError('label_info must be a list of {"name": ..., "idx": ...}')
    names = [entry.get("name") if isinstance(entry, Mapping) else None for entry in label_info]
    if not all(isinstance(name, str) for name in names):
        raise RequestError('label_info must be a list of {"name": ..., "idx": ...}')
    return [str(name) for name in names]


def _organs(key: str, names: object) -> list[str]:
    if names is None:
        return []
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise RequestError(f"{key} must be a list of organ names")
    organs = [find_organ(str(name)) for name in names]
    if None in organs:
        raise RequestError(f"{key}: organs are {', '.join(ORGAN_NAMES)}")
    return sorted({organ.name for organ in organs if organ})
