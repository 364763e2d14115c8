"""CTs painted on bodies as cases: kept, painted beside, seen whole; the command from end to end."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from tests.training.conftest import tiny
from typer.testing import CliRunner

from atlas8k.cli import app, train_synthetic
from atlas8k.core.errors import TrainingError
from atlas8k.core.volume import Grid, write_nifti
from atlas8k.models.checkpoint import load_checkpoint, save_checkpoint
from atlas8k.training.config import TrainingConfig
from atlas8k.training.generated import alone, body_cases, make_in_background
from atlas8k.training.patches import PatchSource
from atlas8k.training.scratch import new_checkpoint, seeing_whole

SHAPE = (60, 44, 50)


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    """Two subjects: one with liver and spleen, one without an organ; 4 mm."""
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "structures.csv").write_text("value,structure\n1,liver\n2,spleen\n3,rib_left_9\n")
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    for name in ("with", "without"):
        label = np.zeros(SHAPE, np.uint8)
        label[2:4, 20:24, 5:45] = label[56:58, 20:24, 5:45] = 3
        if name == "with":
            label[34:54, 12:32, 12:36] = 1
            label[8:18, 14:26, 18:34] = 2
        write_nifti(folder / f"{name}_structures.nii.gz", label, Grid(SHAPE, affine))
    return folder


def test_a_case_is_painted_once_and_again_if_its_file_is_damaged(bodies, tmp_path):
    (case,) = body_cases(1, 77, tmp_path, bodies, ["with"])
    preprocessing = new_checkpoint("unet", 0).preprocessing
    first = case.load(preprocessing)
    stored = case.path.read_bytes()
    assert torch.equal(case.load(preprocessing).image, first.image)
    assert case.path.read_bytes() == stored
    case.path.write_bytes(stored[:300])
    assert torch.equal(case.load(preprocessing).image, first.image)
    assert first.known.all()
    others = body_cases(1, 77, tmp_path, bodies)
    assert others[0].path != case.path  # other subjects, another CT
    assert others[0].subjects == ("with", "without")


def test_subjects_that_are_not_there_are_named(bodies, tmp_path):
    with pytest.raises(TrainingError, match=r"no subject s9.*with, without"):
        body_cases(1, 0, tmp_path, bodies, ["with", "s9"])
    with pytest.raises(TrainingError, match="at least 1"):
        body_cases(0, 0, tmp_path, bodies)


def test_a_second_process_paints_what_is_missing(bodies, tmp_path):
    cases = body_cases(3, 5, tmp_path, bodies, ["with"])
    cases[0].make()
    before = cases[0].path.stat().st_mtime_ns
    with make_in_background(cases):
        for _ in range(600):
            if all(case.path.is_file() for case in cases):
                break
            time.sleep(0.2)
    assert all(case.path.is_file() for case in cases)
    assert cases[0].path.stat().st_mtime_ns == before
    stored = [case.path.read_bytes() for case in cases]
    cases[1].make()
    assert cases[1].path.read_bytes()[-100:] == stored[1][-100:]


def test_of_trainings_that_share_a_folder_one_paints(bodies, tmp_path):
    cases = body_cases(1, 5, tmp_path, bodies, ["with"])
    with alone(tmp_path), make_in_background(cases):
        time.sleep(8)
        assert not cases[0].path.exists()


def test_networks_that_see_whole_volumes_train_on_volumes_of_any_size(bodies, tmp_path):
    cases = body_cases(6, 5, tmp_path, bodies, ["with"])
    start = seeing_whole(new_checkpoint("unet", 0))
    assert start.preprocessing.whole == 32
    assert seeing_whole(start) is start
    config = TrainingConfig(steps_per_epoch=12, batch_size=1, augment=0.0, patch=(96, 64, 64))
    source = PatchSource(cases, start.preprocessing, config)
    sizes = {tuple(batch.image.shape[2:]) for batch in source.batches(0)}
    assert len(sizes) > 1
    shapes = [case.load(start.preprocessing).image.shape for case in cases]
    largest = np.array((96, 64, 64))
    for size in sizes:
        assert not np.any(np.array(size) % 32)
        assert (size <= largest).all()
        # Never far from a volume's own size, but where that is above the largest.
        near = [(np.abs(np.array(size) - n) < 32) | (n > largest) for n in np.array(shapes)]
        assert any(each.all() for each in near)
    again = PatchSource(cases, start.preprocessing, config).batches(0)
    once = [tuple(batch.image.shape) for batch in source.batches(0)]
    assert [tuple(batch.image.shape) for batch in again] == once


def test_narrow_fields_of_view_end_at_a_plane_with_air_beyond(bodies, tmp_path):
    case = body_cases(1, 5, tmp_path, bodies, ["with"])
    start = seeing_whole(new_checkpoint("unet", 0))
    config = TrainingConfig(
        steps_per_epoch=8, batch_size=1, augment=0.0, narrow=1.0, patch=(160, 160, 160)
    )
    whole = case[0].load(start.preprocessing)
    for batch in PatchSource(case, start.preprocessing, config).batches(0):
        image, label = batch.image[0, 0], batch.label[0]
        shown = np.argwhere(image.numpy() > 0)
        extent = shown.max(axis=0) - shown.min(axis=0) + 1
        assert (extent <= np.array(whole.image.shape)).all()
        assert (extent < np.array(image.shape)).any()
        inside = tuple(map(slice, shown.min(axis=0), shown.max(axis=0) + 1))
        outside = np.ones(label.shape, bool)
        outside[inside] = False
        assert not label.numpy()[outside].any()
    plain = config.model_copy(update={"narrow": 0.0})
    assert all(
        batch.label.any() for batch in PatchSource(case, start.preprocessing, plain).batches(0)
    )


def test_an_epoch_moves_on_by_so_many_cases_as_painting_keeps_up_with(bodies, tmp_path):
    cases = body_cases(6, 5, tmp_path, bodies, ["with"])
    preprocessing = new_checkpoint("unet", 0).preprocessing
    config = TrainingConfig(
        steps_per_epoch=1, batch_size=1, memory_mb=16, minutes=1, turnover=2, patch=(32, 32, 32)
    )
    source = PatchSource(cases, preprocessing, config)
    list(source.batches(0))
    before = list(source._loaded)
    list(source.batches(1))
    assert next(iter(source._loaded)) == source._cases[2].name
    assert before[0] == source._cases[0].name


def test_the_command_trains_on_bodies_and_says_so(bodies, tmp_path, monkeypatch):
    monkeypatch.setattr(train_synthetic, "MEASURED_ON", 1)
    monkeypatch.setattr(train_synthetic, "AT_FIRST", 1)
    models, out = tmp_path / "models", tmp_path / "out"
    save_checkpoint(models / "unet.safetensors", tiny("unet"), half=False)
    arguments = ["train", str(out), "--bodies", str(bodies), "--subjects", "with", "--painted", "3"]
    arguments += ["--phantoms", "1", "--checkpoints", str(models), "--network", "unet"]
    arguments += ["--epochs", "2", "--steps", "2", "--batch", "1", "--threads", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "epoch 2" in done.output
    assert "DSC" in done.output
    made = load_checkpoint(out / "unet.safetensors")
    assert made.preprocessing.whole == 32
    data = made.origin["data"]
    assert data["bodies"] == ["with"]
    assert (data["painted"], data["phantoms"], data["setting"]) == (3, 1, "wide")
    assert data["attribution"] == "TotalSegmentator dataset, Wasserthal et al. 2023, CC BY 4.0"
    assert made.origin["cases"] == 4
    refused = CliRunner().invoke(app, [*arguments[:4], "--subjects", "s9"])
    assert refused.exit_code != 0
    assert "s9" in str(refused.exception or refused.output)
