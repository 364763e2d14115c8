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

from atlas8k.attention import attention_sizes
from atlas8k.models.predict import Prediction
from atlas8k.organs import ORGAN_IDS
from atlas8k.server.engine import Engine
from atlas8k.settings import Settings
from atlas8k.volume import Grid, write_nifti

logger = logging.getLogger(__name__)

ATTENTION_IDS = {f"attention_{name}": number for name, number in ORGAN_IDS.items()}
"""Names of the attention map's structures: a client replaces the segment of a result's
name, so these must never be an organ's own."""


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
        ct, prediction, signature = self._engine.predict(Path(request["image"]))
        label = prediction.label_on(ct.grid, model=self._network)
        params = {
            "label_names": dict(ORGAN_IDS),
            "model_signature": signature,
            **attention_figures(prediction, self._settings),
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
        raise NotImplementedError


def attention_figures(prediction: Prediction, settings: Settings) -> dict[str, Any]:
    """Attention sizes of a prediction for a reply: ml, per organ and in all."""
    sizes = attention_sizes(
        prediction.probs, prediction.grid.voxel_ml, overlap=settings.overlap_term
    )
    return {
        "attention_ml": {name: round(ml, 3) for name, ml in sizes.organ_ml.items()},
        "attention_total_ml": round(sizes.total_ml, 3),
    }


def temporary_result(array: npt.NDArray[np.uint8], grid: Grid) -> str:
    """Write a result to a file of its own: MONAI Label deletes it after the reply."""
    handle, name = tempfile.mkstemp(prefix="atlas8k-", suffix=".nii.gz")
    os.close(handle)
    return str(write_nifti(name, array, grid))
