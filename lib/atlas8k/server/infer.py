"""What a client can run on one CT: the ensemble, each network, the attention map.

`attention` never touches an organ. 3D Slicer gets boxes (markups): a label map would
become segments there, and the merged export of a save would cut them out of the organs.
A client that takes no boxes gets a label map, whose structures have names of their own.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from atlas8k.attention import AttentionSizes
from atlas8k.attention.explain import place_of_region, slice_axis
from atlas8k.labels.boxes import write_markups
from atlas8k.labels.nrrd_file import write_nrrd
from atlas8k.organs import ORGAN_IDS
from atlas8k.server.answers import Answers, salient_settings
from atlas8k.server.device_lock import Turn
from atlas8k.server.engine import Engine
from atlas8k.server.errors import RequestError
from atlas8k.server.startup import in_server
from atlas8k.settings import Settings
from atlas8k.volume import Grid, write_nifti

__all__ = ["AttentionInfer", "OrganInfer", "salient_settings", "temporary_result"]

logger = logging.getLogger(__name__)

ATTENTION_IDS = {f"attention_{name}": number for name, number in ORGAN_IDS.items()}
"""Names of the attention map's structures: a client replaces the segment of a result's
name, so these must never be an organ's own."""

SHOWN_REGIONS = 50
FORMS = ("boxes", "label")
IMAGE_OUTPUTS = ("image", "dicom_seg")


class OrganInfer(InferTask):
    """Organs of one CT by the ensemble or by one network, on the CT's own grid.

    Parameters
    ----------
    engine
        The networks.
    network
        Name of one network, ``None`` for the ensemble's mean.
    """

    def __init__(self, engine: Engine, settings: Settings, network: str | None) -> None:
        what = "mean of the three networks" if network is None else f"network {network} alone"
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=dict(ORGAN_IDS),
            dimension=3,
            description=f"Nine abdominal organs: {what}, cut at 0.5",
        )
        self._engine, self._network = engine, network

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        start = time.monotonic()
        grid, answers, signature = self._engine.answers(
            Path(request["image"]), turn(), request.get("volume")
        )
        label = answers.label_on(grid, model=self._network)
        params = {
            "label_names": dict(ORGAN_IDS),
            "model_signature": signature,
            **figures(answers.sizes),
            **warnings(answers),
            "seconds": round(time.monotonic() - start, 2),
        }
        return temporary_result(label, grid.served, wanted_suffix(request)), params


class AttentionInfer(InferTask):
    """Salient regions of the attention map of one CT, as boxes or as one structure an organ."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        super().__init__(
            # Not "detection": 3D Slicer would then submit boxes in place of the organs.
            type=InferType.SEGMENTATION,
            labels=dict(ATTENTION_IDS),
            dimension=3,
            description="Where the networks disagree, are unsure or overlap: look here first",
            config={"form": list(FORMS)},
        )
        self._engine = engine

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        start, form = time.monotonic(), wanted_form(request)
        grid, answers, signature = self._engine.answers(
            Path(request["image"]), turn(), request.get("volume")
        )
        regions = answers.regions_on(grid)
        params = {
            "form": form,
            "label_names": dict(ATTENTION_IDS),
            "model_signature": signature,
            **figures(answers.sizes),
            # Indices of the CT's own array, and as viewers show them.
            "regions": [
                {
                    **region.as_dict(),
                    "place": place_of_region(region, grid, slice_axis(grid)).as_dict(),
                }
                for region in regions[:SHOWN_REGIONS]
            ],
            **warnings(answers),
            "seconds": round(time.monotonic() - start, 2),
        }
        if form == "boxes":
            return str(write_markups(temporary_path(".json"), regions, grid.served)), params
        label = answers.attention_on(grid)
        return temporary_result(label, grid.served, wanted_suffix(request)), params


def wanted_form(request: Mapping[str, Any]) -> str:
    """``"boxes"`` or ``"label"``, by what a client says or is known to take.

    Parameters
    ----------
    request
        ``output`` ``image`` or ``dicom_seg``: an image is asked for by name;
        ``restore_label_idx``: OHIF, which takes label maps only; ``form``: as it says.

    Raises
    ------
    RequestError
        There is no such form.
    """
    form = request.get("form", "boxes")
    if form not in FORMS:
        raise RequestError(f"form: {str(form)[:80]!r}; there are {' and '.join(FORMS)}")
    if request.get("output") in IMAGE_OUTPUTS or "restore_label_idx" in request:
        return "label"
    return str(form)


def wanted_suffix(request: Mapping[str, Any]) -> str:
    """``.nrrd`` where OHIF asks for a result, which reads nothing else; else ``.nii.gz``.

    3D Slicer asks for ``.nrrd`` too, reads both, and is better off with the packed one: it
    takes its results in several parts (``output`` other than ``image``).
    """
    if request.get("output") == "image" and request.get("result_extension") == ".nrrd":
        return ".nrrd"
    return ".nii.gz"


def turn() -> Turn:
    """An annotator waits for what the server computes, nobody for a batch."""
    return Turn.INFERENCE if in_server() else Turn.SCORING


def figures(sizes: AttentionSizes) -> dict[str, Any]:
    """Attention sizes for a reply: ml, per organ and in all."""
    return {
        "attention_ml": {name: round(ml, 3) for name, ml in sizes.attention_ml.items()},
        "attention_total_ml": round(sizes.total_ml, 3),
    }


def warnings(answers: Answers) -> dict[str, Any]:
    """Networks of the set that had no part in a result, and why."""
    return {"left_out": dict(answers.failures)} if answers.failures else {}


def temporary_path(suffix: str) -> Path:
    """An empty file of its own: MONAI Label deletes it after the reply."""
    handle, name = tempfile.mkstemp(prefix="atlas8k-", suffix=suffix)
    os.close(handle)
    return Path(name)


def temporary_result(array: npt.NDArray[np.uint8], grid: Grid, suffix: str = ".nii.gz") -> str:
    """Write a result to a file of its own: MONAI Label deletes it after the reply.

    A NRRD file comes unpacked: OHIF takes packed voxels for numbers of two bytes.
    """
    path = temporary_path(suffix)
    if suffix == ".nrrd":
        return str(write_nrrd(path, array, grid))
    return str(write_nifti(path, array, grid))
