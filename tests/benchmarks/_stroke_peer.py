"""MONAI Label's scribbles, by its own code: the histogram of the strokes' HU, cut by max-flow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from _stroke_cases import Stored
from _stroke_play import Answer, Step, masks, spacing_of

FOREGROUND, BACKGROUND = 2, 3
LABEL_INFO = [
    {"name": "organ", "id": 1},
    {"name": "foreground_scribbles", "id": FOREGROUND},
    {"name": "background_scribbles", "id": BACKGROUND},
]
ROI_MM = 10.0

# MONAI Label imports torchvision, whose import fails beside a PyTorch for CPUs.
OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def by_graph_cut() -> Answer:
    """Return the answer of ``HistogramBasedGraphCut`` with its own defaults.

    It gets all strokes so far, and as region of interest the box of the organ, true or
    predicted, and 10 mm around it, more than it would know.
    """
    from monailabel.scribbles.infer import HistogramBasedGraphCut

    task = HistogramBasedGraphCut(labels=["organ"])
    folder = tempfile.TemporaryDirectory(prefix="atlas8k-peer-")

    def answer(case: Stored, organ: int, step: Step) -> np.ndarray:
        import SimpleITK as sitk

        from atlas8k.attention.regions import bounding_box

        _ = folder  # until nobody asks any more
        inside, outside = masks(case, step.strokes)
        merged = (step.label == organ).astype(np.uint8)
        merged[inside], merged[outside] = FOREGROUND, BACKGROUND
        box = bounding_box((case.truth == organ) | (case.pseudo == organ))
        assert box is not None
        roi = []
        for part, mm, n in zip(box, spacing_of(case), case.ct.shape, strict=True):
            more = round(ROI_MM / mm)
            roi += [max(0, part.start - more), min(n, part.stop + more)]
        paths = {}
        for key, array in (("image", case.ct), ("label", merged)):
            # NRRD: with MONAI 1.6 its transforms fail on NIfTI ("'str' object has no attribute
            # 'update'", of `image_path`).
            paths[key] = str(Path(folder.name) / f"{key}.nrrd")
            image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
            image.SetSpacing(spacing_of(case))
            sitk.WriteImage(image, paths[key])
        request = {
            "logging": "ERROR",
            **paths, "label_info": LABEL_INFO, "roi": roi, "device": "cpu",
            "result_extension": ".nrrd", "model": "histogram+graphcut",
        }  # fmt: skip
        result, _params = task(request)
        found = sitk.GetArrayFromImage(sitk.ReadImage(result)).transpose() > 0
        Path(result).unlink()
        return found.reshape(case.ct.shape)

    return answer
