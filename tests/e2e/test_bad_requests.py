"""Bad requests to the real server: for each its code and the word that says why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.small import LIMIT_S, small_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("bad"), "--conf", "all_routes", "true") as started:
        yield started


def form(**params: str) -> dict[str, Any]:
    return {"data": params}


def upload(name: str, content: bytes = b"x", field: str = "label") -> dict[str, Any]:
    return {"files": {field: (name, content)}}


AS_JSON = {"headers": {"Content-Type": "application/json"}}
NO_BODY: dict[str, Any] = {}
HALF = '{"client_id": "\\ud800"}'
UUID = "00000000-0000-0000-0000-000000000000"
BAD: list[tuple[str, str, dict[str, Any], int, str]] = [
    # What is not there.
    ("POST", "/infer/nothing?image=a", NO_BODY, 404, "ensemble"),
    ("POST", "/infer/ensemble?image=nothing", NO_BODY, 404, "nothing"),
    ("POST", f"/infer/ensemble?session_id={UUID}", NO_BODY, 404, "session"),
    ("POST", "/infer/wsi/ensemble?image=a", {"json": {}}, 404, "Not Found"),
    ("POST", "/infer/wsi_v2/ensemble?image=a", NO_BODY, 404, "Not Found"),
    ("POST", "/activelearning/nothing", {"json": {}}, 404, "attention"),
    ("POST", "/scoring/nothing", {"json": {}}, 404, "attention"),
    ("POST", "/train/nothing", {"json": {}}, 404, "atlas8k"),
    ("POST", "/batch/infer/nothing", {"json": {}}, 404, "ensemble"),
    ("GET", "/model/nothing", NO_BODY, 404, "ensemble"),
    ("GET", "/model/info/nothing", NO_BODY, 404, "ensemble"),
    ("GET", "/datastore/image?image=nothing", NO_BODY, 404, "nothing"),
    ("GET", "/datastore/image/info?image=nothing", NO_BODY, 404, "nothing"),
    ("PUT", "/datastore/image/info?image=nothing", form(info="{}"), 404, "nothing"),
    ("GET", "/datastore/label?label=a&tag=nothing", NO_BODY, 404, "NOT Found"),
    ("GET", "/datastore/label/info?label=a&tag=nothing", NO_BODY, 404, "a"),
    ("PUT", "/datastore/label/info?label=a&tag=nothing", form(info="{}"), 404, "a"),
    ("DELETE", "/datastore/label?id=a&tag=nothing", NO_BODY, 404, "a"),
    ("DELETE", "/datastore/image?id=nothing", NO_BODY, 404, "nothing"),
    ("PUT", "/datastore/label?image=nothing", upload("a.nii.gz"), 404, "nothing"),
    ("GET", f"/session/{UUID}", NO_BODY, 404, "session"),
    ("DELETE", f"/session/{UUID}", NO_BODY, 404, "session"),
    ("GET", "/nothing", NO_BODY, 404, "Not Found"),
    # Paths.
    ("POST", "/infer/ensemble?image=/etc/passwd", NO_BODY, 404, "passwd"),
    ("POST", "/infer/ensemble?image=../x", NO_BODY, 404, "../x"),
    ("GET", "/datastore/image?image=../../etc/passwd", NO_BODY, 422, "image id"),
    ("GET", "/datastore/label?label=../x&tag=final", NO_BODY, 422, "image id"),
    ("GET", "/datastore/label?label=a&tag=../../x", NO_BODY, 422, "tag"),
    ("PUT", "/datastore/label?image=a&tag=../../evil", upload("a.nii.gz"), 422, "tag"),
    ("PUT", "/datastore/image?image=../evil", upload("a.nii.gz", field="file"), 422, "id"),
    ("DELETE", "/datastore/image?id=../app/main", NO_BODY, 422, "id"),
    ("GET", "/session/..%2F..%2Fapp", NO_BODY, 404, ""),
    ("DELETE", "/session/%2e%2e", NO_BODY, 404, ""),
    ("GET", "/proxy/dicom/studies", NO_BODY, 404, "folder"),
    ("GET", "/proxy/dicom/wado/http://127.0.0.1:1/", NO_BODY, 404, ""),
    ("POST", "/proxy/dicom/stow/studies", {"data": b"x"}, 404, "no place to store"),
    # What params may not say.
    ("POST", "/infer/unet?image=a", form(params='{"image": "/etc/passwd"}'), 404, "passwd"),
    ("POST", "/infer/unet?image=a", form(params='{"image": "b"}'), 422, "another"),
    ("POST", "/infer/unet?image=a", form(params='{"image": 3}'), 422, "names"),
    ("POST", "/infer/unet?image=a", form(params='{"model": "nnunet"}'), 422, "another"),
    ("POST", "/infer/unet?image=a", form(params='{"model": "x"}'), 404, "ensemble"),
    (
        "POST",
        "/infer/unet?image=a",
        form(params='{"save_label": true, "label_tag": "final"}'),
        422,
        "final",
    ),
    ("POST", "/infer/attention?image=a", form(params='{"save_label": 1}'), 422, "organs"),
    ("POST", "/batch/infer/unet", {"json": {"label_tag": "final"}}, 422, "final"),
    ("POST", "/batch/infer/unet", {"json": {"label_tag": "../x"}}, 422, "tag"),
    ("POST", "/batch/infer/attention", {"json": {}}, 422, "organs"),
    ("POST", "/batch/infer/unet", {"json": {"max_batch_size": "x"}}, 422, "number"),
    ("POST", "/batch/infer/unet?images=some", {"json": {}}, 422, "images"),
    ("POST", "/train/atlas8k", {"json": {"max_epochs": 0}}, 422, "max_epochs"),
    ("POST", "/train/atlas8k", {"json": {"networks": "x"}}, 422, "served"),
    ("POST", "/train/atlas8k?run_sync=true", {"json": {}}, 409, "submit"),
    ("POST", "/activelearning/attention", {"json": {"organ": "brain"}}, 422, "liver"),
    ("POST", "/activelearning/attention", {"json": {"source": 3}}, 422, "source"),
    # What is no JSON, or too much, or not what is asked for.
    ("POST", "/infer/unet?image=a", form(params="{"), 422, "JSON"),
    ("POST", "/infer/unet?image=a", form(params="[]"), 422, "object"),
    ("POST", "/infer/unet?image=a", form(params="[" * 5000), 422, "JSON"),
    ("POST", "/activelearning/attention", {"data": b"{", **AS_JSON}, 422, "JSON"),
    ("POST", "/activelearning/attention", {"json": [1]}, 422, "dictionary"),
    ("POST", "/activelearning/attention", {"json": {"x": "y" * (2 << 20)}}, 413, "1 MiB"),
    ("GET", "/info/", {"headers": {"x-long": "y" * 20_000}}, 431, "headers"),
    ("POST", "/infer/unet", NO_BODY, 422, "image"),
    ("POST", "/infer/unet?image=a&output=nothing", NO_BODY, 422, "output"),
    ("POST", "/infer/unet?image=a&output=dicom_seg", NO_BODY, 422, "DICOM"),
    ("GET", "/datastore/?output=nothing", NO_BODY, 422, "output"),
    ("GET", "/datastore/image", NO_BODY, 422, "image"),
    ("PUT", "/datastore/label?image=a", NO_BODY, 422, "label"),
    ("PUT", "/datastore/label?image=a", upload("a.nii.gz"), 422, "label"),
    ("PUT", "/datastore/label?image=a", upload("a.txt"), 422, ".nii.gz"),
    ("PUT", "/datastore/image?image=new", upload("a.exe", field="file"), 422, ".nii.gz"),
    ("PUT", "/datastore/image?image=new", upload("a.nii", field="file"), 422, ""),
    ("PUT", "/session/?uncompress=true", upload("a.zip", field="files"), 422, "archives"),
    ("PUT", "/session/", upload("a.zip", field="files"), 422, ".nii.gz"),
    ("PUT", "/session/?expiry=-1", upload("a.nii.gz", field="files"), 422, "expiry"),
    ("GET", "/logs/?lines=0", NO_BODY, 422, "lines"),
    ("GET", "/logs/?lines=99999999999999999999", NO_BODY, 422, "lines"),
    ("PUT", "/model/unet", upload("a.pt", field="file"), 405, "Not Allowed"),
    ("DELETE", "/model/unet", NO_BODY, 405, "Not Allowed"),
    ("POST", "/auth/token", form(username="a", password="b"), 404, "off"),
    # Names of the server's replies, and what nothing can store.
    ("PUT", "/datastore/image/info?image=a", form(info='{"id": "b"}'), 422, "'id'"),
    ("PUT", "/datastore/image/info?image=a", form(info='{"lease": 7}'), 422, "'lease'"),
    ("PUT", "/datastore/image/info?image=a", form(info='{"strategy": 5}'), 422, "'strategy'"),
    ("PUT", "/datastore/image/info?image=a", form(info='{"comment": {}}'), 422, "comment"),
    ("POST", "/activelearning/first", {"data": HALF, **AS_JSON}, 422, "surrogate"),
    ("POST", "/atlas8k/cases/a/take", {"data": HALF, **AS_JSON}, 422, "surrogate"),
    ("PUT", "/datastore/image/info?image=a", form(info=HALF), 422, "surrogate"),
]


@pytest.mark.parametrize(("method", "path", "body", "code", "word"), BAD)
def test_bad_request(
    server: Server, method: str, path: str, body: dict[str, Any], code: int, word: str
) -> None:
    answer = requests.request(method, server.url + path, timeout=LIMIT_S, **body)
    assert answer.status_code == code, answer.text[:500]
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert detail
    assert word in detail


def test_a_head_request_says_so_too(server: Server) -> None:
    for path, code in [
        ("/datastore/image?image=a", 200),
        ("/datastore/image?image=nothing", 404),
        ("/datastore/image?image=a&check_sum=SHA256:00", 404),
        ("/datastore/image?image=a&check_sum=ROT13:00", 422),
        ("/datastore/label?image=a&tag=final", 404),
    ]:
        assert requests.head(server.url + path, timeout=LIMIT_S).status_code == code, path


def test_nothing_was_written_and_nothing_started(server: Server) -> None:
    assert sorted(path.name for path in server.studies.glob("*.nii*")) == [
        "a.nii.gz",
        "b.nii.gz",
        "c.nii.gz",
    ]
    assert not list(server.studies.parent.rglob("evil*"))
    assert requests.get(f"{server.url}/train/", timeout=LIMIT_S).status_code == 404
    assert requests.get(f"{server.url}/batch/infer", timeout=LIMIT_S).status_code == 404
    assert requests.get(f"{server.url}/datastore/", timeout=LIMIT_S).json()["completed"] == 0


def test_what_one_annotator_notes_changes_nothing_of_what_another_gets(server: Server) -> None:
    def sample(name: str) -> dict[str, Any]:
        url = f"{server.url}/activelearning/first"
        reply: dict[str, Any] = requests.post(url, json={"client_id": name}, timeout=LIMIT_S).json()
        return reply

    mine = sample("anna")
    free = next(name for name in ("a", "b", "c") if name != mine["id"])
    for info in ('{"id": "x", "lease": 1}', '{"strategy": 5}', '{"comment": "a stent"}'):
        url = f"{server.url}/datastore/image/info?image={free}"
        requests.put(url, data={"info": info}, timeout=LIMIT_S)
    theirs = sample("ben")
    assert (theirs["id"], theirs["comment"]) == (free, "a stent")
    assert theirs["lease"] not in {1, mine["lease"]}


def test_no_page_of_another_origin_may_call(server: Server) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    for method in ("GET", "OPTIONS"):
        answer = requests.request(method, f"{server.url}/info/", headers=headers, timeout=LIMIT_S)
        assert "access-control-allow-origin" not in answer.headers


def test_the_viewer_reads_no_file_but_its_own(server: Server) -> None:
    start = requests.get(f"{server.url}/ohif/", timeout=LIMIT_S)
    for path in (
        "..",
        "%2e%2e/%2e%2e/__init__.py",
        "../../../app.py",
        "/etc/passwd",
        "monai-label",
        "a" * 300,
        "a/" * 700,
        "%00",
    ):
        # Sent as it is: the client would take the dots out.
        session = requests.Session()
        request = requests.Request("GET", server.url).prepare()
        request.url = f"{server.url}/ohif/{path}"
        answer = session.send(request, timeout=LIMIT_S)
        assert answer.status_code == 200
        assert answer.content == start.content, path
