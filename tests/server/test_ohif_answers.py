"""What OHIF's extension for MONAI Label gets, without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import nrrd
import numpy as np
import pytest
from fastapi import HTTPException

from atlas8k.labels.formats import read_segmentation
from atlas8k.organs import ORGANS
from atlas8k.server import background
from atlas8k.server.context import Context
from atlas8k.server.infer import OrganInfer, wanted_suffix
from atlas8k.server.web import work
from atlas8k.server.web.pages import COLOR_LIST, OHIF, in_our_colors


def test_nrrd_is_unpacked_and_says_the_same(context: Context) -> None:
    task = OrganInfer(context.engine, context.settings, None)
    image = {"image": context.datastore.get_image_uri("a"), "volume": "a"}
    ohif = {**image, "output": "image", "result_extension": ".nrrd", "restore_label_idx": False}
    packed, unpacked = (read_segmentation(Path(task(one)[0])) for one in (image, ohif))
    assert (packed.format, unpacked.format) == ("nifti", "nrrd")
    assert np.array_equal(packed.layers[0], unpacked.layers[0])
    assert packed.grid.same_as(unpacked.grid)
    header = nrrd.read_header(str(unpacked.path))
    assert (header["encoding"], header["type"]) == ("raw", "uint8")


@pytest.mark.parametrize(
    ("request_", "suffix"),
    [
        ({"output": "image", "result_extension": ".nrrd"}, ".nrrd"),
        ({"result_extension": ".nrrd"}, ".nii.gz"),  # 3D Slicer
        ({"output": "image"}, ".nii.gz"),
        ({"output": "image", "result_extension": "../../x"}, ".nii.gz"),
        ({"output": "image", "result_extension": 7}, ".nii.gz"),
    ],
)
def test_who_gets_nrrd(request_: dict[str, Any], suffix: str) -> None:
    assert wanted_suffix(request_) == suffix


def test_its_train_button_is_refused_while_one_runs_and_its_settings_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It posts to /train/, with the settings of each trainer under its name."""
    asked: list[dict[str, Any]] = []

    class App:
        _trainers: ClassVar = {"atlas8k": SimpleNamespace(check=lambda request: None)}

    def run(kind: str, request: dict[str, Any], enqueue: bool) -> Any:
        asked.append(request)
        return {"id": "1", "status": "SUBMITTED"}, None

    monkeypatch.setattr(work, "app_instance", App)
    monkeypatch.setattr(work, "with_caller", lambda *_: None)
    monkeypatch.setattr(work, "check_name", lambda *_: None)
    monkeypatch.setattr(background.AsyncTask, "run", run)
    monkeypatch.setattr(background, "tasks", lambda kind: [])
    user = SimpleNamespace(username="anna")
    answer = work.train_all(None, user, {"atlas8k": {"max_epochs": 3, "networks": "unet"}})
    assert answer["atlas8k"]["result"]["status"] == "SUBMITTED"
    work.train_all(None, user, {"max_epochs": 4})  # as the documentation of MONAI Label has it
    settings = {"model": "atlas8k", "max_epochs": 3, "networks": "unet"}
    assert asked == [settings, {"model": "atlas8k", "max_epochs": 4}]
    monkeypatch.setattr(background, "tasks", lambda kind: [{"id": "1", "status": "RUNNING"}])
    with pytest.raises(HTTPException) as refused:
        work.train_all(None, user, None)
    assert refused.value.status_code == 429
    assert len(asked) == 2


def test_the_viewers_list_of_colors_begins_with_ours() -> None:
    scripts = [path for path in OHIF.glob("*.js") if COLOR_LIST in path.read_bytes()]
    assert len(scripts) == 1
    changed = in_our_colors(scripts[0])
    assert changed is not None
    rest = changed.split(COLOR_LIST + b"...")[1].decode()
    ours, length = json.JSONDecoder().raw_decode(rest)
    listed = {one["label"]: one["value"] for one in ours}
    for organ in ORGANS:
        assert listed[organ.name] == "#{:02x}{:02x}{:02x}".format(*organ.color)
        assert f"attention_{organ.name}" in listed
    # Nothing else of the script is another.
    added = f"...{rest[:length]}, ".encode()
    assert changed.replace(added, b"") == scripts[0].read_bytes()


def test_other_scripts_are_as_they_came() -> None:
    assert in_our_colors(OHIF / "app-config.js") is None
