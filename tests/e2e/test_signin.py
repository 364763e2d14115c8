"""Sign-in with MONAI Label's own settings, against a small sign-in server of our own."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from tests.e2e.harness import Server
from tests.e2e.realm import CLIENT, KEY, ROLES, Realm, bearer, serve, signed_in
from tests.e2e.small import LIMIT_S, label_bytes, put_label, small_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def realm() -> Iterator[Realm]:
    with signed_in() as started:
        yield started


@pytest.fixture(scope="module")
def server(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("signin"), "--conf", "all_routes", "true") as started:
        yield started


ROUTES = [
    ("GET", "/info/", "user"),
    ("POST", "/activelearning/first", "user"),
    ("POST", "/infer/unet?image=a&output=json", "user"),
    ("GET", "/datastore/?output=all", "user"),
    ("GET", "/datastore/image?image=a", "user"),
    ("HEAD", "/datastore/image?image=a", "user"),
    ("GET", "/ohif/", "user"),
    ("GET", "/proxy/dicom/studies", "user"),
    ("GET", "/scoring/", "user"),
    ("GET", "/session/x", "user"),
    ("PUT", "/datastore/image/info?image=a", "annotator"),
    ("PUT", "/datastore/label?image=a", "annotator|reviewer"),
    ("PUT", "/datastore/label/info?label=a&tag=x", "annotator"),
    ("GET", "/atlas8k/labels/a/history", "annotator|reviewer|admin"),
    ("POST", "/atlas8k/labels/a/restore", "annotator|reviewer|admin"),
    ("GET", "/atlas8k/review", "reviewer|admin"),
    ("GET", "/atlas8k/review/a", "reviewer|admin"),
    ("POST", "/atlas8k/review/a/accept", "reviewer|admin"),
    ("POST", "/atlas8k/review/a/return", "reviewer|admin"),
    ("POST", "/atlas8k/review/a/decide", "reviewer|admin"),
    ("POST", "/atlas8k/review/a/take-over", "reviewer|admin"),
    ("POST", "/activelearning/review", "reviewer|admin"),
    ("POST", "/scoring/attention", "annotator"),
    ("DELETE", "/datastore/image?id=x", "admin"),
    ("DELETE", "/datastore/label?id=a&tag=x", "admin"),
    ("POST", "/train/nothing", "admin"),
    ("POST", "/batch/infer/nothing", "admin"),
    ("GET", "/logs/", "admin"),
    ("GET", "/logs/gpu", "admin"),
    ("GET", "/model/info/unet", "admin"),
    ("POST", "/reload", "admin"),
]
OPEN = {"/", "/openapi.json", "/docs", "/favicon.ico", "/static", "/auth/", "/auth/token"}
"""Without sign-in: the description of the interface, and how to sign in."""


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
def test_no_token_no_answer_and_the_role_decides(
    server: Server, realm: Realm, method: str, path: str, role: str
) -> None:
    url = server.url + path
    bare = requests.request(method, url, timeout=LIMIT_S)
    assert bare.status_code == 401
    assert bare.headers["www-authenticate"] == "Bearer"
    for name, own in ROLES.items():
        roles = role.split("|")
        allowed = bool({"user", own} & set(roles))
        if path == "/reload" and allowed:
            continue  # it would, and every later test would wait for it
        headers = bearer(realm.token(name))
        answer = requests.request(method, url, headers=headers, timeout=LIMIT_S)
        assert (answer.status_code not in {401, 403}) == allowed, f"{name}: {answer.text[:200]}"
        assert answer.status_code < 500, answer.text
        if not allowed:
            assert answer.status_code == 403
            assert any(f"monailabel-{one}" in answer.json()["detail"] for one in roles)


def test_the_first_page_is_open_and_says_nothing_of_the_work(server: Server) -> None:
    answer = requests.get(f"{server.url}/", timeout=LIMIT_S)
    assert answer.status_code == 200
    assert "Sign-in is on" in answer.text
    for word in ("Volumes", "Networks", "Scoring"):
        assert word not in answer.text


def test_every_route_there_is_wants_a_token(server: Server) -> None:
    description = requests.get(f"{server.url}/openapi.json", timeout=LIMIT_S).json()
    checked = 0
    for path, methods in description["paths"].items():
        if path in OPEN:
            continue
        for method in methods:
            url = server.url + path.replace("{", "").replace("}", "")
            code = requests.request(method, url, timeout=LIMIT_S).status_code
            assert code == 401, f"{method} {path}: {code}"
            checked += 1
    assert checked > 20


def test_tokens_that_are_not_good(server: Server, realm: Realm) -> None:
    other = serve()
    public = realm.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    end = {"preferred_username": "adam", "exp": time.time() + 600}

    def unsigned(header: dict[str, str], key: bytes | None) -> str:
        import hashlib
        import hmac

        def part(value: bytes) -> str:
            return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

        text = f"{part(json.dumps(header).encode())}.{part(json.dumps(end).encode())}"
        mark = hmac.new(key, text.encode(), hashlib.sha256).digest() if key else b""
        return f"{text}.{part(mark)}"

    bad = {
        "expired": realm.token("adam", -60),
        "of another realm": other.token("adam"),
        "not signed": unsigned({"alg": "none", "typ": "JWT", "kid": KEY}, None),
        "signed with the public key": unsigned({"alg": "HS256", "typ": "JWT", "kid": KEY}, public),
        "nobody's": realm.token("adam", preferred_username=None),
        "without an end": realm.token("adam", exp=None),
        "no token": "x.y.z",
        "of another issuer": realm.token("adam", iss="https://sso.example.org/realms/other"),
        "without an issuer": realm.token("adam", iss=None),
        "to refresh": realm.token("adam", typ="Refresh"),
        "for ever": realm.token("adam", typ="Offline"),
        "to identify": realm.token("adam", typ="ID"),
        "to identify, unsaid": realm.token("adam", typ=None, at_hash="x"),
        "of another application": realm.token("adam", azp="wiki"),
        "for another application": realm.token("adam", azp=None, aud=["account", "wiki"]),
        "from the future": realm.token("adam", iat=time.time() + 300),
        "not yet valid": realm.token("adam", nbf=time.time() + 300),
        "valid for a year": realm.token("adam", 365 * 86_400),
    }
    for what, token in bad.items():
        answer = requests.get(f"{server.url}/info/", headers=bearer(token), timeout=LIMIT_S)
        assert answer.status_code == 401, f"{what}: {answer.status_code}"
        assert answer.json()["detail"]
    for token in (
        realm.token("uwe"),
        realm.token("uwe", azp="other", aud=["account", CLIENT]),
        realm.token("uwe", azp=None, aud=None, typ=None),  # says nothing of it
        realm.token("uwe", iat=None),
    ):
        good = requests.get(f"{server.url}/info/", headers=bearer(token), timeout=LIMIT_S)
        assert good.status_code == 200, good.text
    other.server.shutdown()
    other.server.server_close()


def test_signing_in_with_a_password(server: Server) -> None:
    url = f"{server.url}/auth/token"
    form = {"username": "anna", "password": "anna's word"}
    answer = requests.post(url, data=form, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    valid = requests.get(f"{url}/valid", headers=bearer(token), timeout=LIMIT_S).json()
    assert valid["username"] == "anna"
    assert "monailabel-annotator" in valid["roles"]
    wrong = requests.post(url, data={**form, "password": "x"}, timeout=LIMIT_S)
    assert wrong.status_code == 401


def test_passwords_cannot_be_guessed(server: Server) -> None:
    url = f"{server.url}/auth/token"

    def sign_in(word: str, name: str = "uwe") -> requests.Response:
        form = {"username": name, "password": word}
        return requests.post(url, data=form, timeout=LIMIT_S)

    assert sign_in("uwe's word").status_code == 200
    codes = [sign_in(f"guess {n}").status_code for n in range(8)]
    assert codes == [401] * 5 + [429] * 3
    refused = sign_in("uwe's word")  # not even the right one, or it could be told
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 30
    assert "try again" in refused.json()["detail"]
    assert sign_in("anna's word", "anna").status_code == 200  # others are not kept out


def test_the_signed_in_user_holds_the_volume(server: Server, realm: Realm, tmp_path: Any) -> None:
    """Whatever client id Slicer sends, two people get two volumes."""
    samples = [
        requests.post(
            f"{server.url}/activelearning/first",
            json={"client_id": "user-xyz"},
            headers=bearer(realm.token(name)),
            timeout=LIMIT_S,
        ).json()["id"]
        for name in ("anna", "ruth")
    ]
    assert len(set(samples)) == 2
    headers = bearer(realm.token("anna"))
    answer = put_label(server, label_bytes(tmp_path), samples[0], headers=headers)
    assert answer.status_code == 200, answer.text


def test_annotators_restore_and_open_their_own_cases_only(
    server: Server, realm: Realm, tmp_path: Any
) -> None:
    def post(name: str, path: str, **body: Any) -> requests.Response:
        where = f"{server.url}/atlas8k/{path}"
        return requests.post(where, json=body, headers=bearer(realm.token(name)), timeout=LIMIT_S)

    anna = bearer(realm.token("anna"))
    kept = put_label(server, label_bytes(tmp_path, 8), "b", headers=anna).json()
    number = kept["submission"]
    where = f"{server.url}/atlas8k/labels/b/history"
    entry = requests.get(where, headers=anna, timeout=LIMIT_S).json()["history"][-1]
    assert (entry["holder"], entry["in_force"]) == ("user:anna", True)
    assert post("anna", "labels/b/restore", submission=number).status_code == 200
    # Ruth takes it over; then it is hers, and Anna's no more to decide.
    lease = post("ruth", "review/b/take-over").json()["lease"]
    assert lease
    headers = bearer(realm.token("ruth"))
    taken = put_label(server, label_bytes(tmp_path, 5), "b", headers=headers).json()
    assert taken["in_force"]
    assert post("anna", "labels/b/restore", submission=number).status_code == 403
    assert post("anna", "labels/b/reopen").status_code == 403
    assert post("ruth", "labels/b/reopen", note="again").status_code == 200
