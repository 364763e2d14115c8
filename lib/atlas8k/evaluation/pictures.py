"""Pictures of single cases, where the CTs are at hand."""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas8k.errors import Atlas8kError
from atlas8k.evaluation.folders import find_labels, onto_truth, read_case
from atlas8k.preview import draw_planes
from atlas8k.volume import NIFTI_SUFFIXES, read_ct

log = logging.getLogger(__name__)

_CT_NAMES = ("{case}", "{case}_0000", "{case}/ct", "{case}/{case}", "{case}/image")


@dataclass(frozen=True)
class Picture:
    """A case in three planes: ``source`` is a ``data:`` address of a PNG."""

    case: str
    source: str
    text: str


def find_ct(folder: Path, case: str) -> Path | None:
    """The CT of a case in a folder, flat or a folder a case; ``None`` without one."""
    for name in _CT_NAMES:
        for suffix in NIFTI_SUFFIXES:
            path = folder / (name.format(case=case) + suffix)
            if path.is_file():
                return path
    return None


def draw_cases(
    cases: Sequence[str], images: str | Path, labels: str | Path | None = None
) -> tuple[list[Picture], list[str]]:
    """Draw cases with the organs of ``labels`` on them.

    Returns
    -------
    pictures, notes
        What could be drawn, and a sentence for each case that could not.
    """
    maps = find_labels(labels) if labels is not None else {}
    pictures, notes = [], []
    for case in cases:
        path = find_ct(Path(images), case)
        if path is None:
            notes.append(f"no picture of {case}: no CT of it in {images}")
            continue
        try:
            ct = read_ct(path)
            label = None
            if case in maps:
                mask, _ = onto_truth(read_case(maps[case]), ct, resampled=True)
                label = mask.array if mask.grid.same_as(ct.grid) else None
            with tempfile.TemporaryDirectory() as folder:
                drawn = draw_planes(Path(folder) / "case.png", ct, label)
                data = base64.b64encode(drawn.read_bytes()).decode("ascii")
        except Atlas8kError as err:
            notes.append(f"no picture of {case}: {err}")
            continue
        text = f"{case}: axial, coronal and sagittal slices" + (
            " with the truth's organs" if label is not None else ""
        )
        pictures.append(Picture(case, f"data:image/png;base64,{data}", text))
    for note in notes:
        log.warning("%s", note)
    return pictures, notes
