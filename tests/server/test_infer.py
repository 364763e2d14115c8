"""What `attention` gives, and that no organ of a Slicer scene is touched by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from tests.server import slicer_module
from tests.server.tiny import GRID

from atlas8k.core.settings import Settings
from atlas8k.core.structures import ORGAN_IDS, ORGAN_NAMES
from atlas8k.core.volume import read_label
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.tasks.infer import AttentionInfer, OrganInfer, wanted_form
from atlas8k.services.context import Context
from atlas8k.services.errors import RequestError
from atlas8k.services.opening import open_context

SENSITIVE = Settings(
    device="cpu", inconsistency_threshold=0.01, uncertainty_threshold=0.3, opening_mm=0
)


@pytest.fixture
def doubtful(studies: Path, models: Path) -> Any:
    """The studies with settings under which untrained networks give regions."""
    opened = open_context(SENSITIVE, str(studies), models)
    yield opened
    opened.close()


def run(context: Context, **request: Any) -> tuple[Path, dict[str, Any]]:
    task = AttentionInfer(context.engine)
    path = datastore_of(context).get_image_uri("a")
    file, params = task({"image": path, "volume": "a", **request})
    return Path(file), params


def test_slicer_gets_boxes(doubtful: Context) -> None:
    file, params = run(doubtful)
    assert file.suffix == ".json"
    assert params["form"] == "boxes"
    assert params["quality"] == {}
    assert params["quality_basis"].startswith("unknown: nothing was learnt")  # of these networks
    document = json.loads(file.read_text())
    boxes = [markup for markup in document["markups"] if markup["type"] == "ROI"]
    assert boxes
    for rank, (box, region) in enumerate(zip(boxes, params["regions"], strict=False), start=1):
        assert box["name"] == f"{rank} {region['organ']} {region['ml']:.1f} ml"
        spans = np.subtract(region["stop"], region["start"]) * GRID.spacing
        assert np.sort(box["size"]) == pytest.approx(np.sort(spans), abs=1e-3)


def test_a_client_without_boxes_gets_a_map_of_names_that_are_no_organs(doubtful: Context) -> None:
    file, params = run(doubtful, form="label")
    label = read_label(file)
    assert label.grid.same_as(GRID)
    marked = set(np.unique(label.array)) - {0}
    assert marked  # of organs in doubt at one voxel, the one with most attention
    assert marked <= {ORGAN_IDS[region["organ"]] for region in params["regions"]}
    # Contiguous from 1: Slicer takes the n-th name for value n.
    assert list(params["label_names"].values()) == list(range(1, 10))
    assert not set(params["label_names"]) & set(ORGAN_NAMES)


@pytest.mark.parametrize(
    ("request_", "form"),
    [
        ({}, "boxes"),
        ({"form": "boxes", "output": None}, "boxes"),
        ({"form": "label"}, "label"),
        ({"output": "image"}, "label"),
        ({"output": "image", "form": "boxes"}, "label"),
        ({"output": "dicom_seg"}, "label"),
        ({"output": "all"}, "boxes"),
        ({"restore_label_idx": False}, "label"),  # OHIF says so, and takes label maps only
    ],
)
def test_who_gets_what(request_: dict[str, Any], form: str) -> None:
    assert wanted_form(request_) == form


def test_another_form_is_refused() -> None:
    with pytest.raises(RequestError, match="boxes and label"):
        wanted_form({"form": "mesh"})


def labels_of(task: AttentionInfer | OrganInfer) -> list[str]:
    """As the module's ``onClickSegmentation`` takes them."""
    return [name for name, _ in sorted(task.info()["labels"].items(), key=lambda item: item[1])]


def test_running_attention_in_slicer_leaves_every_segment_alone(
    doubtful: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = slicer_module.Scene()
    module = slicer_module.load(monkeypatch, scene)
    file, params = run(doubtful)
    widget = MagicMock()
    assert module.MONAILabelWidget.updateSegmentationMask(
        widget, str(file), list(params["label_names"])
    )
    # The segmentation was asked for and nothing was called on it.
    assert widget._segmentNode.method_calls == [("GetSegmentation", (), {})]
    assert widget._segmentNode.GetSegmentation().method_calls == []
    assert not module.slicer.modules.segmentations.logic.called
    assert not module.slicer.mrmlScene.RemoveNode.called
    names = [markup.name for markup in scene.markups]
    n = len(names) - 1
    assert names == [*(f"Detection ROI - {i}" for i in range(n)), "attention regions"]
    # What the module has renamed can still be read, beside each region.
    points = scene.markups[-1].fields["controlPoints"]
    assert [p["label"].split()[1] for p in points] == [r["organ"] for r in params["regions"][:n]]


def test_slicer_takes_a_volume_without_regions_too(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = slicer_module.Scene()
    module = slicer_module.load(monkeypatch, scene)
    monkeypatch.setattr(context.engine, "salient", _nothing())
    file, params = run(context)
    assert params["regions"] == []
    assert module.MONAILabelWidget.updateSegmentationMask(MagicMock(), str(file), [])
    assert [markup.name for markup in scene.markups] == ["attention: no region to look at"]


def _nothing() -> Any:
    from atlas8k.attention import SalientSettings

    return SalientSettings(min_ml=1e6)


def test_slicer_still_submits_organs_while_attention_is_chosen(context: Context) -> None:
    """Its save goes by the type of the model that is chosen: a detection saves boxes."""
    info = AttentionInfer(context.engine).info()
    assert info["type"] == "segmentation"
    assert info["config"]["form"][0] == "boxes"  # the first is what Slicer sends
    assert labels_of(AttentionInfer(context.engine))[0] == "attention_aorta"
