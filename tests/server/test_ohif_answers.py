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

from atlas8k.core.structures import ORGANS
from atlas8k.labels.ingest import read_segmentation
from atlas8k.server import background
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.ohif_patches import STRATEGY, Patch, colors, patched, scripts_of
from atlas8k.server.routes import tasks
from atlas8k.server.routes.pages import OHIF
from atlas8k.server.tasks.infer import OrganInfer, wanted_suffix
from atlas8k.services.context import Context
from atlas8k.store import Ledger, audit_trail


def test_nrrd_is_unpacked_and_says_the_same(context: Context) -> None:
    task = OrganInfer(context.engine, None)
    image = {"image": datastore_of(context).get_image_uri("a"), "volume": "a"}
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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It posts to /train/, with the settings of each trainer under its name."""
    asked: list[dict[str, Any]] = []

    class App:
        _trainers: ClassVar = {"atlas8k": SimpleNamespace(check=lambda request: None)}

    def run(request: dict[str, Any], kind: str) -> Any:
        asked.append(request)
        return {"id": "1", "status": "SUBMITTED"}

    monkeypatch.setattr(tasks, "app_instance", App)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    monkeypatch.setattr(tasks, "workspace", lambda: SimpleNamespace(ledger=ledger))
    monkeypatch.setattr(tasks, "check_name", lambda *_: None)
    monkeypatch.setattr(background, "run_background_task", run)
    monkeypatch.setattr(background, "tasks", lambda kind: [])
    answer = tasks.train_all({"atlas8k": {"max_epochs": 3, "networks": "unet"}})
    assert answer["atlas8k"]["result"]["status"] == "SUBMITTED"
    tasks.train_all({"max_epochs": 4})  # as the documentation of MONAI Label has it
    settings = {"model": "atlas8k", "max_epochs": 3, "networks": "unet"}
    assert asked == [settings, {"model": "atlas8k", "max_epochs": 4}]
    monkeypatch.setattr(background, "tasks", lambda kind: [{"id": "1", "status": "RUNNING"}])
    with pytest.raises(HTTPException) as refused:
        tasks.train_all(None)
    assert refused.value.status_code == 429
    assert len(asked) == 2
    with ledger.read() as tx:
        noted = [json.loads(line)["action"] for line in audit_trail.lines(tx)]
    assert noted == ["begun", "train", "train"]


def test_the_viewers_list_of_colors_begins_with_ours() -> None:
    ((path, changed),) = patched(OHIF, [colors()]).items()
    (found,) = [old for old, _ in colors().passages]
    rest = changed.split(found + b"...")[1].decode()
    ours, length = json.JSONDecoder().raw_decode(rest)
    listed = {one["label"]: one["value"] for one in ours}
    for organ in ORGANS:
        assert listed[organ.name] == "#{:02x}{:02x}{:02x}".format(*organ.color)
        assert f"attention_{organ.name}" in listed
    # Nothing else of the script is another.
    added = f"...{rest[:length]}, ".encode()
    assert changed.replace(added, b"") == path.read_bytes()


def test_every_patch_fits_the_viewer_that_is_installed(caplog: pytest.LogCaptureFixture) -> None:
    scripts_of.cache_clear()
    served = scripts_of(OHIF)
    assert caplog.records == []
    assert 1 <= len(served) <= 2
    text = b"".join(served.values())
    assert b"this.onChangeStrategy" not in text
    assert b"strategy: 'random'" not in text
    assert OHIF / "app-config.js" not in served


def test_a_patch_that_fits_no_more_is_said_and_the_others_are_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (one, _), (two, _) = STRATEGY.passages
    other = Patch("other", ((b"red", b"blue"),), "it is red")
    (tmp_path / "a.js").write_bytes(one + b"; red; " + two.replace(b"onChange", b"onSelect"))
    assert patched(tmp_path, [STRATEGY, other]) == {
        tmp_path / "a.js": (tmp_path / "a.js").read_bytes().replace(b"red", b"blue")
    }
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "'strategy'" in record.getMessage()
    assert "random whatever is chosen" in record.getMessage()
    (tmp_path / "b.js").write_bytes(b"red")  # which of the two is meant nobody knows
    assert patched(tmp_path, [other]) == {}
