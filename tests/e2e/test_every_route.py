"""Every route of the running server: who may use it, from which page, under which name.

The list below is compared with the routes of the server that is asked, so that a new route is
missing here until somebody has said whose it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.realm import Realm, bearer, signed_in
from tests.e2e.small import LIMIT_S, small_server

pytestmark = pytest.mark.slow

WRITE_ROUTES = """
import json
from pathlib import Path

from atlas8k.server import install as installing

_install = installing.install


def _walk(routes):
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _walk(route.original_router.routes)
        else:
            yield route


def install(app, *more):
    _install(app, *more)
    found = [
        f"{method} {route.path}"
        for route in _walk(app.routes)
        for method in sorted(getattr(route, "methods", None) or ["MOUNT"])
    ]
    Path(__file__).with_name("routes.json").write_text(json.dumps(found))


installing.install = install
"""
"""Has the server write its routes beside its ``main.py`` when it has set them up."""

ALL = "anna ruth adam"  # annotator, reviewer, admin; each is a user, too
WORK = "anna ruth"
DECIDE = "ruth adam"
NOBODY = {"image": "nothing"}


class Row(NamedTuple):
    """A route, a request to it, and what it gets from whom."""

    route: str
    code: int
    """Of those who may."""
    who: str = ""
    """Who may; empty: everybody, without a token as well."""
    query: str = ""
    body: dict[str, Any] | None = None
    path: str = ""
    """With values in place of the parameters; the route itself where it has none."""

    @property
    def method(self) -> str:
        return self.route.split()[0]

    @property
    def url(self) -> str:
        return (self.path or self.route.split()[1]) + (f"?{self.query}" if self.query else "")


ROWS = [
    # The description of the interface, and how to sign in.
    Row("GET /", 200),
    Row("GET /docs", 200),
    Row("GET /openapi.json", 200),
    Row("HEAD /openapi.json", 200),
    Row("GET /favicon.ico", 200),
    Row("GET /auth/", 200),
    Row("GET /auth/token/valid", 200, ALL),
    Row("POST /auth/token", 422),
    Row("GET /atlas8k/sign-in", 200),
    Row("POST /atlas8k/sign-in", 422),
    Row("POST /atlas8k/sign-out", 403),  # but by our own page
    # What is computed.
    Row("GET /info/", 200, ALL),
    Row("POST /infer/{model}", 404, ALL, "image=a", path="/infer/nothing"),
    Row("POST /activelearning/{strategy}", 404, ALL, body={}, path="/activelearning/nothing"),
    Row("GET /scoring/", 200, ALL),
    Row("POST /scoring/{method}", 404, "anna", path="/scoring/nothing"),
    Row("DELETE /scoring/", 200, "anna"),
    Row("GET /train/", 404, ALL),
    Row("POST /train/", 422, "adam", body={"atlas8k": {"max_epochs": 0}}),
    Row("POST /train/{model}", 404, "adam", path="/train/nothing"),
    Row("DELETE /train/", 200, "adam"),
    # Images and labels.
    Row("GET /datastore/", 200, ALL),
    Row("PUT /datastore/", 422, "anna"),
    Row("GET /datastore/image", 404, ALL, "image=nothing"),
    Row("HEAD /datastore/image", 404, ALL, "image=nothing"),
    Row("PUT /datastore/image", 422, "anna"),
    Row("DELETE /datastore/image", 404, "adam", "id=nothing"),
    Row("GET /datastore/image/info", 404, ALL, "image=nothing"),
    Row("PUT /datastore/image/info", 404, "anna", "image=nothing"),
    Row("GET /datastore/label", 404, ALL, "label=nothing&tag=final"),
    Row("HEAD /datastore/label", 404, ALL, "image=nothing&tag=final"),
    Row("PUT /datastore/label", 422, WORK, "image=nothing"),
    Row("DELETE /datastore/label", 404, "adam", "id=nothing&tag=x"),
    Row("GET /datastore/label/info", 404, ALL, "label=nothing&tag=final"),
    Row("PUT /datastore/label/info", 404, "anna", "label=nothing&tag=final"),
    Row("PUT /datastore/updatelabelinfo", 404, "anna", "label=nothing&tag=final"),
    Row("GET /session/{session_id}", 404, ALL, path="/session/x"),
    Row("PUT /session/", 422, ALL),
    Row("DELETE /session/{session_id}", 404, ALL, path="/session/x"),
    # One's own cases.
    Row("GET /atlas8k/cases", 200, WORK),
    Row("POST /atlas8k/cases", 422, WORK),
    Row("GET /atlas8k/cases/returned", 200, WORK),
    Row("GET /atlas8k/cases/list", 200, WORK),
    Row("GET /atlas8k/cases/start", 404, WORK, "image=nothing"),
    Row("GET /atlas8k/cases/{image}/start", 404, WORK, path="/atlas8k/cases/nothing/start"),
    *(
        Row(
            f"POST /atlas8k/cases/{{image}}/{do}",
            404,
            WORK,
            body={},
            path=f"/atlas8k/cases/nothing/{do}",
        )
        for do in ("confirm", "release", "take", "reopen")
    ),
    Row(
        "POST /atlas8k/cases/{image}/renew",
        404,
        WORK,
        body={"lease": 1},
        path="/atlas8k/cases/nothing/renew",
    ),
    Row("GET /atlas8k/cases/{image}/drawing", 200, WORK, path="/atlas8k/cases/nothing/drawing"),
    Row(
        "GET /atlas8k/cases/{image}/drawing/label",
        404,
        WORK,
        path="/atlas8k/cases/nothing/drawing/label",
    ),
    Row("PUT /atlas8k/cases/{image}/drawing", 422, WORK, path="/atlas8k/cases/nothing/drawing"),
    Row("DELETE /atlas8k/cases/{image}/drawing", 200, WORK, path="/atlas8k/cases/nothing/drawing"),
    Row("POST /atlas8k/cases/{image}/change", 422, WORK, path="/atlas8k/cases/nothing/change"),
    Row("GET /atlas8k/cases/{image}/strokes", 404, WORK, path="/atlas8k/cases/nothing/strokes"),
    Row("POST /atlas8k/cases/{image}/strokes", 422, WORK, path="/atlas8k/cases/nothing/strokes"),
    Row("GET /atlas8k/case", 404, WORK, "image=nothing"),
    Row("GET /atlas8k/case/study", 404, WORK, "study=nothing"),
    Row("GET /atlas8k/case/ct", 404, WORK, "image=nothing"),
    Row("POST /atlas8k/case/layer", 404, WORK, "image=nothing&key=start"),
    Row(
        "POST /atlas8k/cases/{image}/drawing/submit",
        422,
        WORK,
        path="/atlas8k/cases/nothing/drawing/submit",
    ),
    Row("GET /atlas8k/case/slices", 404, WORK, "image=nothing&x=0&y=0&z=0"),
    Row("GET /atlas8k/viewer/{name}", 200, ALL, path="/atlas8k/viewer/case.js"),
    Row("POST /atlas8k/cases/{image}/submit", 422, WORK, path="/atlas8k/cases/nothing/submit"),
    Row("POST /atlas8k/cases/{image}/restore", 422, WORK, path="/atlas8k/cases/nothing/restore"),
    Row("GET /atlas8k/volumes/not-usable", 200, ALL),
    Row(
        "POST /atlas8k/volumes/{image}/exclude",
        404,
        WORK,
        body={"reason": "x"},
        path="/atlas8k/volumes/nothing/exclude",
    ),
    Row(
        "POST /atlas8k/volumes/{image}/include",
        404,
        WORK,
        body={},
        path="/atlas8k/volumes/nothing/include",
    ),
    # History and reviews.
    Row("GET /atlas8k/labels/{image}/history", 404, ALL, path="/atlas8k/labels/nothing/history"),
    Row(
        "GET /atlas8k/labels/{image}/history/{number}",
        404,
        ALL,
        path="/atlas8k/labels/nothing/history/1",
    ),
    Row(
        "POST /atlas8k/labels/{image}/restore",
        404,
        ALL,
        body={"submission": 1},
        path="/atlas8k/labels/nothing/restore",
    ),
    Row(
        "POST /atlas8k/labels/{image}/reopen",
        404,
        ALL,
        body={},
        path="/atlas8k/labels/nothing/reopen",
    ),
    Row("GET /atlas8k/review", 200, DECIDE),
    Row("GET /atlas8k/reviews", 200, DECIDE),
    Row("GET /atlas8k/reviews/case", 404, DECIDE, "image=nothing"),
    Row(
        "GET /atlas8k/reviews/slice",
        404,
        DECIDE,
        "image=nothing&first=1&second=2&axis=2&index=0",
    ),
    Row("GET /atlas8k/review/{image}", 404, DECIDE, path="/atlas8k/review/nothing"),
    *(
        Row(
            f"POST /atlas8k/review/{{image}}/{do}",
            404,
            DECIDE,
            body={"note": "x"} if do == "return" else {},
            path=f"/atlas8k/review/nothing/{do}",
        )
        for do in ("accept", "return", "take-over", "decide", "ask-again")
    ),
    Row(
        "POST /atlas8k/review/{image}/decide-by-organ",
        404,
        DECIDE,
        body={"first": "1", "second": "2", "counts": {}},
        path="/atlas8k/review/nothing/decide-by-organ",
    ),
    # The sweep.
    Row("GET /atlas8k/sweep", 200, WORK),
    Row("GET /atlas8k/sweep/outlines", 404, WORK, f"image=nothing&label={'0' * 64}"),
    Row("POST /atlas8k/sweep/next", 200, WORK, body={}),
    Row(
        "POST /atlas8k/sweep/look",
        404,
        WORK,
        body={"image": "nothing", "label": "0" * 64, "verdict": "fine"},
    ),
    Row("POST /atlas8k/sweep/undo", 404, WORK, body={"look": 1}),
    # How it stands.
    Row("GET /atlas8k/remarks", 200, ALL),
    Row("GET /atlas8k/unlike", 200, ALL),
    Row("GET /atlas8k/archive", 404, ALL),
    Row("GET /atlas8k/campaign", 200, ALL),
    Row("GET /atlas8k/", 200, ALL),
    Row("GET /atlas8k/list", 200, ALL),
    Row("GET /atlas8k/work", 200, ALL),
    Row("GET /atlas8k/thumbnail", 404, ALL, "image=nothing"),
    Row("GET /atlas8k/exports", 200, ALL),
    Row("POST /atlas8k/exports", 422, "adam", body={}),
    Row("DELETE /atlas8k/exports", 200, "adam"),
    Row("GET /atlas8k/exports/{name}/datasheet", 404, ALL, path="/atlas8k/exports/none/datasheet"),
    Row("POST /atlas8k/campaign/begin-round", 200, "adam", body={}),
    Row("POST /atlas8k/campaign/reopen-round", 409, "adam", body={}),
    Row("POST /atlas8k/campaign/close-round", 409, "adam", body={}),
    Row("GET /logs/", 200, "adam"),
    Row("GET /ohif/{path:path}", 200, ALL, path="/ohif/"),
    Row("GET /proxy/dicom/{path:path}", 404, ALL, path="/proxy/dicom/studies"),
    Row("POST /proxy/dicom/{path:path}", 404, WORK, path="/proxy/dicom/wado/studies"),
]
EXTRA = [
    Row("GET /datastore/dataset", 404, "anna"),
    Row("DELETE /datastore/", 404, "adam", "id=nothing"),
    Row("POST /scoring/", 200, "anna"),
    Row("GET /batch/infer", 404, ALL),
    Row("POST /batch/infer/{model}", 404, "adam", path="/batch/infer/nothing"),
    Row("DELETE /batch/infer", 200, "adam"),
    Row("GET /model/{model}", 404, "adam", path="/model/unet"),
    Row("GET /model/info/{model}", 404, "adam", path="/model/info/unet"),
    Row("GET /logs/gpu", 404, "adam"),
    Row("POST /reload", 200, "adam"),
]
"""Offered with the setting `all_routes` only."""
ONLY_SIGNED_IN = {
    *("GET /auth/", "GET /auth/token/valid"),
    *("GET /atlas8k/sign-in", "POST /atlas8k/sign-out"),
}
"""They answer 404 where sign-in is off."""
PUBLIC = "atlas.example.org"
"""Name of a proxy in front."""
ROLES = ("anna", "ruth", "adam")


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with signed_in() as started:
        yield started


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    more = ("--conf", "all_routes", "true", "--conf", "allowed_hosts", PUBLIC)
    with small_server(tmp_path_factory.mktemp("all"), *more, main=WRITE_ROUTES) as started:
        yield started


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As it starts by itself: sign-in off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_AUTH_ENABLE", "false")
        folder = tmp_path_factory.mktemp("open")
        with small_server(folder, main=WRITE_ROUTES) as started:
            yield started


def routes_of(server: Server) -> list[str]:
    found: list[str] = json.loads((server.app / "routes.json").read_text())
    return sorted(found)


def ask(server: Server, row: Row, **headers: str) -> requests.Response:
    more = {} if row.body is None else {"json": row.body}
    return requests.request(
        row.method, server.url + row.url, headers=headers, timeout=LIMIT_S, **more
    )


def foreign(server: Server) -> dict[str, dict[str, str]]:
    """Headers of a browser that shows another site's page, by what that site does."""
    port = server.url.rpartition(":")[2]
    return {
        "origin": {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        "origin alone": {"Origin": "http://evil.example"},
        "no origin": {"Sec-Fetch-Site": "cross-site"},
        "hidden": {"Origin": "null"},
        "host": {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
        "host alone": {"Host": f"evil.example:{port}"},
    }


def test_every_route_is_listed(server: Server, open_server: Server) -> None:
    mount = ["MOUNT /static"]
    assert routes_of(open_server) == sorted([*mount, *(row.route for row in ROWS)])
    assert routes_of(server) == sorted([*mount, *(row.route for row in [*ROWS, *EXTRA])])


@pytest.mark.parametrize("row", [*ROWS, *EXTRA], ids=lambda row: row.route)
def test_with_sign_in(server: Server, realm: Realm, row: Row) -> None:
    bare = ask(server, row)
    assert bare.status_code == (401 if row.who else row.code), bare.text[:300]
    who = row.who.split()
    if row.route == "POST /reload":
        who = []  # it would, and every later test would wait for it
    for name in ROLES:
        if row.route == "POST /reload" and name == "adam":
            continue
        answer = ask(server, row, **bearer(realm.token(name)))
        expected = row.code if name in who or not row.who else 403
        assert answer.status_code == expected, f"{name}: {answer.text[:300]}"
    token = bearer(realm.token((row.who or ALL).split()[0]))
    changing = row.method not in {"GET", "HEAD"}
    for kind, headers in foreign(server).items():
        refused = changing or kind.startswith("host")
        for answer in (ask(server, row, **headers), ask(server, row, **headers, **token)):
            if refused:
                assert answer.status_code == 403, f"{kind}: {answer.text[:300]}"
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.route)
def test_without_sign_in(open_server: Server, row: Row) -> None:
    """A local server: its own page and programs get on, other sites' pages do not."""
    expected = 404 if row.route in ONLY_SIGNED_IN else row.code
    own = {"Origin": open_server.url, "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, own):
        answer = ask(open_server, row, **headers)
        assert answer.status_code == expected, f"{headers}: {answer.text[:300]}"
    for kind, headers in foreign(open_server).items():
        answer = ask(open_server, row, **headers)
        if kind.startswith("host") or row.method not in {"GET", "HEAD"}:
            assert answer.status_code == 403, f"{kind}: {answer.text[:300]}"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("row", EXTRA, ids=lambda row: row.route)
def test_what_no_client_calls_is_off(open_server: Server, row: Row) -> None:
    assert ask(open_server, row).status_code in {404, 405}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": PUBLIC, "Origin": f"https://{PUBLIC}"}, 200),
        ({"X-Forwarded-Host": PUBLIC, "Origin": f"https://{PUBLIC}"}, 200),
        ({"Host": PUBLIC, "Origin": "https://evil.example"}, 403),
        ({"X-Forwarded-Host": "evil.example", "Origin": "https://evil.example"}, 403),
        ({"X-Forwarded-Host": PUBLIC, "Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example", "X-Forwarded-Host": PUBLIC}, 403),
    ],
)
def test_behind_a_proxy(server: Server, realm: Realm, headers: dict[str, str], code: int) -> None:
    """It passes on the host that the browser asked for, or says it beside its own."""
    answer = requests.post(
        f"{server.url}/activelearning/first",
        json={},
        headers=headers | bearer(realm.token("anna")),
        timeout=LIMIT_S,
    )
    assert answer.status_code == code, answer.text


def test_other_names_of_the_same_server(open_server: Server) -> None:
    port = open_server.url.rpartition(":")[2]
    for host in ("localhost", f"localhost:{port}", f"[::1]:{port}", f"192.168.1.5:{port}"):
        answer = requests.get(f"{open_server.url}/info/", headers={"Host": host}, timeout=LIMIT_S)
        assert answer.status_code == 200, host
    headers = {"Host": "atlas.example.org"}
    answer = requests.get(f"{open_server.url}/info/", headers=headers, timeout=LIMIT_S)
    assert "--conf allowed_hosts" in answer.json()["detail"]
