"""Somebody who reads a case a second time, and what may not be said to them of the first."""

from __future__ import annotations

import json
from typing import Any

import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer
from tests.e2e.small import LIMIT_S, label_bytes, put_label

NOTE = "only the first reader knows"


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
