"""A second reader gets nothing of the first reading, by any route, until the second is in."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer
from tests.e2e.second_reader import NOTE, THUMBNAIL, Person, says_nothing
from tests.e2e.small import LIMIT_S, label_bytes, small_server

from atlas8k.core.volume import read_label

pytestmark = pytest.mark.slow


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
