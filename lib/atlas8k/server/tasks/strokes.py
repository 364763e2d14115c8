"""Model `strokes` of MONAI Label: what 3D Slicer's *Scribbles* panel asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from atlas8k.core.grid import Grid
from atlas8k.core.grid_alignment import Box
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_grid, read_label
from atlas8k.labels.scribbles import read_scribbles
from atlas8k.refine.strokes import Label, Strokes
from atlas8k.server.access import holder
from atlas8k.server.tasks.infer import temporary_result, wanted_suffix
from atlas8k.services.errors import NotFoundError, RequestError
from atlas8k.services.strokes import By, StrokeService

PARAMETERS = ("label_info", "selected_label_name", "roi", "client_id")
"""What the panel sends beside the map."""
MODELS: dict[By, str] = {"networks": "strokes", "nninteractive": "nninteractive"}
"""Names of the models, by what decides."""
_WHAT: dict[By, str] = {
    "networks": "Scribbles decide what the networks doubt; without them, by intensities",
    "nninteractive": "Scribbles go to nnInteractive's server, whose weights have a licence",
}


class StrokesInfer(InferTask):
    """One organ of the label that the client has, changed by its scribbles.

    The reply is a mask of that organ alone, value 1, since the panel imports it into the selected
    segment and nothing else.

    Parameters
    ----------
    given
        Gives the file of the label that a volume was given out with, as who asks may see it.
    by
        What decides.
    """

    def __init__(
        self,
        service: StrokeService,
        given: Callable[[str], Path],
        by: By = "networks",
    ) -> None:
        super().__init__(InferType.SCRIBBLES, dict(ORGAN_IDS), 3, _WHAT[by])
        self._service, self._given, self._by = service, given, by

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        begun = time.monotonic()
        sent = request.get("label")
        if not isinstance(sent, Path):  # no request can hold one: it was uploaded
            raise RequestError(
                "strokes: a label map with scribbles on it is needed, as 3D Slicer's Scribbles "
                "panel sends it"
            )
        volume = request.get("volume")
        grid = read_grid(request["image"])
        read = read_scribbles(
            sent,
            grid,
            request.get("label_info"),
            request.get("selected_label_name"),
            self._label_of(volume, grid),
        )
        if not len(read.inside) + len(read.outside):
            raise RequestError("strokes: there is no scribble in the map; paint one first")
        roi = _roi(request.get("roi"), grid)
        label = read.label if roi is None else read.label[roi]
        image: str | Path = volume if isinstance(volume, str) else Path(request["image"])
        answer = self._service.answer(
            *(image, read.organ, label, Strokes(read.inside, read.outside)),
            box=roi,
            by=self._by,
            asked_by=[holder(request.get("client_id")).key],
        )
        out = read.label.copy()
        if answer.box is not None and answer.refined is not None:
            out[answer.box] = answer.refined.label
        mask = (out == read.organ.id).astype(np.uint8)
        params = {
            "label_names": {read.organ.name: 1},
            "note": answer.note,
            "added_ml": _ml(grid, answer.refined.added if answer.refined else 0),
            "removed_ml": _ml(grid, answer.refined.removed if answer.refined else 0),
            "seconds": round(time.monotonic() - begun, 2),
        }
        return temporary_result(mask, grid.served, wanted_suffix(request)), params

    def _label_of(self, volume: object, grid: Grid) -> Label | None:
        if not isinstance(volume, str):
            return None
        try:
            label = read_label(self._given(volume)).array
        except NotFoundError:
            return None
        return label if label.shape == grid.shape else None


def _ml(grid: Grid, voxels: int) -> float:
    return round(voxels * grid.voxel_ml, 3)


def _roi(asked: object, grid: Grid) -> Box | None:
    """Return the box of a region of interest: first and last voxel of each axis, any order."""
    if asked in (None, []):
        return None
    numbers = asked if isinstance(asked, list) else []
    if len(numbers) != 6 or not all(isinstance(n, int | float) for n in numbers):
        raise RequestError("roi: six numbers are needed, first and last voxel of each axis")
    box = []
    for axis, n in enumerate(grid.shape):
        low, high = sorted(int(v) for v in numbers[2 * axis : 2 * axis + 2])
        low, high = max(0, low), min(n, high + 1)
        if high <= low:
            raise RequestError("roi: it lies outside of the CT")
        box.append(slice(low, high))
    return box[0], box[1], box[2]
