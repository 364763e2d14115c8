"""What a client can run on one CT: the ensemble, each network, the attention map."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from atlas8k.attention import AttentionSizes
from atlas8k.attention.salient import SalientSettings, salient_regions
from atlas8k.models.predict import Prediction
from atlas8k.organs import ORGAN_IDS
from atlas8k.server.device_lock import Turn
from atlas8k.server.engine import Engine
from atlas8k.server.startup import in_server
from atlas8k.settings import Settings
from atlas8k.volume import Grid, resample, write_nifti

logger = logging.getLogger(__name__)

ATTENTION_IDS = {f"attention_{name}": number for name, number in ORGAN_IDS.items()}
"""Names of the attention map's structures: a client replaces the segment of a result's
name, so these must never be an organ's own."""


SHOWN_REGIONS = 50


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
        self._engine, self._settings, self._network = engine, settings, network

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        start = time.monotonic()
        ct, prediction, signature = self._engine.predict(Path(request["image"]), turn())
        label = prediction.label_on(ct.grid, model=self._network)
        params = {
            "label_names": dict(ORGAN_IDS),
            "model_signature": signature,
            **figures(prediction.sizes(overlap=self._settings.overlap_term)),
            **warnings(prediction),
            "seconds": round(time.monotonic() - start, 2),
        }
        return temporary_result(label, ct.grid), params


class AttentionInfer(InferTask):
    """Salient regions of the attention map of one CT, one structure an organ."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        super().__init__(
            type=InferType.SEGMENTATION,
            labels=dict(ATTENTION_IDS),
            dimension=3,
            description="Where the networks disagree, are unsure or overlap: look here first",
        )
        self._engine, self._settings = engine, settings

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        start = time.monotonic()
        ct, prediction, signature = self._engine.predict(Path(request["image"]), turn())
        salient = salient_regions(
            prediction.probs,
            prediction.grid,
            salient_settings(self._settings),
            organs=prediction.organs,
            name=Path(request["image"]).name,
        )
        label = resample(salient.label(), prediction.grid, ct.grid, linear=False)
        params = {
            "label_names": dict(ATTENTION_IDS),
            "model_signature": signature,
            **figures(salient.sizes),
            # Indices of the CT's own array, so that a viewer can go there.
            "regions": [
                region.on(prediction.grid, ct.grid).as_dict()
                for region in salient.regions[:SHOWN_REGIONS]
            ],
            **warnings(prediction),
            "seconds": round(time.monotonic() - start, 2),
        }
        return temporary_result(label, ct.grid), params


def turn() -> Turn:
    """An annotator waits for what the server computes, nobody for a batch."""
    return Turn.INFERENCE if in_server() else Turn.SCORING


def salient_settings(settings: Settings) -> SalientSettings:
    """What counts as salient, from the app's settings."""
    return SalientSettings(
        inconsistency=settings.inconsistency_threshold,
        uncertainty=settings.uncertainty_threshold,
        opening_mm=settings.opening_mm,
        min_ml=settings.min_region_ml,
        overlap=settings.overlap_term,
    )


def figures(sizes: AttentionSizes) -> dict[str, Any]:
    """Attention sizes for a reply: ml, per organ and in all."""
    return {
        "attention_ml": {name: round(ml, 3) for name, ml in sizes.organ_ml.items()},
        "attention_total_ml": round(sizes.total_ml, 3),
    }


def warnings(prediction: Prediction) -> dict[str, Any]:
    """Networks of the set that had no part in a result, and why."""
    return {"left_out": dict(prediction.failures)} if prediction.failures else {}


def temporary_result(array: npt.NDArray[np.uint8], grid: Grid) -> str:
    """Write a result to a file of its own: MONAI Label deletes it after the reply."""
    handle, name = tempfile.mkstemp(prefix="atlas8k-", suffix=".nii.gz")
    os.close(handle)
    return str(write_nifti(name, array, grid))
