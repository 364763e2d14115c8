"""What is told where nnInteractive's server cannot be asked; its real one is in tests/e2e."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from atlas8k.core.errors import SettingsError
from atlas8k.core.grid import Grid
from atlas8k.core.settings import Settings
from atlas8k.refine.strokes import Strokes
from atlas8k.services.errors import UpstreamError
from atlas8k.services.nninteractive import NnInteractive, _turned, _turned_back, nninteractive_of


@pytest.fixture
def nowhere() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_named(nowhere: str) -> None:
    one = NnInteractive(nowhere, "MIT")
    grid = Grid((4, 5, 6), np.eye(4))
    strokes = Strokes(np.array([[1, 1, 1]]), np.zeros((0, 3), int))
    assert f"{nowhere} does not answer" in one.about().why_not
    with pytest.raises(UpstreamError, match=f"{nowhere} does not answer"):
        one.propose(Path("ct.nii.gz"), "1", grid, np.zeros(grid.shape, bool), strokes)
    one.close()


def test_another_program_that_answers_is_no_error_of_ours() -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"hello": "world"}')

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        about = NnInteractive(f"http://127.0.0.1:{server.server_port}", "MIT").about()
        server.shutdown()
    assert "what it answers is not understood" in about.why_not


@pytest.mark.parametrize(
    "address", ["gpu:1527", "ftp://gpu", "http://me:secret@gpu:1527", "http://gpu:1527/?a=b"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="give an address such as http://gpu"):
        Settings.from_conf({"nninteractive": address})


def test_without_its_client_a_start_says_what_to_install(
    nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_conf({"nninteractive": nowhere})
    monkeypatch.setitem(sys.modules, "nnInteractive.inference", None)
    with pytest.raises(SettingsError, match=r"pip install 'atlas8k\[interactive\]'"):
        nninteractive_of(settings)


def test_none_is_there_unless_it_is_set() -> None:
    assert nninteractive_of(Settings.from_conf({})) is None


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSL", "IAR"])
def test_it_gets_arrays_as_simpleitk_reads_them(codes: str) -> None:
    """Slices from foot to head, rows from front to back, columns from right to left."""
    from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

    straight = np.arange(4 * 5 * 6).reshape(4, 5, 6)  # LPS
    turn = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(codes))
    from nibabel.orientations import apply_orientation

    stored = apply_orientation(straight, turn)
    affine = np.diag([-1.0, -1, 2, 1]) @ inv_ornt_aff(turn, straight.shape)
    grid = Grid(stored.shape, affine)
    assert grid.orientation == codes
    sent = _turned(stored, grid)
    assert np.array_equal(sent, straight.transpose(2, 1, 0))
    assert np.array_equal(_turned_back(sent, grid), stored)
