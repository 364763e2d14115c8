"""Prepared volumes on disk: the same as made anew, and never those of other files."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from types import SimpleNamespace

import pytest
import torch

from atlas8k.core.volume import read_label, write_nifti
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.training.config import TrainingConfig
from atlas8k.training.data import TrainingCase
from atlas8k.training.finetune import fine_tune
from atlas8k.training.prepared_cache import RESERVE, PreparedCache, cached

from .conftest import tiny

GRID = Preprocessing(spacing_mm=(2.0,) * 3, window_size=(16, 16, 16))
ROOM = 1e9


@pytest.fixture(autouse=True)
def free(monkeypatch):
    """Set the free bytes of the disk, whatever disk the tests run on."""

    def set_to(free_bytes: float) -> None:
        usage = SimpleNamespace(free=int(free_bytes))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    set_to(2 * RESERVE)
    return set_to


def equal(a, b) -> bool:
    same = all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("image", "label", "known"))
    return same and {k: v.tolist() for k, v in a.points.items()} == {
        k: v.tolist() for k, v in b.points.items()
    }


def test_what_is_read_is_what_was_made_and_the_ct_is_not_read_again(case, tmp_path, monkeypatch):
    made = case("a", known=("liver", "aorta"))
    (kept,) = cached([made], PreparedCache(tmp_path / "shelf", ROOM))
    first = kept.load(GRID)
    assert equal(first, made.load(GRID))
    monkeypatch.setattr(TrainingCase, "load", lambda *_: pytest.fail("it was read again"))
    assert equal(kept.load(GRID), first)
    assert equal(kept.load(dataclasses.replace(GRID, window_size=(32, 32, 32))), first)


def test_another_label_grid_or_claim_is_another_volume(case, tmp_path):
    made = case("a")
    shelf = PreparedCache(tmp_path / "shelf", ROOM)
    (kept,) = cached([made], shelf)
    first = kept.load(GRID)
    coarse = kept.load(dataclasses.replace(GRID, spacing_mm=(4.0,) * 3))
    assert coarse.image.shape != first.image.shape
    (claim,) = cached([dataclasses.replace(made, known_organs=("liver",))], shelf)
    assert not equal(claim.load(GRID), first)
    label = read_label(made.label_path)
    label.array[0, 0, 0] = 1
    write_nifti(made.label_path, label.array, label.grid)
    assert not equal(kept.load(GRID), first)


def test_a_damaged_file_is_made_anew_and_a_full_cache_keeps_no_more(case, tmp_path, caplog):
    shelf = PreparedCache(tmp_path / "shelf", ROOM)
    (kept,) = cached([case("a")], shelf)
    first = kept.load(GRID)
    (file,) = shelf.folder.iterdir()
    file.write_bytes(file.read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        assert equal(kept.load(GRID), first)
    assert "made anew" in caplog.text
    full = PreparedCache(shelf.folder, shelf.used_bytes() + first.nbytes / 2)
    (other,) = cached([case("b", 1)], full)
    other.load(GRID)
    assert len(list(shelf.folder.iterdir())) == 1


def test_a_disk_that_is_nearly_full_is_left_free(case, tmp_path, free):
    shelf = PreparedCache(tmp_path / "shelf", ROOM)
    (kept,) = cached([case("a")], shelf)
    free(RESERVE)
    first = kept.load(GRID)
    assert not shelf.used_bytes()
    free(RESERVE + first.nbytes)
    assert equal(kept.load(GRID), first)
    assert shelf.used_bytes()


def test_a_shelf_that_cannot_be_written_is_no_reason_to_stop(case, tmp_path, caplog):
    (tmp_path / "shelf").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        for kept in cached([case("a"), case("b", 1)], PreparedCache(tmp_path / "shelf", ROOM)):
            kept.load(GRID)
    assert caplog.text.count("not cached any more") == 1


def test_networks_on_one_grid_share_a_file(case, tmp_path, monkeypatch):
    cases = [case("a", 1), case("b", 2)]
    served = {"unet": tiny("unet"), "nnunet": tiny("nnunet")}
    quick = TrainingConfig(epochs=1, steps_per_epoch=1, batch_size=1, workers=0)
    made = []
    load = TrainingCase.load
    monkeypatch.setattr(TrainingCase, "load", lambda *a: made.append(a[0].name) or load(*a))
    fine_tune(served, cases, quick, state_folder=tmp_path / "state")
    assert sorted(made) == ["a", "b"]
