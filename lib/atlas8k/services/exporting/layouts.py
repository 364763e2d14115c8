"""Lay a label map out as other programs read it: file names, values, and which organs are known.

An organ that is unknown in a volume is never background: where there is one file or one segment
an organ it has none; a label map of nnU-Net's goes to a set that does not name the organ; a flat
label map is not written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlas8k.core.structure_sets import NINE
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.voxels import mask_table, renamed, table_of

Layout = Literal["abdomenatlas", "nnunet", "flat", "dicom"]

FIRST_NUMBER = 400
"""Of the nnU-Net set that holds every organ; those below it come with data of nnU-Net's own."""
_OPEN = 512
_MANY = 100_000
"""Numbers from here on are of sets that lack others than the first nine structures."""
_LONGEST = 60
"""Of the list of missing structures in a folder's name."""
IGNORE = "ignore"
"""nnU-Net's name of voxels that are neither trained on nor measured."""
MASKS = "segmentations"


def set_folder(organs: Sequence[str], among: Sequence[str], open_voxels: bool, name: str) -> str:
    """Return the nnU-Net set of volumes in which these organs are known, of those exported.

    It follows from the organs alone, so that it stays the same as volumes are added: a number
    for each set of organs that are missing.
    """
    missing = [organ for organ in among if organ not in organs]
    ids = [ORGAN_IDS[organ] for organ in missing]
    # nnU-Net knows a set by its number, and says so in three digits; more are allowed.
    if max(ids, default=0) <= len(NINE):
        number = FIRST_NUMBER + sum(1 << (i - 1) for i in ids) + _OPEN * open_voxels
    else:
        bits = sum(1 << (i - 1) for i in ids) * 2 + open_voxels
        number = _MANY + zlib.crc32(str(bits).encode()) % _MANY
    without = "".join(f"_{i}" for i in ids)
    if len(without) > _LONGEST:
        without = f"_{len(ids)}_{zlib.crc32(without.encode()):08x}"
    parts = [name, f"_without{without}" if missing else "", "_open" if open_voxels else ""]
    return f"Dataset{number}_{''.join(parts)}"


def values_of(organs: Sequence[str], open_voxels: bool = False) -> dict[str, int]:
    """Return nnU-Net's labels: consecutive numbers, in the order of the organs' ids."""
    known = [organ for organ in ORGAN_NAMES if organ in organs]
    names = ["background", *known, *([IGNORE] if open_voxels else [])]
    return {name: value for value, name in enumerate(names)}


def folder_of(
    layout: Layout, record: Mapping[str, Any], among: Sequence[str], set_name: str
) -> PurePosixPath:
    """Return the folder of a volume's files below the export."""
    if layout in ("abdomenatlas", "dicom"):
        return PurePosixPath(record["name"])
    if layout == "nnunet":
        opened = bool(record.get("open_voxels"))
        return PurePosixPath(set_folder(list(record["organs"]), among, opened, set_name))
    return PurePosixPath()


def ct_file(layout: Layout, name: str, test: bool = False) -> str:
    """Return where a CT lies below :func:`folder_of`; of ``dicom``, the folder of its series."""
    return {
        "abdomenatlas": "ct.nii.gz",
        "nnunet": f"images{'Ts' if test else 'Tr'}/{name}_0000.nii.gz",
        "flat": f"images/{name}.nii.gz",
        "dicom": "ct",
    }[layout]


def label_files(
    layout: Layout,
    name: str,
    array: npt.NDArray[np.uint8],
    organs: Sequence[str],
    complete: bool,
    opened: npt.NDArray[np.bool_] | None,
    test: bool = False,
) -> Iterator[tuple[str, npt.NDArray[np.uint8], dict[str, int]]]:
    """Yield the label files of a volume: place, voxels, and the value of each organ in it.

    Parameters
    ----------
    array
        ``(X, Y, Z)`` uint8, organ ids.
    organs
        Those that are known, absent ones included.
    complete
        Whether these are all that are exported.
    opened
        ``(X, Y, Z)`` bool, voxels that could be any organ; None where there are none.
    test
        It is in a test set.
    """
    ids = {organ: ORGAN_IDS[organ] for organ in organs}
    same = {value: value for value in ids.values()}
    if layout == "abdomenatlas":
        if opened is not None:
            yield "unknown.nii.gz", opened.view(np.uint8), {}
        elif complete:
            yield "combined_labels.nii.gz", renamed(array, table_of(same)), ids
        for organ, value in ids.items():
            yield f"{MASKS}/{organ}.nii.gz", renamed(array, mask_table(value)), {organ: 1}
    elif layout == "nnunet":
        values = values_of(organs, opened is not None)
        made = renamed(array, table_of({value: values[organ] for organ, value in ids.items()}))
        if opened is not None:
            made = np.where(opened, np.uint8(values[IGNORE]), made)
        yield f"labels{'Ts' if test else 'Tr'}/{name}.nii.gz", made, {o: values[o] for o in ids}
    elif layout == "dicom":
        # A segment for each organ with voxels: one that is unknown has none, and is not background.
        made = renamed(array, table_of(same))
        if opened is None and made.any():
            yield "segmentation.dcm", made, {}
    elif complete and opened is None:
        yield f"labels/{name}.nii.gz", renamed(array, table_of(same)), ids


def why_no_file(layout: Layout, organs: Iterable[str], among: Iterable[str]) -> str:
    """Return why a layout has no file for a volume of which these organs are known."""
    known = set(organs)
    unknown = ", ".join(organ for organ in among if organ not in known) or "some voxels"
    if layout == "dicom":
        return f"{unknown} could be any organ, or no organ has a voxel: DICOM SEG cannot say so"
    return (
        f"{unknown}: unknown, and one label map would say background; another layout can leave "
        "it open, or leave it out with --organs"
    )


def dataset_json(organs: Sequence[str], opened: bool, volumes: int, **more: Any) -> dict[str, Any]:
    """Return an nnU-Net set's own description."""
    return {
        "channel_names": {"0": "CT"},
        "labels": values_of(organs, opened),
        "numTraining": volumes,
        "file_ending": ".nii.gz",
        **more,
    }
