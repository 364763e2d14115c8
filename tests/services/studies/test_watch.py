"""A folder that changes under a running server."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.apart import ended, start
from tests.services.studies.kit import Open, write

QUICK = {"watch": True, "every_s": 0.05, "deep_every_s": 0.3, "settle_s": 0.0}


def until(condition: Callable[[], bool]) -> None:
    """Wait for the watcher; fails after far longer than it may take."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the folder's change was never noticed"
        time.sleep(0.02)


def test_volumes_appear_and_vanish_without_a_restart(studies: Path, open_folder: Open) -> None:
    (studies / "stays.nii.gz").touch()
    folder = open_folder(**QUICK)
    (studies / "flat.nii.gz").touch()
    (studies / "case").mkdir()
    until(lambda: folder.now().ids() == ["flat", "stays"])
    (studies / "case" / "ct.nii.gz").touch()
    until(lambda: folder.now().ids() == ["case", "flat", "stays"])
    (studies / "flat.nii.gz").unlink()
    until(lambda: folder.now().ids() == ["case", "stays"])
    (studies / "case" / "ct.nii.gz").unlink()  # leaves no trace in the studies folder
    until(lambda: folder.now().ids() == ["stays"])
    assert list(json.loads(folder.now().document())["objects"]) == ["stays"]


def test_a_case_folder_that_is_filled_later_is_noticed_without_looking_into_all_of_them(
    studies: Path, open_folder: Open
) -> None:
    (studies / "case").mkdir()
    folder = open_folder(**{**QUICK, "deep_every_s": 1e6})
    os.utime(studies, (1, 1))  # long enough ago for its listing to be trusted
    assert folder.now().ids() == []
    until(lambda: folder._sync._stamps[studies.resolve()] == 1_000_000_000)
    (studies / "case" / "ct.nii.gz").touch()
    until(lambda: folder.now().ids() == ["case"])


def test_labels_put_there_by_other_means_appear_and_vanish(
    studies: Path, open_folder: Open
) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder(**QUICK)
    write(folder.labels.path("a", "final", ".nii.gz"), b"x")
    (folder.labels.folder / "reader2").mkdir()
    write(folder.labels.path("a", "reader2", ".nii.gz"), b"x")
    until(lambda: folder.now().tags_of("a") == ["final", "reader2"])
    assert folder.now().status()["completed"] == 1
    folder.labels.path("a", "final", ".nii.gz").unlink()
    until(lambda: folder.now().status()["label_tags"] == {"reader2": 1})


def test_a_change_within_one_tick_of_the_clock_is_noticed(studies: Path, open_folder: Open) -> None:
    folder = open_folder(settle_s=0.0)
    before = studies.stat().st_mtime_ns
    folder._sync.look()
    (studies / "a.nii.gz").touch()
    os.utime(studies, ns=(before, before))  # as a coarser clock would have stamped it
    folder._sync.look()
    assert folder.now().ids() == ["a"]


def test_one_image_is_there_at_once_when_asked_for(studies: Path, open_folder: Open) -> None:
    folder = open_folder(settle_s=0.0)
    (studies / "a.nii.gz").touch()
    (studies / "case").mkdir()
    (studies / "case" / "ct.nii.gz").touch()
    assert folder.now().ids() == []
    assert folder.known_image("a").path == "a.nii.gz"
    assert folder.known_image("case").path == "case/ct.nii.gz"
    assert folder.now().ids() == ["a", "case"]
    (studies / "a.nii.gz").unlink()
    assert folder.image("a") is None
    assert folder.now().ids() == ["case"]


def test_a_file_that_is_still_being_copied_is_not_listed(studies: Path, open_folder: Open) -> None:
    folder = open_folder(watch=True, every_s=0.05, settle_s=0.5)
    stop = threading.Event()

    def copy() -> None:
        with open(studies / "big.nii.gz", "wb", buffering=0) as stream:
            while not stop.is_set():
                stream.write(b"x")
                time.sleep(0.02)

    copying = threading.Thread(target=copy)
    copying.start()
    try:
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert folder.now().ids() == []
            assert folder.image("big") is None
            time.sleep(0.02)
    finally:
        stop.set()
        copying.join()
    until(lambda: folder.now().ids() == ["big"])


def test_a_file_stamped_by_a_clock_ahead_of_ours_is_listed_when_it_rests(
    studies: Path, open_folder: Open
) -> None:
    folder = open_folder(watch=True, every_s=0.05, settle_s=0.2)
    path = write(studies / "a.nii.gz", b"x")
    os.utime(path, (time.time() + 3600,) * 2)
    until(lambda: folder.now().ids() == ["a"])


def test_a_mount_that_is_away_for_a_moment_does_not_empty_the_list(
    studies: Path, open_folder: Open, caplog: pytest.LogCaptureFixture
) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder(state_dir=studies.parent / "state")
    away = studies.rename(studies.with_name("away"))
    folder.refresh()
    assert folder.now().ids() == ["a"]
    assert "cannot be looked through" in caplog.text
    away.rename(studies)
    (studies / "b.nii.gz").touch()
    folder.refresh()
    assert folder.now().ids() == ["a", "b"]


def _churn(studies: Path, rounds: int) -> None:
    for n in range(rounds):
        for k in range(40):
            (studies / f"temp{k}.nii.gz").touch()
            (studies / f"case{k}").mkdir()
            (studies / f"case{k}" / "ct.nii.gz").touch()
        time.sleep(0.02)
        for k in range(40):
            (studies / f"temp{k}.nii.gz").unlink()
            shutil.rmtree(studies / f"case{k}")
        (studies / f"later{n}.nii.gz").touch()


def test_volumes_that_stay_are_found_all_the_time(
    studies: Path, open_folder: Open, tmp_path: Path
) -> None:
    staying = [f"stay{k}" for k in range(20)]
    for name in staying:
        (studies / f"{name}.nii.gz").touch()
    (studies / "tree").mkdir()
    (studies / "tree" / "ct.nii.gz").touch()
    staying.append("tree")
    folder = open_folder(**QUICK)
    label = write(tmp_path / "l.nii.gz", b"x")
    folder.save_label("stay0", "final", label, None)
    churning = start(_churn, studies, 15)
    reads = 0
    while churning.is_alive():
        for name in staying:
            file = folder.image(name)
            assert file is not None, name
            assert (studies / file.path).is_file()
            reads += 1
        assert set(staying) <= set(folder.now().ids())
        assert set(staying) <= json.loads(folder.now().document())["objects"].keys()
        status = folder.now().status()
        assert status["total"] >= len(staying)
        assert status["completed"] == 1
    assert ended(churning) == 0
    assert reads > 50
    expected = sorted([*staying, *(f"later{n}" for n in range(15))])
    until(lambda: folder.now().ids() == expected)


def test_the_watcher_ends_with_its_folder(studies: Path, open_folder: Open) -> None:
    folder = open_folder(**QUICK)
    folder.now()
    watcher = folder._watcher
    assert watcher is not None
    assert watcher.is_alive()
    folder.close()
    watcher.join(10)
    assert not watcher.is_alive()
