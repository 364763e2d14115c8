"""One set of networks in memory, the one that is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.server.tiny import GRID, checkpoint

from atlas8k.core.errors import CheckpointError, SettingsError, UnreadableVolumeError
from atlas8k.core.settings import Settings
from atlas8k.models.store import ModelStore
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context
from atlas8k.services.prediction.engine import Engine, attention_settings, device, ensemble_settings


def test_a_prediction_is_kept_for_the_next_request(context: Context, studies: Path) -> None:
    ct, first, model_version = context.engine.predict(studies / "a.nii.gz")
    again = context.engine.predict(studies / "a.nii.gz")[1]
    assert again is first
    assert ct.grid.same_as(GRID)
    assert model_version == context.models.served().model_version
    other = context.engine.predict(studies / "b.nii.gz")[1]
    assert other is not first


def test_a_file_that_changed_is_predicted_anew(context: Context, studies: Path) -> None:
    first = context.engine.predict(studies / "a.nii.gz")[1]
    (studies / "a.nii.gz").write_bytes((studies / "b.nii.gz").read_bytes())
    again = context.engine.predict(studies / "a.nii.gz")[1]
    assert again.probs.shape != first.probs.shape or not np.array_equal(again.probs, first.probs)


def test_a_published_set_is_served_at_once(context: Context, studies: Path, models: Path) -> None:
    before = context.engine.predict(studies / "a.nii.gz")
    # As a training process does it: a store of its own over the same folder.
    published = ModelStore(models).publish({"unet": checkpoint("unet", 7)}, "test")
    after = context.engine.predict(studies / "a.nii.gz")
    assert before[2] != published
    assert after[2] == published
    unet = after[1].names.index("unet")
    assert not np.array_equal(before[1].probs[unet], after[1].probs[unet])
    assert np.array_equal(before[1].probs[1 - unet], after[1].probs[1 - unet])


def test_an_unreadable_ct_leaves_the_networks_in_place(context: Context, studies: Path) -> None:
    context.engine.predict(studies / "a.nii.gz")
    (studies / "bad.nii.gz").write_bytes(b"")
    with pytest.raises(UnreadableVolumeError):
        context.engine.predict(studies / "bad.nii.gz")
    assert context.engine.predict(studies / "b.nii.gz")


def test_without_networks_there_is_one_clear_error(context: Context, models: Path) -> None:
    for path in (models / "embedded").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match="embedded"):
        context.model_version()
    assert "embedded" in context.status()["error"]


def test_settings_that_change_a_score_change_the_model_version() -> None:
    assert attention_settings(Settings()) == {}
    assert attention_settings(Settings(budget=0.5, max_epochs=3)) == {}
    assert attention_settings(Settings(overlap_term="any")) == {"overlap_term": "any"}
    assert attention_settings(Settings(window_overlap=0.25)) == {"window_overlap": 0.25}
    labels = Settings(ensemble_weights="unet=2", fill_holes=True, largest_component=False)
    assert attention_settings(labels) == ensemble_settings(labels).as_json()
    assert len(attention_settings(labels)) == 3


def test_weights_reach_the_label_and_the_model_version(studies: Path, models: Path) -> None:
    def label(text: str) -> tuple[str, list[int]]:
        settings = Settings(device="cpu", ensemble_weights=text)
        engine = Engine(settings, ModelStore(models, attention_settings(settings)))
        ct = sorted(studies.glob("*.nii.gz"))[0]
        _, prediction, model_version = engine.predict(ct)
        alone = prediction.label("unet")
        return model_version, [int((prediction.label() != alone).sum())]

    usual, only = label(""), label("swin_unetr=0,nnunet=0")
    assert usual[0] != only[0]
    assert usual[1] != [0]
    assert only[1] == [0]


def test_weights_of_no_network_stop_the_start(studies: Path, models: Path, tmp_path: Path) -> None:
    settings = Settings(ledger=tmp_path / "l.sqlite", ensemble_weights="nnunett=2")
    with pytest.raises(SettingsError, match="there is no network nnunett; served are"):
        open_context(settings, str(studies), models)


def test_the_device_that_is_asked_for_is_used() -> None:
    assert device(Settings(device="cpu")) == "cpu"
    assert device(Settings(device="cuda:1")) == "cuda:1"
    assert device(Settings()) in {"cpu", "cuda"}


def test_a_device_that_is_not_there_is_said(studies: Path, models: Path) -> None:
    opened = open_context(Settings(device="cuda:99"), str(studies), models)
    try:
        with pytest.raises(CheckpointError, match="no network could be loaded"):
            opened.engine.predict(studies / "a.nii.gz")
        said = opened.status()["networks_out"]
        assert set(said) == {"swin_unetr", "unet", "nnunet"}
        assert "cuda" in said["unet"].lower()
    finally:
        opened.close()


def test_a_network_that_is_gone_is_said_until_it_is_back(context: Context, models: Path) -> None:
    assert context.status()["networks_out"] == {}
    path = models / "embedded" / "unet.safetensors"
    content = path.read_bytes()
    path.unlink()
    assert list(context.status()["networks_out"]) == ["unet"]
    _, prediction, _ = context.engine.predict(context_ct(context))
    assert prediction.names == ("swin_unetr", "nnunet")
    path.write_bytes(content)
    assert context.status()["networks_out"] == {}


def context_ct(context: Context) -> Path:
    return Path(datastore_of(context).get_image_uri("a"))
