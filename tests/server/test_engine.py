"""One set of networks in memory, the one that is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.server.tiny import GRID, checkpoint

from atlas8k.errors import CheckpointError, UnreadableVolumeError
from atlas8k.models.store import ModelStore
from atlas8k.server.context import Context
from atlas8k.server.engine import attention_settings, device
from atlas8k.settings import Settings


def test_a_prediction_is_kept_for_the_next_request(context: Context, studies: Path) -> None:
    ct, first, signature = context.engine.predict(studies / "a.nii.gz")
    again = context.engine.predict(studies / "a.nii.gz")[1]
    assert again is first
    assert ct.grid.same_as(GRID)
    assert signature == context.engine.signature() == context.store.served().signature
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
        context.signature()
    assert "embedded" in context.status()["error"]


def test_settings_that_change_a_score_change_the_signature() -> None:
    assert attention_settings(Settings()) == {}
    assert attention_settings(Settings(budget=0.5, max_epochs=3)) == {}
    assert attention_settings(Settings(overlap_term="any")) == {"overlap_term": "any"}
    assert attention_settings(Settings(window_overlap=0.25)) == {"window_overlap": 0.25}


def test_the_device_that_is_asked_for_is_used() -> None:
    assert device(Settings(device="cpu")) == "cpu"
    assert device(Settings(device="cuda:1")) == "cuda:1"
    assert device(Settings()) in {"cpu", "cuda"}
