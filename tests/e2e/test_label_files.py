"""Label files altered behind the real server's back: named in /info/, log and page, mended."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.e2e.harness import Server, running
from tests.e2e.small import LIMIT_S, get_label, label_bytes, put_label, small_server

pytestmark = pytest.mark.slow


def told(server: Server) -> dict[str, Any]:
    answer = requests.get(f"{server.url}/info/", timeout=LIMIT_S)
    found: dict[str, Any] = answer.json()["atlas8k"]["label_files"]
    return found


def when(server: Server, true: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """What is told once it is so: a look comes each minute."""
    end = time.monotonic() + 240
    while not true(found := told(server)):
        assert time.monotonic() < end, (found, server.text()[-3000:])
        time.sleep(1)
    return found


def page(server: Server) -> str:
    return requests.get(f"{server.url}/atlas8k/cases", timeout=LIMIT_S).text


def test_what_was_altered_is_named_and_mended(tmp_path: Path) -> None:
    with small_server(tmp_path) as server:
        assert put_label(server, label_bytes(tmp_path)).status_code == 200
        submitted = get_label(server)
        when(server, lambda found: found["at"] is not None)
        assert told(server)["count"] == 0
        assert 'id="label-files"' not in page(server)
    served = server.studies / "labels" / "final" / "a.nii.gz"
    with open(served, "r+b") as stream:  # by an editor that saves in place
        stream.write(b"\x1f\x8b edited")
    with running(server.app, server.studies, tmp_path) as server:
        found = when(server, lambda found: found["mended"])
        assert "labels/final/a.nii.gz is not what it was" in found["mended"][0]
        assert found["count"] == 0
        assert get_label(server) == submitted == served.read_bytes()
        (aside,) = found["set_aside"]
        assert (server.studies / aside["file"]).read_bytes().startswith(b"\x1f\x8b edited")
        assert aside["file"] in page(server)
        assert aside["file"] in server.text()
        # While it serves: nobody asks for a label, and it is noticed.
        shutil.rmtree(server.studies / "labels")
        found = when(server, lambda found: found["count"])
        assert any("/.history/final/a/" in one and "is gone" in one for one in found["faults"])
        assert "is gone" in page(server)
        assert "files are not what they were" in requests.get(server.url, timeout=LIMIT_S).text
