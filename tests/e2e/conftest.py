"""Fixtures of the tests that start the real server."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import APP, Server, running


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A copy of the app folder, so that a training does not change what is served here."""
    copy = tmp_path / "app"
    copy.mkdir()
    shutil.copy(APP / "main.py", copy)
    shutil.copytree(APP / "model" / "embedded", copy / "model" / "embedded")
    return copy


@pytest.fixture
def start(tmp_path: Path, app: Path) -> Iterator[Callable[..., Server]]:
    """Start a server over a folder of studies; it ends with the test."""
    with contextlib.ExitStack() as stack:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        yield lambda studies, *more: stack.enter_context(running(app, studies, elsewhere, *more))
