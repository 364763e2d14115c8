"""Near-duplicates are found while a folder is served, whatever was done before."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.grid import Volume
from atlas8k.core.volume import write_nifti
from atlas8k.services import duplicates as service
from atlas8k.services.duplicates import (
    DuplicateWatch,
    Summary,
    find_duplicates,
    missing,
    not_compared,
    summary,
    take_fingerprints,
)
from atlas8k.services.labels.service import LabelService
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.inspection import Inspector
from atlas8k.services.studies.opening import open_ledger
from atlas8k.services.studies.served import geometry_remarks, geometry_stamp
from atlas8k.store import locate

MM = 5.0


def write(folder: Path, name: str, seed: int, noise: float = 0.0) -> None:
    ct = generate(seed, grid_spacing_mm=MM).ct
    array = ct.array + np.random.default_rng(0).normal(0, noise or 1e-9, ct.array.shape)
    write_nifti(folder / f"{name}.nii.gz", array.astype(np.int16), ct.grid)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    write(folder, "one", 1000)
    write(folder, "two", 1001)
    write(folder, "copy", 1000, noise=10)
    return folder


def until(true, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_server_finds_them_and_what_comes_later(studies: Path) -> None:
    opened = LabelService.open(studies)
    begun = threading.Event()
    watch = DuplicateWatch(opened.folder, look_s=0.1, share=0)
    thread = watch.start(begun.set)
    until(lambda: summary(opened.folder) == Summary(1, 2, 3))
    assert begun.is_set()
    write(studies, "three", 1001, noise=10)
    (studies / "broken.nii.gz").write_bytes(b"\x1f\x8b not a CT")
    opened.folder.refresh()
    until(lambda: summary(opened.folder) == Summary(2, 4, 4, 1))
    assert "cannot be compared" in not_compared(opened.folder)["broken"]
    assert thread.is_alive()
    watch.stop()
    thread.join(10)
    assert not thread.is_alive()
    opened.close()


def test_what_was_read_and_not_compared_is_compared_later(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between the two, nothing is lost; neither where batches are small."""
    opened = LabelService.open(studies)
    assert sorted(take_fingerprints(opened.folder)) == ["copy", "one", "two"]
    opened.close()
    monkeypatch.setattr(service, "BATCH", 1)
    opened = LabelService.open(studies)
    assert missing(opened.folder) == []
    found = find_duplicates(opened.folder)
    assert [({pair.first, pair.second}, pair.kind) for pair in found] == [({"copy", "one"}, "copy")]
    assert list(service.compare_batches(opened.folder)) == []
    # A CT that is another now is alike nothing any more.
    write(studies, "copy", 1002)
    opened.folder.refresh()
    assert take_fingerprints(opened.folder) == ["copy"]
    assert find_duplicates(opened.folder) == []
    opened.close()


def test_what_cannot_be_compared_is_said_and_not_read_again(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (studies / "two.nii.gz").read_bytes()
    (studies / "two.nii.gz").write_bytes(whole[: len(whole) // 2])
    ct = generate(1003, grid_spacing_mm=MM).ct
    x, y, _ = ct.grid.shape
    low = Volume(ct.array[..., :8], ct.grid.crop((slice(0, x), slice(0, y), slice(0, 8))))
    write_nifti(studies / "low.nii.gz", low.array.astype(np.int16), low.grid)
    opened = LabelService.open(studies)
    assert sorted(take_fingerprints(opened.folder)) == ["copy", "low", "one"]
    find_duplicates(opened.folder)
    assert summary(opened.folder) == Summary(1, 2, 3, 2)
    found = not_compared(opened.folder)
    assert re.search("cannot be compared .* near-duplicates: .*", found["two"])
    assert "less than 9 cm" in found["low"]
    opened.close()
    # Remembered; it is read again when its file changes, and then compared.
    opened = LabelService.open(studies)
    assert missing(opened.folder) == []
    assert not_compared(opened.folder) == found
    (studies / "two.nii.gz").write_bytes(whole)
    opened.folder.refresh()
    assert take_fingerprints(opened.folder) == ["two"]
    assert list(not_compared(opened.folder)) == ["low"]
    opened.close()


def test_a_look_touches_no_file_where_nothing_has_changed(
    studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that is known where others came: what the folder's look around found counts."""
    ledger = open_ledger(studies, locate(str(studies)))
    geometry = [Inspector("geometry", geometry_remarks, geometry_stamp)]
    folder = StudiesFolder(studies, ledger=ledger, watch=False, inspectors=geometry)
    folder.inspections.look(deep=True)
    asked: list[str] = []
    before = StudiesFolder.fingerprint

    def fingerprint(self: StudiesFolder, image_id: str) -> str | None:
        asked.append(image_id)
        return before(self, image_id)

    monkeypatch.setattr(StudiesFolder, "fingerprint", fingerprint)
    watch = DuplicateWatch(folder, share=0)
    watch.look()
    assert {*asked} == {"one", "two", "copy"}
    assert summary(folder) == Summary(1, 2, 3)
    for _ in range(2):  # the first still sees its own writing
        asked.clear()
        watch.look()
        assert asked == []
    write(studies, "three", 1001, noise=10)
    folder.refresh()
    folder.inspections.look(deep=True)
    watch.look()
    assert {*asked} == {"three"}
    assert summary(folder) == Summary(2, 4, 4)
    # One that is another now, in place.
    asked.clear()
    write(studies, "copy", 1005)
    folder.inspections.look(deep=True)
    watch.look()
    assert {*asked} == {"copy"}
    assert summary(folder) == Summary(1, 2, 4)
    folder.close()
