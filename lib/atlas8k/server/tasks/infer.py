"""What a client can run on one CT: the ensemble, each network, the attention map.

`attention` never touches an organ. 3D Slicer gets boxes (markups): a label map would
become segments there, and the merged export of a save would cut them out of the organs.
A client that takes no boxes gets a label map, whose structures have names of their own.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from atlas8k.attention.explain import place_of_region, slice_axis
from atlas8k.attention.markups import write_markups
from atlas8k.attention.recalibration import EMBEDDED
from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import Grid, read_grid, read_label, write_nifti
from atlas8k.formats.nrrd import write_nrrd
from atlas8k.server.startup import in_server
from atlas8k.services.calibrations import Calibrations
from atlas8k.services.device_lock import Turn
from atlas8k.services.errors import RequestError
from atlas8k.services.prediction.answers import Answers
from atlas8k.services.prediction.engine import Engine


def attention_ids() -> dict[str, int]:
    """Return the segment names of attention regions and their values."""
    return {f"attention_{name}": number for name, number in ORGAN_IDS.items()}


"""Names of the attention map's structures: a client replaces the segment of a result's
name, so these must never be an organ's own."""

SHOWN_REGIONS = 50
FORMS = ("boxes", "label")
IMAGE_OUTPUTS = ("image", "dicom_seg")


class _Infer(InferTask):
    """What both share: the engine's answers for one CT, and what is said with a result."""

    def __init__(
        self,
        engine: Engine,
        labels: Mapping[str, int],
        description: str,
        calibrations: Calibrations | None,
        **more: Any,
    ) -> None:
        # Not "detection" for boxes: 3D Slicer would then submit boxes in place of the organs.
        super().__init__(InferType.SEGMENTATION, dict(labels), 3, description, **more)
        self._engine, self._label_names = engine, labels
        self._calibrations = calibrations

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        start = time.monotonic()
        # An annotator waits for what the server computes, nobody for a batch.
        turn = Turn.INFERENCE if in_server() else Turn.SCORING
        image, volume = Path(request["image"]), request.get("volume")
        grid, answers, model_version = self._engine.answers(image, turn, volume)
        result, more = self._result(request, grid, answers)
        sizes = answers.sizes
        params = {
            "label_names": dict(self._label_names),
            "model_version": model_version,
            "model_signature": model_version,  # its name before 0.2
            "attention_ml": {name: round(ml, 3) for name, ml in sizes.attention_ml.items()},
            "attention_total_ml": round(sizes.total_ml, 3),
            **self._quality(answers, model_version),
            **more,
            **({"left_out": dict(answers.failures)} if answers.failures else {}),
            "seconds": round(time.monotonic() - start, 2),
        }
        return result, params

    def _quality(self, answers: Answers, model_version: str) -> dict[str, Any]:
        """Return what is predicted of the ensemble's label, and what that rests on."""
        if answers.expected is None:
            return {"quality": {}, "quality_basis": answers.unknown}
        calibration = (
            EMBEDDED if self._calibrations is None else self._calibrations.of(model_version)
        )
        quality = calibration.applied(answers.expected.as_dict())
        return {"quality": quality, "quality_basis": calibration.text}

    def _result(
        self, request: Mapping[str, Any], grid: Grid, answers: Answers
    ) -> tuple[str, dict[str, Any]]:
        """Return the file of a result, and what else is to be said of it."""
        raise NotImplementedError


class OrganInfer(_Infer):
    """Organs of one CT by the ensemble or by one network, on the CT's own grid.

    Parameters
    ----------
    engine
        The networks.
    network
        Name of one network, ``None`` for the ensemble's mean.
    calibrations
        Of predicted quality; as embedded where ``None``.
    """

    def __init__(
        self, engine: Engine, network: str | None, calibrations: Calibrations | None = None
    ) -> None:
        what = "mean of the three networks" if network is None else f"network {network} alone"
        about = f"Nine abdominal organs: {what}, cut at 0.5"
        super().__init__(engine, ORGAN_IDS, about, calibrations)
        self._network = network

    def _result(
        self, request: Mapping[str, Any], grid: Grid, answers: Answers
    ) -> tuple[str, dict[str, Any]]:
        label = answers.label_on(grid, model=self._network)
        return temporary_result(label, grid.served, wanted_suffix(request)), {}


class DraftInfer(InferTask):
    """The draft label as it is, for a viewer that cannot fetch labels: nothing is predicted.

    Parameters
    ----------
    current
        Gives the file of the draft label of a volume, as who asks may see it.
    """

    def __init__(self, current: Callable[[str], Path]) -> None:
        what = "The draft label: public and revised organs where there are, predicted elsewhere"
        super().__init__(InferType.SEGMENTATION, dict(ORGAN_IDS), 3, what)
        self._current = current

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        volume = request.get("volume")
        if not isinstance(volume, str):
            raise RequestError("draft: an image of the studies is needed, an upload has none")
        label, grid = read_label(self._current(volume)), read_grid(request["image"])
        result = temporary_result(label.array, grid.served, wanted_suffix(request))
        return result, {"label_names": dict(ORGAN_IDS)}


class AttentionInfer(_Infer):
    """Places to look at in one CT, as boxes or as one structure an organ."""

    def __init__(self, engine: Engine, calibrations: Calibrations | None = None) -> None:
        what = "Where the networks disagree, are unsure or overlap: look here first"
        super().__init__(engine, attention_ids(), what, calibrations, config={"form": list(FORMS)})

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        wanted_form(request)  # refused before anything is computed
        return super().__call__(request)

    def _result(
        self, request: Mapping[str, Any], grid: Grid, answers: Answers
    ) -> tuple[str, dict[str, Any]]:
        form, regions, axis = wanted_form(request), answers.regions_on(grid), slice_axis(grid)
        # Indices of the CT's own array, and as viewers show them.
        shown = [
            {**region.as_dict(), "place": place_of_region(region, grid, axis).as_dict()}
            for region in regions[:SHOWN_REGIONS]
        ]
        more = {"form": form, "regions": shown}
        if form == "boxes":
            return str(write_markups(temporary_path(".json"), regions, grid.served)), more
        label = answers.attention_on(grid)
        return temporary_result(label, grid.served, wanted_suffix(request)), more


def wanted_form(request: Mapping[str, Any]) -> str:
    """Return ``"boxes"`` or ``"label"``, by what a client says or is known to take.

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
    """Return ``.nrrd`` where OHIF asks for a result, which reads nothing else; else ``.nii.gz``.

    3D Slicer asks for ``.nrrd`` too, reads both, and is better off with the packed one: it
    takes its results in several parts (``output`` other than ``image``).
    """
    if request.get("output") == "image" and request.get("result_extension") == ".nrrd":
        return ".nrrd"
    return ".nii.gz"


def temporary_path(suffix: str) -> Path:
    """Return an empty file of its own: MONAI Label deletes it after the reply."""
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
