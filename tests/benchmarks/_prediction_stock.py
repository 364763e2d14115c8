"""The peer: MONAI Label's own way from a CT to a label, and the published attention steps.

:class:`Stock` is :class:`monailabel.tasks.infer.basic_infer.BasicInferTask` filled in as the
radiology app that comes with MONAI Label does it, with this project's networks, in windows of
64 voxels with half overlap and Gaussian weights. Where that app can be quicker it is: only the
label is restored to the CT's grid, not the logits as by default, and pieces are not looked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    EnsureChannelFirstd,
    EnsureTyped,
    Lambdad,
    LoadImaged,
    Orientationd,
    ScaleIntensityRanged,
    Spacing,
)
from monailabel.interfaces.tasks.infer_v2 import InferType
from monailabel.tasks.infer.basic_infer import BasicInferTask, CallBackTypes
from tests.benchmarks.attention_speed import published_maps, published_overlap

from atlas8k.core.structures import ORGAN_IDS, ORGANS
from atlas8k.models.checkpoint import Checkpoint, network

# MONAI Label's restoring step imports torchvision, whose import fails beside a PyTorch for
# CPUs: two operators that nothing here calls have to be known to it.
OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from monailabel.transform.post import Restored  # noqa: E402

WINDOW, OVERLAP = (64, 64, 64), 0.5


class Stock(BasicInferTask):  # type: ignore[misc]
    """One network as a MONAI Label app runs it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(
            path=None,
            network=network(checkpoint),
            type=InferType.SEGMENTATION,
            labels=dict(ORGAN_IDS),
            dimension=3,
            description=checkpoint.name,
            roi_size=WINDOW,
        )
        self.checkpoint = checkpoint
        self.seen: torch.Tensor | None = None

    def pre_transforms(self, data: Any = None) -> Sequence[Callable[..., Any]]:
        """Load, RAS, spacing, intensities."""
        wants = self.checkpoint.preprocessing
        low, high = wants.hu_window
        return [
            LoadImaged(keys="image"),
            EnsureTyped(keys="image", device=data.get("device") if data else None),
            EnsureChannelFirstd(keys="image"),
            Orientationd(keys="image", axcodes="RAS"),
            # What Spacingd calls; itself it takes MONAI Label's "image_path" for meta data.
            Lambdad(keys="image", func=Spacing(pixdim=wants.spacing_mm)),
            ScaleIntensityRanged(
                keys="image", a_min=low, a_max=high, b_min=0.0, b_max=1.0, clip=True
            ),
        ]

    def inferer(self, data: Any = None) -> Inferer:
        """Windows, whatever the checkpoint says."""
        return SlidingWindowInferer(
            roi_size=WINDOW, sw_batch_size=2, overlap=OVERLAP, mode="gaussian"
        )

    def post_transforms(self, data: Any = None) -> Sequence[Callable[..., Any]]:
        """Probabilities to a label on the CT's grid."""
        softmax = self.checkpoint.activation == "softmax"
        return [
            EnsureTyped(keys="pred", device=data.get("device") if data else None),
            Activationsd(keys="pred", softmax=softmax, sigmoid=not softmax),
            Lambdad(keys="pred", func=_picked if softmax else _cut),
            # By default it leaves the label in RAS order beside the CT's own affine: mirrored.
            Restored(keys="pred", ref_image="image", invert_orient=True),
        ]

    def label(self, ct: Path) -> str:
        """Path of the written label of one CT."""

        def keep(data: dict[str, Any]) -> dict[str, Any]:
            self.seen = data["pred"]
            return data

        request = {"image": str(ct), "device": "cpu", "result_extension": ".nii.gz"}
        path, _ = self(request, {CallBackTypes.INFERER: keep})
        return str(path)

    def soft(self, shape: tuple[int, ...]) -> np.ndarray:
        """Probabilities of the last CT ``(organs, *shape)`` float16, in the organs' order."""
        if self.seen is None:
            raise ValueError("no CT has been predicted")
        logits = torch.as_tensor(self.seen)
        one_hot = self.checkpoint.activation == "softmax"
        probs = logits.softmax(dim=0)[1:] if one_hot else logits.sigmoid()
        out = np.zeros((len(ORGANS), *shape), dtype=np.float16)
        for organ, one in zip(self.checkpoint.organs, probs, strict=True):
            on_ct = torch.nn.functional.interpolate(one[None, None], shape, mode="trilinear")
            out[ORGAN_IDS[organ] - 1] = on_ct[0, 0].numpy()
        return out


def _picked(probs: torch.Tensor) -> torch.Tensor:
    return probs.argmax(dim=0, keepdim=True).to(torch.uint8)


def _cut(probs: torch.Tensor) -> torch.Tensor:
    value, organ = probs.max(dim=0, keepdim=True)
    return torch.where(value > 0.5, organ + 1, 0).to(torch.uint8)


def load(checkpoints: Mapping[str, Checkpoint]) -> list[Stock]:
    """An inferer for each network."""
    return [Stock(checkpoint) for checkpoint in checkpoints.values()]


def run(tasks: list[Stock], small: Path, ct: Path, repeats: int) -> dict[str, Any]:
    """Seconds of three labels, the quickest of some runs, and of the attention steps.

    The steps begin with soft predictions on the CT's grid in memory: neither resampling
    them nor keeping them in files is counted. ``labels`` are the paths of the last ones.
    """
    for task in tasks:
        task.label(small)
    times = []
    written: list[str] = []
    for _ in range(repeats):
        for path in written:
            Path(path).unlink()
        begin, used = time.perf_counter(), time.process_time()
        written = [task.label(ct) for task in tasks]
        times.append((time.perf_counter() - begin, time.process_time() - used))
    from atlas8k.core.volume import read_grid

    shape = read_grid(ct).shape
    soft = [task.soft(shape) for task in tasks]
    begin, used = time.perf_counter(), time.process_time()
    hard = np.mean([one > 0.5 for one in soft], axis=0, dtype=np.float32)
    for organ in range(len(ORGANS)):
        published_maps([one[organ].astype(np.float32) for one in soft])
        published_overlap(hard, organ)
    return {
        "prediction_s": min(times)[0],
        "attention_s": time.perf_counter() - begin,
        "processor_s": min(times)[1] + time.process_time() - used,
        "labels": [Path(path) for path in written],
    }
