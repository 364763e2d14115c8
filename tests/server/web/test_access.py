"""Who is calling, and with which keys a token is checked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from monailabel.config import settings

from atlas8k.server import tokens
from atlas8k.server.access import USERS, get_caller
from atlas8k.server.faults import install_handlers


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.get("/", dependencies=[USERS])
    def route() -> dict[str, Any]:
        caller = get_caller()
        thread = threading.current_thread().name
        return {"user": caller.user, "software": caller.software, "thread": thread}

    install_handlers(app)
    return TestClient(app, headers={"user-agent": "Slicer"})


def test_the_caller_is_known_in_the_routes_thread_and_nobody_is_admin_without_sign_in(
    client: TestClient,
) -> None:
    body = client.get("/").json()
    assert (body["software"], body["user"]) == ("Slicer", "")
    assert "AnyIO" in body["thread"]
    assert get_caller().software == ""  # only within the request


class Realm:
    """A sign-in server: its keys by id, and how often it was asked for them."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.asked: list[str] = []
        self.add("first")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                body = json.dumps(outer.answer(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/realms/x"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name: str) -> None:
        self.keys[name] = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def answer(self, path: str) -> dict[str, Any]:
        if path.endswith("openid-configuration"):
            return {"jwks_uri": f"{self.url}/certs"}
        to_jwk = jwt.algorithms.RSAAlgorithm.to_jwk
        return {
            "keys": [
                {**to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}
                for name, key in self.keys.items()
            ]
        }

    def token(self, name: str, key: rsa.RSAPrivateKey | None = None) -> dict[str, str]:
        payload = {
            "preferred_username": "anna",
            "realm_access": {"roles": ["monailabel-user"]},
            "iss": self.url,
            "exp": time.time() + 60,
        }
        made = jwt.encode(payload, key or self.keys[name], "RS256", headers={"kid": name})
        return {"Authorization": f"Bearer {made}"}


@pytest.fixture
def realm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Realm]:
    started = Realm()
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", True)
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_REALM_URI", started.url)
    yield started
    started.server.shutdown()
    started.server.server_close()


def test_keys_are_asked_for_once_and_again_where_they_change_but_not_by_anybody_at_will(
    client: TestClient, realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert client.get("/", headers=realm.token("first")).json()["user"] == "anna"
    assert realm.asked == ["/realms/x/.well-known/openid-configuration", "/realms/x/certs"]
    realm.add("second")
    for _ in range(3):  # just asked for: not again so soon
        assert client.get("/", headers=realm.token("second")).status_code == 401
    assert len(realm.asked) == 2
    monkeypatch.setattr(tokens._keys(f"{realm.url}/certs"), "cooldown_duration", 0)
    assert client.get("/", headers=realm.token("second")).status_code == 200
    assert len(realm.asked) == 3
    forged = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert client.get("/", headers=realm.token("first", forged)).status_code == 401


def test_a_realm_that_is_gone_is_our_fault_with_an_id(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", True)
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_REALM_URI", "http://127.0.0.1:9/realms/x")
    answer = client.get("/", headers={"Authorization": "Bearer x.y.z"})
    assert answer.status_code == 503
    assert answer.json()["id"]
