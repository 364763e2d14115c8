"""Pictures of single cases, where the CTs are at hand."""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlas8k.errors import Atlas8kError
from atlas8k.evaluation.folders import find_labels, read_case
from atlas8k.preview import best_point, draw_planes
from atlas8k.volume import NIFTI_SUFFIXES, Volume, read_ct, resample, to_canonical

log = logging.getLogger(__name__)

_CT_NAMES = ("{case}", "{case}_0000", "{case}/ct", "{case}/{case}", "{case}/image")


@dataclass(frozen=True)
class Picture:
    """A case in three planes: ``source`` is a ``data:`` address of a JPEG."""

    case: str
    source: str
    text: str


@dataclass(frozen=True)
class Shown:
    """A network's label of a case, to be drawn beside the truth.

    ``labels`` is its folder of label maps, ``said`` its result in words.
    """

    network: str
    labels: str | Path
    said: str = ""


def find_ct(folder: Path, case: str) -> Path | None:
    """The CT of a case in a folder, flat or a folder a case; ``None`` without one."""
    for name in _CT_NAMES:
        for suffix in NIFTI_SUFFIXES:
            path = folder / (name.format(case=case) + suffix)
            if path.is_file():
                return path
    return None


def draw_cases(
    cases: Sequence[str],
    images: str | Path,
    labels: str | Path | None = None,
    networks: Mapping[str, Shown] | None = None,
) -> tuple[list[Picture], list[str]]:
    """Draw cases with the organs of ``labels`` on them, and with those of a network.

    Parameters
    ----------
    images, labels
        Folders of CTs and of the truth.
    networks
        Case to the network whose label is drawn too; both then show the planes where it
        differs most from the truth.

    Returns
    -------
    pictures, notes
        What could be drawn, and a sentence for each case that could not.
    """
    maps = find_labels(labels) if labels is not None else {}
    folders = {shown.labels for shown in (networks or {}).values()}
    predicted = {folder: find_labels(folder) for folder in folders}
    pictures: list[Picture] = []
    notes = []
    for case in cases:
        path = find_ct(Path(images), case)
        if path is None:
            notes.append(f"no picture of {case}: no CT of it in {images}")
            continue
        shown = (networks or {}).get(case)
        try:
            ct = read_ct(path)
            truth = _on(ct, maps.get(case))
            own = None if shown is None else _on(ct, predicted[shown.labels].get(case))
            if shown is not None and own is None:
                notes.append(f"no label of {case} in {shown.labels}")
            pictures += _pictures(case, ct, truth, shown, own)
        except Atlas8kError as err:
            notes.append(f"no picture of {case}: {err}")
    for note in notes:
        log.warning("%s", note)
    return pictures, notes


def _on(ct: Volume, path: Path | None) -> npt.NDArray[np.uint8] | None:
    """A label map on the CT's grid, axes as the CT's file has them."""
    if path is None:
        return None
    label = read_case(path)
    if not label.grid.same_as(ct.grid):
        return resample(label.array, label.grid, ct.grid, linear=False).astype(np.uint8)
    return label.array.astype(np.uint8)


def _pictures(
    case: str,
    ct: Volume,
    truth: npt.NDArray[np.uint8] | None,
    shown: Shown | None,
    own: npt.NDArray[np.uint8] | None,
) -> list[Picture]:
    point = None
    if truth is not None and own is not None:
        differing = to_canonical(Volume((truth != own).astype(np.uint8), ct.grid)).array
        point = best_point(differing > 0) if differing.any() else None
    planes = f"{case}: axial, coronal and sagittal slices"
    if truth is None and own is None:
        return [_picture(case, planes, ct, None, point)]
    found = []
    if truth is not None:
        found.append(_picture(case, f"{planes} with the truth's organs", ct, truth, point))
    if shown is not None and own is not None:
        said = f" ({shown.said})" if shown.said else ""
        found.append(
            _picture(case, f"{planes} with the organs of {shown.network}{said}", ct, own, point)
        )
    return found


def _picture(
    case: str,
    text: str,
    ct: Volume,
    label: npt.NDArray[np.uint8] | None,
    point: tuple[int, int, int] | None,
) -> Picture:
    # A page holds twenty of these: as PNG it would be three times as large.
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw_planes(Path(folder) / "case.jpg", ct, label, point=point)
        data = base64.b64encode(drawn.read_bytes()).decode("ascii")
    return Picture(case, f"data:image/jpeg;base64,{data}", text)
