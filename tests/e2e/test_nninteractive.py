"""Strokes by nnInteractive's own server, in an environment of its own, on the CPU.

Its network is tiny: one has random weights, one proposes every voxel that is bright, so that
what comes back can be told to the voxel, whatever the order in which the CT is stored.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from nibabel.orientations import apply_orientation, io_orientation
from tests.e2e import nninteractive_model
from tests.e2e.browser import keep, needs_chromium, until
from tests.e2e.case_page import begin, drawn, needs_niivue
from tests.e2e.harness import Server, end, free_port
from tests.e2e.nninteractive_model import LICENCE
from tests.e2e.slicer import opened, scribble
from tests.e2e.small import LIMIT_S, small_server
from tests.e2e.wrong_pole import CENTRE, KIDNEY, SPLEEN, WAYS, across, enter, patient, turned

from atlas8k.core.grid import Grid
from atlas8k.core.volume import write_nifti
from atlas8k.labels.provenance import read_provenance
from atlas8k.refine.strokes import Strokes
from atlas8k.services.errors import ConflictError, UpstreamError
from atlas8k.services.labels.service import LabelService
from atlas8k.store import Assistance

pytest.importorskip("nnInteractive", reason="nnInteractive's client is not installed")
PYTHON = os.environ.get(
    "ATLAS8K_NNUNET", str(Path(__file__).parents[2] / ".venv-nnunet/bin/python")
)
HAS_SERVER = Path(PYTHON).is_file() and not subprocess.call(
    [PYTHON, "-c", "import nnInteractive.inference.server"], stderr=subprocess.DEVNULL
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_SERVER, reason=f"{PYTHON} has no nnInteractive: make nnunet"),
]
START_S = 120
TYPED = "CC-BY-NC-SA-4.0"
"""MONAI Label's command takes no spaces."""


def threshold() -> float:
    """Half way between the kidney and what is around it, as a z-score of the CT."""
    ct = patient()[0].astype(np.float32)
    return float((115 - ct.mean()) / ct.std())


@contextlib.contextmanager
def interactive(folder: Path, *weights: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run nnInteractive's server with a tiny network."""
    made = folder / "model"
    subprocess.check_call([PYTHON, nninteractive_model.__file__, str(made), *weights])
    port = free_port()
    command = [PYTHON, "-m", "nnInteractive.inference.server.main"]
    command += ["--model-dir", str(made), "--fold", "0", "--device", "cpu", "--no-torch-compile"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--torch-n-threads", "2"]
    command += ["--max-sessions", "9"]
    log = folder / "nninteractive.txt"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [*command, "--api-key", "the key"], stdout=stream, stderr=stream, start_new_session=True
        )
    url, limit = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{url}/healthz", timeout=5).status_code < 500:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.2)
        yield url, process
    finally:
        end(process)


@pytest.fixture(scope="module")
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NN_INTERACTIVE_API_KEY", "the key")
        yield


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory, key: None) -> Iterator[str]:
    with interactive(tmp_path_factory.mktemp("bright"), str(threshold())) as (url, _):
        yield url


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, bright: str) -> Iterator[Server]:
    conf = ["--conf", "nninteractive", bright, "--conf", "nninteractive_licence", TYPED]
    folder = tmp_path_factory.mktemp("server")
    with small_server(folder, *conf, "--conf", "networks", "false", images=()) as started:
        enter(started)
        yield started


def viewed(array: np.ndarray, grid: Grid) -> np.ndarray:
    return apply_orientation(array, io_orientation(grid.affine))


def ask(server: Server, way: str, inside: list[list[int]], **more: str) -> requests.Response:
    """Send the wrong label of a CT with strokes, voxels of it as it is stored straight."""
    _, _, wrong = patient()
    sent, grid = turned(wrong, way)
    shown = viewed(sent, grid)
    data = {"organ": "kidney_left", "region": ",".join(map(str, (0, 0, 0, *shown.shape)))}
    files = {
        "label": zlib.compress(shown.tobytes(order="F")),
        "inside": struct.pack(f"<{3 * len(inside)}H", *np.ravel(inside)),
    }
    return requests.post(
        f"{server.url}/atlas8k/cases/kidney_{way}/strokes",
        data={**data, "by": "nninteractive", "client_id": "ann", **more},
        files={name: (name, content) for name, content in files.items()},
        timeout=LIMIT_S,
    )


POLE = [[x, 33, 42] for x in range(42, 48)]
"""Voxels of the kidney that the label lacks, as a viewer counts them."""


@pytest.mark.parametrize("way", WAYS)
def test_what_it_proposes_is_laid_where_it_lies(server: Server, way: str) -> None:
    """Only what hangs together with the stroke changes, and other organs do not."""
    answer = ask(server, way, POLE)
    assert answer.status_code == 200, answer.text
    _, kidney, wrong = patient()
    kidney, grid = turned(kidney, way)
    kidney, wrong = viewed(kidney, grid), viewed(turned(wrong, way)[0], grid)
    found = np.frombuffer(zlib.decompress(answer.content), np.uint8)
    found = found.reshape(wrong.shape, order="F")
    assert np.array_equal(found == SPLEEN, wrong == SPLEEN)
    pole = kidney & (np.indices(wrong.shape)[2] > 36)
    assert np.array_equal(found[pole], np.full(pole.sum(), KIDNEY)), "the pole is there"
    blob = (wrong == KIDNEY) & ~kidney
    assert (found[blob] == KIDNEY).mean() > 0.9, "what no stroke asks about stays"
    assert LICENCE in answer.headers["x-note"]


def test_its_licence_is_kept_with_the_label_and_in_an_export(
    server: Server, tmp_path: Path
) -> None:
    image, client = "kidney_RAS", server.client("ann")
    where = f"{server.url}/atlas8k/cases/{image}/strokes"
    about = requests.get(where, params={"client_id": "ann"}, timeout=LIMIT_S).json()
    assert about["nninteractive"] == {"licence": LICENCE, "why_not": ""}
    answer = ask(server, "RAS", POLE)
    found = np.frombuffer(zlib.decompress(answer.content), np.uint8)
    grid = turned(patient()[0], "RAS")[1]
    made = write_nifti(tmp_path / "made.nii.gz", found.reshape(grid.shape, order="F"), grid)
    client.save_label(image, str(made), params={"volume_is_right": ["kidney_left", "spleen"]})
    service = LabelService.open(server.studies)
    try:
        one = service.ledger.current_submission(image)
        assert one is not None
        helped = service.ledger.helped(one.id)
        assert helped.pop("kidney_left") == [Assistance("nnInteractive", LICENCE)]
        assert not helped, "nothing helped with the spleen"
    finally:
        service.close()
    origin = read_provenance(server.studies / "labels" / "final" / f"{image}.nii.gz")
    assert origin is not None
    assert origin.detail["tools"]["kidney_left"][0]["licence"] == LICENCE
    out = tmp_path / "out"
    subprocess.check_call(
        ["atlas8k", "export", str(out), "--studies", str(server.studies), "--require", "any"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    lines = (out / "manifest.csv").read_text().splitlines()
    assert [one.split(",")[1] for one in lines if LICENCE in one] == ["kidney_left"]


def test_slicers_panel_has_it_beside_ours(bright: str, tmp_path: Path) -> None:
    """Its answer is imported into the selected organ; no other is touched."""
    conf = ["--conf", "nninteractive", bright, "--conf", "nninteractive_licence", TYPED]
    more = [*conf, "--conf", "score_new_s", "0"]
    with small_server(tmp_path, *more, images=("a",)) as server:
        assert server.score()["status"] == "DONE"
        with opened(server.url, tmp_path / "slicer", "a slicer") as slicer:
            assert slicer.next_sample()
            methods = slicer.widget.ui.scribblesMethodSelector.items
            assert {"strokes", "nninteractive"} <= set(methods)
            for mask in (one.mask for one in slicer.segmentation.segments):
                mask[...] = False
            slicer.mask("liver")[8:14, 8:13, 6:12] = True
            slicer.mask("spleen")[2:6, 8:13, 6:12] = True
            before = {one.name: one.mask.copy() for one in slicer.segmentation.segments}
            add = (slice(15, 16), slice(9, 11), slice(8, 9))
            scribble(slicer, "liver", "nninteractive", foreground_scribbles=add)
            assert not slicer.errors, slicer.errors[0]
            assert slicer.mask("liver")[add].all()
            for name, mask in before.items():
                if name != "liver":
                    assert np.array_equal(slicer.mask(name), mask), name


def test_who_has_not_accepted_the_licence_is_told_which_it_is(bright: str, tmp_path: Path) -> None:
    from atlas8k.services.nninteractive import NnInteractive

    ct, kidney, _ = patient()
    array, grid = turned(ct, "RAS")
    path = write_nifti(tmp_path / "ct.nii.gz", array, grid)
    drawn_ = Strokes(np.array(POLE), np.zeros((0, 3), int))
    one = NnInteractive(bright, "MIT")
    about = one.about()
    assert about.licence == LICENCE
    assert f"--conf nninteractive_licence {TYPED}" in about.why_not
    with pytest.raises(ConflictError, match="the licence of its weights is"):
        one.propose(path, "1", grid, kidney, drawn_)
    one.close()


def test_a_random_network_changes_nothing_but_about_the_stroke(tmp_path: Path, key: None) -> None:
    from atlas8k.refine.adopt import adopt
    from atlas8k.services.nninteractive import NnInteractive

    ct, _, wrong = patient()
    array, grid = turned(ct, "RAS")
    path = write_nifti(tmp_path / "ct.nii.gz", array, grid)
    strokes = Strokes(np.array(POLE), np.array([[45, 33, 9]]))
    with interactive(tmp_path) as (url, process):
        one = NnInteractive(url, LICENCE)
        proposed, licence = one.propose(path, "1", grid, wrong == KIDNEY, strokes)
        assert licence == LICENCE
        found = adopt(wrong, proposed, KIDNEY, strokes)
        assert (found.label[tuple(strokes.inside.T)] == KIDNEY).all()
        assert (found.label[tuple(strokes.outside.T)] != KIDNEY).all()
        assert np.array_equal(found.label == SPLEEN, wrong == SPLEEN)
        end(process)
        with pytest.raises(UpstreamError, match="does not answer"):
            one.propose(path, "1", grid, wrong == KIDNEY, strokes)
        one.close()


def test_a_wrong_key_and_a_server_that_is_not_there(
    bright: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atlas8k.services.nninteractive import NnInteractive

    monkeypatch.setenv("NN_INTERACTIVE_API_KEY", "another")
    about = NnInteractive(bright, LICENCE).about()
    assert "it wants a key, NN_INTERACTIVE_API_KEY" in about.why_not
    about = NnInteractive(f"http://127.0.0.1:{free_port()}", LICENCE).about()
    assert "does not answer" in about.why_not
    # Of a file with a line end; and no error shows it.
    monkeypatch.setenv("NN_INTERACTIVE_API_KEY", "the key\n")
    assert NnInteractive(bright, LICENCE).about().licence == LICENCE
    monkeypatch.setenv("NN_INTERACTIVE_API_KEY", "a secret\nof two lines")
    about = NnInteractive(bright, LICENCE).about()
    assert about.why_not
    assert "secret" not in about.why_not


@needs_chromium
@needs_niivue
def test_the_page_offers_it_with_its_licence(page: Any, server: Server) -> None:
    begin(page, "kidney_PSL")
    page.keyboard.press(str(KIDNEY))
    before = drawn(page)
    page.keyboard.press("s")
    until(page, "document.querySelector('#by').options.length === 2")
    page.select_option("#by", "nninteractive")
    page.wait_for_selector(f"text=the licence of its weights is {LICENCE}")
    across(page, np.array([CENTRE[0], CENTRE[1], 106.0]), 9)
    page.wait_for_selector("text=ml more")
    until(page, "document.querySelector('#tools').ariaBusy === 'false'")
    assert len(drawn(page)) > len(before) * 1.1
    keep(page, "nninteractive")
