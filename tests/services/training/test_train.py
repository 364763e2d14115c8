"""Fine-tuning on what was submitted."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.server.tiny import GRID, NETWORKS, checkpoint

from atlas8k.core.errors import SettingsError, TrainingError
from atlas8k.core.files import only_one
from atlas8k.core.settings import Settings
from atlas8k.core.volume import write_nifti
from atlas8k.models.checkpoint import Preprocessing
from atlas8k.models.networks import build
from atlas8k.server.archive_datastore import datastore_of
from atlas8k.server.tasks.train import FineTuningTask
from atlas8k.services.context import Context
from atlas8k.services.errors import ConflictError, RequestError
from atlas8k.services.opening import open_context
from atlas8k.services.training import fine_tuning, progress
from atlas8k.services.training.cases import cases
from atlas8k.services.training.fine_tuning import FineTuning, chosen, whole
from atlas8k.store import Holder, OrganSource
from atlas8k.training.data import IGNORED

ANNA = Holder.identify(user="anna")
SHORT = {"max_epochs": 1, "steps_per_epoch": 1}


def submit(context: Context, tmp_path: Path, image: str, **params: Any) -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[3:9, 8:13, 6:12] = 5  # the first axis runs to the left
    array[12:15, 8:12, 6:10] = 8
    path = write_nifti(tmp_path / "sent.nii.gz", array, GRID)
    assert context.label_service is not None
    context.label_service.submit(image, path, ANNA, params)


def test_submitted_labels_make_new_networks(context: Context, tmp_path: Path, models: Path) -> None:
    submit(context, tmp_path, "a")
    before = context.model_version()
    embedded = {path: path.read_bytes() for path in (models / "embedded").iterdir()}
    task = FineTuning(context)
    stats = task.run(dict(SHORT))
    assert stats == task.stats()
    assert stats["epoch"] == stats["total_epochs"] == 3
    assert stats["total_time"] > 0
    assert 0 <= stats["best_metric"] <= 1
    assert context.status()["training"] == stats["message"]
    assert "no held-out case" in stats["message"]
    assert stats["model_version"] == context.model_version() != before
    assert {path: path.read_bytes() for path in (models / "embedded").iterdir()} == embedded
    assert context.status()["scored"] == 0


def test_with_minutes_the_progress_is_that_of_the_clock(
    context: Context, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Epochs are no bound then, so that 3D Slicer's bar would run over its end."""
    submit(context, tmp_path, "a")
    timed = dataclasses.replace(
        context, settings=Settings(device="cpu", training={"minutes": 0.01})
    )
    shown: list[tuple[int, int]] = []
    real = progress.write_json

    def watch(path: Path, stats: dict[str, Any]) -> None:
        shown.append((stats["epoch"], stats["total_epochs"]))
        real(path, stats)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(progress, "write_json", watch)
        names = {"networks": "unet,nnunet", "max_epochs": 1, "steps_per_epoch": 1}
        stats = FineTuning(timed).run(names)
    assert {total for _, total in shown} == {200}
    assert [epoch for epoch, _ in shown] == sorted(epoch for epoch, _ in shown)
    assert stats["epoch"] == stats["total_epochs"] == 200
    assert "of 0.01 minutes" in caplog.text
    assert "epochs for 0.01 minutes" in caplog.text


def test_networks_are_served_though_what_became_of_them_cannot_be_written(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(context, tmp_path, "a")
    before = context.model_version()
    real = fine_tuning.write_json

    def full(path: Path, stats: dict[str, Any]) -> None:
        if "total_time" in stats:
            raise OSError(28, "No space left on device")
        real(path, stats)

    monkeypatch.setattr(fine_tuning, "write_json", full)
    stats = FineTuning(context).run({**SHORT, "networks": "unet"})
    assert stats["model_version"] == context.model_version() != before


def test_a_failure_names_what_is_served_then(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(context, tmp_path, "a")

    def fails(*_: Any, **__: Any) -> Any:
        context.models.publish({"unet": checkpoint("unet", seed=3)}, "by hand")
        raise TrainingError("no")

    monkeypatch.setattr(fine_tuning, "fine_tune", fails)
    with pytest.raises(TrainingError, match="no"):
        FineTuning(context).run(dict(SHORT))
    assert context.status()["training"] == f"failed, {context.model_version()} is served still: no"


def test_networks_that_are_not_asked_for_are_taken_over(context: Context, tmp_path: Path) -> None:
    submit(context, tmp_path, "a")
    old = context.models.served()
    FineTuning(context).run({**SHORT, "networks": "unet"})
    new = context.models.served()
    same = {
        n for n in NETWORKS if new.checkpoints[n].read_bytes() == old.checkpoints[n].read_bytes()
    }
    assert same == {"swin_unetr", "nnunet"}


def test_without_a_submission_nothing_is_trained(context: Context) -> None:
    before = context.model_version()
    with pytest.raises(TrainingError, match="submit"):
        FineTuning(context).run(dict(SHORT))
    assert context.model_version() == before


def test_organs_nobody_said_anything_about_are_not_trained_on(
    context: Context, tmp_path: Path
) -> None:
    submit(context, tmp_path, "a", absent=["gall_bladder"])
    submit(context, tmp_path, "b")
    label = datastore_of(context).get_label_uri("b", "final")
    (Path(label).parent / "c.nii.gz").write_bytes(Path(label).read_bytes())  # by other means
    context.studies.refresh()
    found = {case.name: case for case in cases(context)}
    assert {name: case.known_organs for name, case in found.items()} == {
        "a": ("gall_bladder", "liver", "spleen"),
        "b": ("liver", "spleen"),
        "c": ("liver", "spleen"),
    }
    assert {case.label_path.parents[1].name for case in found.values()} == {"original"}


def test_public_organs_are_learnt_pseudo_ones_are_not_and_tumours_are_left_open(
    context: Context, studies: Path
) -> None:
    label_service = context.label_service
    assert label_service is not None
    array = np.zeros(GRID.shape, np.uint8)
    array[2:8, 4:12, 4:12] = 5
    array[10:14, 4:12, 4:12] = 8
    label_service.keep_pseudo("a", array, GRID, {"model_version": "m"})
    assert label_service.ledger.sources("a") == {}
    with pytest.raises(TrainingError, match="submit"):
        cases(context)
    said = {
        "liver": OrganSource("public", "present", "flare"),
        "pancreas": OrganSource("public", "absent", "flare"),
        "spleen": OrganSource("pseudo", "unknown", "flare"),
    }
    label_service.keep_public("a", np.where(array == 5, array, 0).astype(np.uint8), GRID, said)
    tumour = np.zeros(GRID.shape, np.uint8)
    tumour[6:12, 4:12, 4:12] = 1
    label_service.folder.store_label("a", "public-unknown", tumour, GRID, {})
    (case,) = cases(context)
    assert case.known_organs == ("liver", "pancreas")
    prepared = case.load(Preprocessing(spacing_mm=(12.0, 12.0, 15.0), window_size=(16,) * 3))
    there = torch.bincount(prepared.label.flatten().long(), minlength=256)
    n = 8 * 8
    assert there[5] == 6 * n  # the tumour's voxels in the liver are liver
    assert there[IGNORED] == 4 * n  # the others could be any organ
    assert there[8] == 0  # the spleen is only a pseudo label


def test_a_public_label_that_somebody_went_over_leaves_nothing_open(
    context: Context, tmp_path: Path
) -> None:
    label_service = context.label_service
    assert label_service is not None
    submit(context, tmp_path, "a")
    label_service.folder.store_label("a", "public-unknown", np.ones(GRID.shape, np.uint8), GRID, {})
    assert cases(context)[0].ignore_path is None


def test_pseudo_labels_are_weighted_in_where_that_is_set(context: Context, tmp_path: Path) -> None:
    label_service = context.label_service
    assert label_service is not None
    array = np.zeros(GRID.shape, np.uint8)
    array[10:14, 4:12, 4:12] = 9
    for name in ("a", "b"):
        label_service.keep_pseudo(name, array, GRID, {"model_version": "m"})
    with pytest.raises(TrainingError, match="submit"):
        cases(context, pseudo=True)
    submit(context, tmp_path, "a", absent=["gall_bladder"])
    assert [case.name for case in cases(context)] == ["a"]
    assert cases(context)[0].pseudo_organs == ()
    found = {case.name: case for case in cases(context, pseudo=True)}
    assert found["a"].known_organs == ("gall_bladder", "liver", "spleen")
    assert "stomach" in found["a"].pseudo_organs
    assert not {"gall_bladder", "liver", "spleen"} & set(found["a"].pseudo_organs)
    assert found["b"].known_organs == ()
    prepared = found["b"].load(Preprocessing(spacing_mm=(12.0,) * 3, window_size=(16,) * 3))
    assert not bool(prepared.known.any())
    assert bool((prepared.label == 9).any())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"augmentation": 1}, "augmentation.*there are"),
        ({"batch_size": 0}, "batch_size"),
        ({"optimisers": "fast"}, "none of paper"),
        ({"epochs": 3}, "epochs is set by --conf max_epochs"),
    ],
)
def test_settings_that_are_not_understood_stop_the_start(
    context: Context, given: dict[str, Any], words: str
) -> None:
    changed = dataclasses.replace(context, settings=Settings(device="cpu", training=given))
    with pytest.raises(SettingsError, match=words):
        FineTuning(changed)


def test_labels_of_images_that_are_gone_are_left_out_and_said(
    context: Context, studies: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        submit(context, tmp_path, name)
    (studies / "b.nii.gz").unlink()
    context.studies.refresh()
    assert [case.name for case in cases(context)] == ["a"]
    assert "1 labels of images that are gone" in caplog.text
    (studies / "a.nii.gz").unlink()
    context.studies.refresh()
    before = context.model_version()
    with pytest.raises(TrainingError, match=r"2 labels are of images that are gone.*submit"):
        FineTuning(context).run(dict(SHORT))
    assert context.model_version() == before


def test_a_network_that_knows_none_of_the_labeled_organs_is_named(
    context: Context, tmp_path: Path, models: Path
) -> None:
    """As when networks of another organ list are served."""
    submit(context, tmp_path, "a")
    other = checkpoint("unet")
    architecture = {**other.architecture, "out_channels": 2}
    other = dataclasses.replace(
        other,
        architecture=architecture,
        organs=("pancreas", "stomach"),
        state=build(architecture).state_dict(),
    )
    context.models.publish({"unet": other}, note="another list")
    before = context.model_version()
    with pytest.raises(TrainingError, match=r"unet knows pancreas, stomach.*liver, spleen"):
        FineTuning(context).run(dict(SHORT))
    assert context.model_version() == before
    assert "nothing for it to learn" in context.status()["training"]
    stats = FineTuning(context).run({**SHORT, "networks": "nnunet"})
    assert stats["gate"]["on"]


@pytest.fixture
def small_disk(tmp_path: Path, models: Path) -> Iterator[Path]:
    """The networks' folder on a disk of its own, of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        shutil.copytree(models, place / "model")
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_and_one_that_may_not_be_written_change_nothing(
    small_disk: Path, studies: Path, tmp_path: Path
) -> None:
    context = open_context(Settings(device="cpu"), str(studies), small_disk / "model")
    submit(context, tmp_path, "a")
    before = context.model_version()
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    with pytest.raises(TrainingError, match=r"model.*(space|written)"):
        FineTuning(context).run(dict(SHORT))
    assert context.model_version() == before
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(TrainingError, match=r"model: the server may not write there"):
        FineTuning(context).run(dict(SHORT))
    assert context.model_version() == before
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    stats = FineTuning(context).run(dict(SHORT))
    assert stats["model_version"] == context.model_version()
    assert not list((small_disk / "model").rglob("*.part"))
    context.close()


def test_two_trainings_at_once_are_refused(context: Context, tmp_path: Path) -> None:
    submit(context, tmp_path, "a")
    with only_one(context.models.root / ".training.lock"), pytest.raises(ConflictError):
        FineTuning(context).run(dict(SHORT))


def test_what_a_client_may_set_is_shown(context: Context) -> None:
    info = FineTuningTask(context).info()
    assert info["config"] == {"max_epochs": 10, "steps_per_epoch": 20, "networks": "all"}
    assert FineTuning(context).stats() == {}


@pytest.mark.parametrize("value", ["x", 0, -1, 1.5, 10_001, None, [1], True])
def test_numbers_that_are_not_allowed(value: object) -> None:
    with pytest.raises(RequestError, match="max_epochs"):
        whole({"max_epochs": value}, "max_epochs", 3, 10_000)


def test_numbers_that_are_allowed() -> None:
    assert whole({}, "max_epochs", 3, 10) == 3
    assert whole({"max_epochs": "7"}, "max_epochs", 3, 10) == 7


def test_names_of_networks() -> None:
    assert chosen("all", NETWORKS) == NETWORKS
    assert chosen("nnunet, unet", NETWORKS) == ("unet", "nnunet")
    assert chosen(["unet"], NETWORKS) == ("unet",)
    for value in ("other", 3, [["unet"]]):
        with pytest.raises(RequestError, match="networks"):
            chosen(value, NETWORKS)


def test_a_prediction_made_anew_changes_nothing_that_is_learned(
    context: Context, tmp_path: Path
) -> None:
    """Scoring predicts volumes whose labels a training learns from, and assembles them anew."""
    assert context.label_service is not None
    submit(context, tmp_path, "a")

    def predict(model_version: str, at: int) -> bytes:
        pseudo = np.zeros(GRID.shape, np.uint8)
        pseudo[at : at + 3, 2:5, 6:10] = 9
        for image in ("a", "b"):
            context.label_service.keep_pseudo(image, pseudo, GRID, {"model_version": model_version})  # type: ignore[union-attr]
        return cases(context)[0].label_path.read_bytes()

    def guessed() -> str:
        return {case.name: case.content for case in cases(context, pseudo=True)}["b"]

    first = predict("one", 10)
    [before] = cases(context)
    assert before.content
    before_b = guessed()
    assert predict("two", 11) != first
    [after] = cases(context)
    assert after.content == before.content
    assert guessed() != before_b  # there the pseudo label is what is learned from
    array = np.zeros(GRID.shape, np.uint8)
    array[8:14, 8:13, 6:13] = 5
    context.label_service.submit("a", write_nifti(tmp_path / "next.nii.gz", array, GRID), ANNA, {})
    [again] = cases(context)
    assert again.content != before.content


def test_whose_a_volume_is_comes_from_a_table(context: Context, tmp_path: Path) -> None:
    for image in ("a", "b"):
        submit(context, tmp_path, image)
    assert [case.patient for case in cases(context)] == ["", ""]
    table = tmp_path / "patients.csv"
    table.write_text("volume,patient\na,p1\n")
    context.settings = context.settings.model_copy(update={"patients": table})
    assert {case.name: case.patient for case in cases(context)} == {"a": "p1", "b": ""}
    table.write_text("volume\na\n")
    with pytest.raises(SettingsError, match=r"patients\.csv"):
        open_context(Settings(patients=table), str(tmp_path / "studies"), tmp_path)
