"""Strokes over HTTP: 3D Slicer's *Scribbles* panel by the module's code, and the page's route."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.slicer import Slicer, opened, scribble
from tests.e2e.small import LIMIT_S, small_server
from tests.server.tiny import GRID

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label, write_nifti

pytestmark = pytest.mark.slow
LIVER, SPLEEN = ORGAN_IDS["liver"], ORGAN_IDS["spleen"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("strokes")
    with small_server(folder, "--conf", "score_new_s", "0", images=("a", "b", "c")) as started:
        assert started.score()["status"] == "DONE"
        yield started


@pytest.fixture
def slicer(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Slicer]:
    with opened(server.url, tmp_path / "slicer", f"user of {request.node.name}") as one:
        yield one


def test_slicers_scribbles_change_the_selected_organ_and_no_other(
    server: Server, slicer: Slicer
) -> None:
    assert slicer.next_sample()
    assert "strokes" in slicer.widget.ui.scribblesMethodSelector.items
    shape = slicer.mask("liver").shape
    liver, spleen = slicer.mask("liver"), slicer.mask("spleen")
    for mask in (one.mask for one in slicer.segmentation.segments):
        mask[...] = False
    liver[8:14, 8:13, 6:12] = True
    spleen[2:6, 8:13, 6:12] = True
    before = {one.name: one.mask.copy() for one in slicer.segmentation.segments}
    add, take = (
        (slice(15, 16), slice(9, 11), slice(8, 9)),
        (slice(9, 10), slice(9, 11), slice(8, 9)),
    )
    scribble(slicer, "liver", foreground_scribbles=add, background_scribbles=take)
    assert not slicer.errors, slicer.errors[0]
    now = slicer.mask("liver")
    assert now.shape == shape
    assert now[add].all()
    assert not now[take].any()
    for name, mask in before.items():
        if name != "liver":
            assert np.array_equal(slicer.mask(name), mask), name
    # Pressed again, with the same scribbles over the new label: it has them already.
    scribble(slicer, "liver", foreground_scribbles=add, background_scribbles=take)
    assert not slicer.errors
    assert slicer.mask("liver")[add].all()
    assert not slicer.mask("liver")[take].any()


def test_slicer_shows_why_scribbles_are_refused(server: Server, slicer: Slicer) -> None:
    assert slicer.next_sample()
    before = slicer.mask("liver").copy()
    scribble(slicer, "liver")
    assert "there is no scribble in the map" in slicer.errors.pop()
    assert np.array_equal(slicer.mask("liver"), before)


INFO = [
    {"name": "liver", "id": 1},
    {"name": "background_scribbles", "id": 2},
    {"name": "foreground_scribbles", "id": 3},
]


def infer(server: Server, folder: Path, array: np.ndarray, **params: Any) -> requests.Response:
    path = write_nifti(folder / "scribbles.nii.gz", array, GRID)
    asked = {"label_info": INFO, "selected_label_name": "liver", "roi": [], **params}
    with open(path, "rb") as stream:
        return requests.post(
            f"{server.url}/infer/strokes?image=b&output=image",
            data={"params": json.dumps(asked)},
            files={"label": ("scribbles.nii.gz", stream)},
            timeout=LIMIT_S,
        )


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"selected_label_name": "bladder of a fish"}, "is none of the structures"),
        ({"label_info": "liver"}, "label_info: a list of"),
        ({"label_info": [{"name": "liver", "id": 1}]}, "have no name in label_info"),
        ({"roi": [1, 2, 3]}, "roi: six numbers"),
        ({"roi": [900, 901, 0, 5, 0, 5]}, "roi: it lies outside of the CT"),
        ({"save_label": True}, "submit the whole label"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(
    server: Server, tmp_path: Path, params: dict[str, Any], says: str
) -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[8:14, 8:13, 6:12] = 1
    array[15, 9:11, 8] = 3
    answer = infer(server, tmp_path, array, **params)
    assert answer.status_code in (404, 422), answer.text
    assert says in answer.json()["detail"]


def test_nothing_outside_of_the_region_of_interest_changes(server: Server, tmp_path: Path) -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[8:14, 8:13, 6:12] = 1
    array[15, 9:11, 8] = 3
    answer = infer(server, tmp_path, array, roi=[14, 16, 12, 8, 7, 9])
    assert answer.status_code == 200, answer.text
    path = tmp_path / "answer.nii.gz"
    path.write_bytes(answer.content)
    mask = read_label(path).array
    assert set(np.unique(mask)) == {0, 1}
    inside = np.zeros(mask.shape, bool)
    inside[14:17, 8:13, 7:10] = True
    assert np.array_equal(mask[~inside] == 1, (array == 1)[~inside])
    assert mask[15, 9:11, 8].all()


def test_without_a_map_there_is_nothing_to_answer(server: Server) -> None:
    answer = requests.post(f"{server.url}/infer/strokes?image=b", timeout=LIMIT_S)
    assert answer.status_code == 422
    assert "a label map with scribbles" in answer.json()["detail"]
    hidden = {"params": json.dumps({"label": "/etc/passwd", "selected_label_name": "liver"})}
    answer = requests.post(f"{server.url}/infer/strokes?image=b", data=hidden, timeout=LIMIT_S)
    assert answer.status_code == 422
    assert "a label map with scribbles" in answer.json()["detail"]


# --- the route of the page ------------------------------------------------------------------


def ask(server: Server, image: str = "c", **more: Any) -> requests.Response:
    shape = GRID.shape
    label = np.zeros(shape, np.uint8)
    label[8:14, 8:13, 6:12] = LIVER
    data = {"organ": "liver", "region": f"0,0,0,{shape[0]},{shape[1]},{shape[2]}"}
    packed = zlib.compress(label.tobytes(order="F"))
    files = {"label": packed, "inside": struct.pack("<6H", 15, 9, 8, 15, 10, 8)}
    data |= {k: v for k, v in more.items() if k not in files and k != "outside"}
    files |= {k: v for k, v in more.items() if k in (*files, "outside")}
    return requests.post(
        f"{server.url}/atlas8k/cases/{image}/strokes",
        data=data,
        files={k: (k, v) for k, v in files.items() if v},
        timeout=LIMIT_S,
    )


def test_the_page_gets_the_region_back_and_knows_whether_it_waits(server: Server) -> None:
    where = f"{server.url}/atlas8k/cases/c/strokes"
    assert requests.get(where, timeout=LIMIT_S).json() == {
        "image": "c",
        "ready": True,
        "nninteractive": None,
    }
    answer = ask(server)
    assert answer.status_code == 200, answer.text
    found = np.frombuffer(zlib.decompress(answer.content), np.uint8).reshape(GRID.shape, order="F")
    assert (found[15, 9:11, 8] == LIVER).all()
    assert set(np.unique(found)) == {0, LIVER}
    assert float(answer.headers["x-added-ml"]) > 0


@pytest.mark.parametrize(
    ("more", "status", "says"),
    [
        ({"organ": "fin"}, 404, "there is no organ 'fin'"),
        ({"image": "nobody"}, 404, "nobody"),
        ({"region": "0,0,0,9999,1,1"}, 422, "the CT has"),
        ({"region": "0,0,0,2,2,2"}, 422, "voxels were sent for a region"),
        ({"label": b"nothing"}, 422, "not deflated"),
        ({"inside": struct.pack("<3H", 5000, 1, 1)}, 422, "a stroke has voxel"),
        ({"inside": b"12345"}, 422, "triples of uint16"),
        ({"inside": b""}, 422, "no voxel is marked"),
        ({"outside": struct.pack("<3H", 15, 9, 8)}, 422, "marked as organ and as not"),
        ({"outside": struct.pack("<3H", 9, 9, 8) * 10_000}, 200, ""),
        ({"by": "nninteractive"}, 422, "no server of it is set"),
        ({"by": "somebody"}, 422, "networks"),
    ],
)
def test_strokes_that_cannot_be_are_refused_in_words(
    server: Server, more: dict[str, Any], status: int, says: str
) -> None:
    answer = ask(server, **more)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert says in answer.json()["detail"]
