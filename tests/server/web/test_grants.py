"""What the realm's answers mean: no token for this one, or no answer as of a realm."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from monailabel.config import settings

from atlas8k.server.grants import Grant, RefusedError, ask_realm, renewed
from atlas8k.server.tokens import RealmError


class Realm(ThreadingHTTPServer):
    code = 200


class Handler(BaseHTTPRequestHandler):
    server: Realm

    def reply(self, code: int, value: dict[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.reply(200, {"token_endpoint": f"http://127.0.0.1:{self.server.server_port}/token"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(self.server.code, {"access_token": "x.y.z"})

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def realm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Realm]:
    started = Realm(("127.0.0.1", 0), Handler)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{started.server_port}"
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_REALM_URI", where)
    yield started
    started.shutdown()
    started.server_close()


@pytest.mark.parametrize("code", [200, 400, 401, 403, 404, 408, 429, 500, 503])
def test_a_session_ends_by_the_realms_word_alone(realm: Realm, code: int) -> None:
    """A proxy that has lost the realm for a while, or asks for patience, ends nobody's."""
    realm.code = code
    if code == 200:
        assert renewed(Grant("", "r")) == Grant("x.y.z", "r")
        return
    error = RefusedError if code in {400, 401} else RealmError
    with pytest.raises(error):
        renewed(Grant("", "r"))
    with pytest.raises(error):
        ask_realm(grant_type="password", username="anna", password="a guess")
