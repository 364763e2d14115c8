"""A second reader gets nothing of the first reading, by any route, until the second is in."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer, signed_in
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server

from atlas8k.core.volume import read_label

pytestmark = pytest.mark.slow
NOTE = "only the first reader knows"


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with signed_in() as started:
        yield started


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    more = ("--conf", "double_read_percent", "100", "--conf", "all_routes", "true")
    with small_server(tmp_path_factory.mktemp("blind"), *more, images=("a",)) as started:
        end = time.monotonic() + 10 * LIMIT_S
        where = f"{started.url}/datastore/label?label=a&tag=original"
        headers = bearer(realm.token("anna"))
        while requests.get(where, headers=headers, timeout=LIMIT_S).status_code != 200:
            assert time.monotonic() < end, started.text()[-3000:]
            time.sleep(0.5)
        yield started


class Person:
    """Somebody who has signed in."""

    def __init__(self, server: Server, realm: Realm, name: str) -> None:
        self.server, self._headers = server, bearer(realm.token(name))

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(
            method, self.server.url + path, headers=self._headers, timeout=LIMIT_S, **more
        )

    def next(self) -> Any:
        return self.ask("POST", "/activelearning/first", json={}).json()

    def submit(self, organ: int) -> requests.Response:
        content = label_bytes(self.server.log.parent, organ)
        return put_label(self.server, content, headers=self._headers)

    def everything(self) -> dict[str, tuple[int, bytes]]:
        """What the routes say that know of a case."""
        found = {}
        for path in PATHS:
            answer = self.ask("GET", path)
            found[path] = (answer.status_code, answer.content)
        answer = self.ask("HEAD", "/datastore/label?image=a&tag=final")
        found["HEAD final"] = (answer.status_code, b"")
        return found


PATHS = [
    *(f"/datastore/label?label=a&tag={tag}" for tag in ("final", "original", "pseudo", "draft")),
    *(f"/datastore/label/info?label=a&tag={tag}" for tag in ("final", "original", "draft")),
    "/datastore/?output=all",
    "/datastore/?output=train",
    "/datastore/dataset",
    "/datastore/image/info?image=a",
    "/atlas8k/labels/a/history",
    "/atlas8k/labels/a/history/1",
    "/atlas8k/review",
    "/atlas8k/review/a",
    "/atlas8k/cases",
    "/atlas8k/cases/list",
    "/atlas8k/cases/a/start",
    "/atlas8k/cases/start?image=a",
    "/atlas8k/campaign",
    "/atlas8k/",
    "/atlas8k/list",
    THUMBNAIL := "/atlas8k/thumbnail?image=a",
    "/atlas8k/reviews",
    "/atlas8k/reviews/case?image=a",
    "/atlas8k/reviews/slice?image=a&first=1&second=1&axis=2&index=8",
    "/atlas8k/remarks",
    "/info/",
]


def says_nothing(found: dict[str, tuple[int, bytes]], first: bytes) -> None:
    """Nothing of the first reading is in any reply."""
    for path, (code, content) in found.items():
        assert code < 500, (path, content[:300])
        assert content != first, path
        for words in (NOTE.encode(), b"user:anna", b"anna"):
            assert words not in content, (path, content[:600])
    assert found["/datastore/label?label=a&tag=final"][0] == 404
    assert found["HEAD final"][0] == 404
    assert found["/datastore/label?label=a&tag=draft"][0] == 404
    assert found["/datastore/label/info?label=a&tag=final"][0] == 404
    labels = json.loads(found["/datastore/?output=all"][1])["objects"]["a"]["labels"]
    assert "final" not in labels
    assert "draft" not in labels
    assert b"submission" not in json.dumps(labels).encode()
    assert json.loads(found["/datastore/?output=train"][1]) == []
    assert found["/datastore/dataset"][0] in {403, 404}
    history = found["/atlas8k/labels/a/history"]
    assert history[0] == 403 or json.loads(history[1]) == {
        "image": "a",
        "history": [],
        "organs": {},
    }
    assert found["/atlas8k/labels/a/history/1"][0] in {403, 404}


def voxels(answer: requests.Response, folder: Path) -> bytes:
    """What a label holds, however it is packed."""
    assert answer.status_code == 200, answer.text[:300]
    path = folder / "answer.nii.gz"
    path.write_bytes(answer.content)
    return read_label(path).array.tobytes()


def test_a_second_reader(server: Server, realm: Realm, tmp_path: Path) -> None:
    anna, ben, ruth = (Person(server, realm, name) for name in ("anna", "ben", "ruth"))
    while (sample := anna.next()).get("id") != "a":
        pass
    start = anna.ask("GET", "/datastore/label?label=a&tag=original")
    picture = anna.ask("GET", THUMBNAIL).content
    info = {"info": json.dumps({"comment": NOTE})}
    reply = anna.submit(5)
    assert reply.status_code == 200, reply.text
    first = anna.ask("GET", "/datastore/label?label=a&tag=final").content
    content = label_bytes(tmp_path, 6)
    saved = requests.put(
        f"{server.url}/datastore/label?image=a&tag=draft",
        files={"label": ("label.nii.gz", content)},
        data={"params": json.dumps({"client_id": "x"})},
        headers=bearer(realm.token("anna")),
        timeout=LIMIT_S,
    )
    assert saved.status_code == 200, saved.text
    anna.ask("PUT", "/datastore/label/info?label=a&tag=final", data=info)

    # It waits: whoever is to read it looks beforehand.
    found = ben.everything()
    says_nothing(found, first)
    assert found[THUMBNAIL] == (200, picture)
    assert "not shown yet" in found["/atlas8k/list"][1].decode()
    assert ruth.ask("GET", THUMBNAIL).content != picture
    assert ruth.ask("GET", "/atlas8k/reviews/case?image=a").status_code == 200
    assert anna.ask("GET", "/datastore/label?label=a&tag=final").content == first
    assert ruth.ask("GET", "/datastore/label?label=a&tag=final").content == first
    assert ruth.ask("GET", "/atlas8k/labels/a/history/1").status_code == 200

    # He reads it.
    sample = ben.next()
    assert (sample["id"], sample["purpose"]) == ("a", "revise")
    assert "anna" not in json.dumps(sample)
    found = ben.everything()
    says_nothing(found, first)
    original = found["/datastore/label?label=a&tag=original"]
    assert original == (start.status_code, start.content)
    # As a model, too: it runs in another thread, which has to know who asks.
    draft = "/infer/draft?image=a&output=image"
    assert voxels(ben.ask("POST", draft), tmp_path) == voxels(start, tmp_path)
    assert voxels(anna.ask("POST", draft), tmp_path) != voxels(start, tmp_path)
    assert found[THUMBNAIL] == (200, picture)
    assert anna.ask("GET", "/datastore/label?label=a&tag=final").content == first
    history = ruth.ask("GET", "/atlas8k/labels/a/history").json()
    assert len(history["history"]) == 1

    # He has submitted: it is shown.
    assert ben.submit(6).status_code == 200
    assert ben.ask("GET", "/datastore/label?label=a&tag=final").content == first
    assert len(ben.ask("GET", "/atlas8k/labels/a/history").json()["history"]) == 2


def test_an_export_leaves_nothing_behind(server: Server, realm: Realm) -> None:
    """After the one above: the case is finished."""
    before = {*Path(tempfile.gettempdir()).glob("atlas8k-dataset-*")}
    anna = Person(server, realm, "anna")
    for _ in range(2):
        answer = anna.ask("GET", "/datastore/dataset")
        assert answer.status_code == 200, answer.text
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        with zipfile.ZipFile(BytesIO(answer.content)) as archive:
            assert sorted(archive.namelist()) == [
                "image/a.nii.gz",
                "label/a.nii.gz",
                "metadata.json",
            ]
    with requests.get(
        f"{server.url}/datastore/dataset",
        headers=bearer(realm.token("anna")),
        timeout=LIMIT_S,
        stream=True,
    ) as broken:
        assert broken.status_code == 200
    assert {*Path(tempfile.gettempdir()).glob("atlas8k-dataset-*")} == before
