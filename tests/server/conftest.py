"""A studies folder with tiny networks, opened as the app opens it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.tiny import write_ct, write_networks

from atlas8k.core.settings import Settings
from atlas8k.services.context import Context
from atlas8k.services.opening import open_context


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write_networks(tmp_path / "model")


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Three volumes; `b` has the most tissue and with it the most attention."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for seed, (name, scale) in enumerate([("a", 0.6), ("b", 1.0), ("c", 0.8)]):
        write_ct(folder / f"{name}.nii.gz", seed, scale)
    return folder


@pytest.fixture
def context(studies: Path, models: Path) -> Iterator[Context]:
    opened = open_context(Settings(device="cpu"), str(studies), models)
    yield opened
    opened.close()
