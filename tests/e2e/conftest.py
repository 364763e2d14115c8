"""Fixtures of the tests that start the real server."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.harness import APP, Server, running
from tests.e2e.realm import Realm, signed_in
from tests.e2e.reviewing import Client

# Ray reads these when it is imported: no reports of use, and nodes that listen on loopback alone.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


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


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    """A sign-in server."""
    with signed_in() as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium with WebGL."""
    from tests.e2e.browser import WEBGL, launched  # skips where playwright is not installed

    with launched(*WEBGL) as chromium:
        yield chromium


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A page of the module's server; it says yes to what it is asked."""
    from tests.e2e.browser import opened

    with opened(browser, server) as found:
        found.on("dialog", lambda dialog: dialog.accept())
        yield found


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Client:
    """Requests of annotators and reviewers."""
    return Client(server, tmp_path)
