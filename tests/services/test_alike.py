"""CTs that are alike are found while a folder is served, whatever was done before."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from abdomen_phantom import generate
from atlas8k.core.volume import write_nifti
from atlas8k.services import alike as service
from atlas8k.services.alike import (
    AlikeWatch,
    FoundAlike,
    find_alike,
    found_alike,
    take_fingerprints,
    waiting,
)
from atlas8k.services.labels.service import LabelService

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
    watch = AlikeWatch(opened.folder, look_s=0.1, share=0)
    thread = watch.start(begun.set)
    until(lambda: found_alike(opened.ledger) == FoundAlike(1, 2, 3))
    assert begun.is_set()
    write(studies, "three", 1001, noise=10)
    (studies / "broken.nii.gz").write_bytes(b"\x1f\x8b not a CT")
    opened.folder.refresh()
    until(lambda: found_alike(opened.ledger) == FoundAlike(2, 4, 4))
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
    assert waiting(opened.folder) == []
    found = find_alike(opened.folder)
    assert [({pair.first, pair.second}, pair.kind) for pair in found] == [({"copy", "one"}, "copy")]
    assert list(service.compare_batches(opened.folder)) == []
    # A CT that is another now is alike nothing any more.
    write(studies, "copy", 1002)
    opened.folder.refresh()
    assert take_fingerprints(opened.folder) == ["copy"]
    assert find_alike(opened.folder) == []
    opened.close()
