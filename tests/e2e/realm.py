"""A small sign-in server of our own that answers as Keycloak does."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

ROLES = {"anna": "annotator", "ruth": "reviewer", "adam": "admin", "uwe": "user"}
"""Who has which role; all of them have the user's besides. Others are annotators."""
KEY = "key-1"
CLIENT = "monailabel-app"
"""What clients sign in as, by default."""


@dataclass
class Realm:
    """A sign-in server as Keycloak answers: signing keys, configuration, tokens for passwords."""

    key: rsa.RSAPrivateKey
    server: ThreadingHTTPServer
    lasts_s: float = 600
    """Access tokens that it gives."""
    refreshes: bool = True
    sessions: dict[str, str] = field(default_factory=dict)
    """Whose the refresh tokens are; each counts once."""
    asked: list[str] = field(default_factory=list)
    """Grants that it was asked for."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/realms/monailabel"

    def token(self, name: str, lasts_s: float = 600, **more: Any) -> str:
        roles = ["monailabel-user", f"monailabel-{ROLES.get(name, 'annotator')}"]
        payload = {
            "preferred_username": name,
            "realm_access": {"roles": roles},
            "iss": self.url,
            "azp": CLIENT,
            "aud": "account",
            "typ": "Bearer",
            "iat": time.time(),
            "exp": time.time() + lasts_s,
            **more,
        }
        payload = {key: value for key, value in payload.items() if value is not None}
        return jwt.encode(payload, self.key, algorithm="RS256", headers={"kid": KEY})

    def granted(self, form: dict[str, str]) -> dict[str, Any] | None:
        """Tokens for a form, as at Keycloak's token endpoint; None where it gives none."""
        self.asked.append(form["grant_type"])
        if form["grant_type"] == "refresh_token":
            name = self.sessions.pop(form["refresh_token"], None)
        else:
            name = form["username"]
            name = name if form["password"] == f"{name}'s word" else None
        if name is None or form["client_id"] != CLIENT:
            return None
        found = {"access_token": self.token(name, self.lasts_s), "token_type": "Bearer"}
        if self.refreshes:
            found["refresh_token"] = self.token(name, typ="Refresh", jti=str(uuid.uuid4()))
            self.sessions[found["refresh_token"]] = name
        return found

    def public(self) -> dict[str, Any]:
        found = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {**found, "kid": KEY, "use": "sig"}


def serve() -> Realm:
    class Handler(BaseHTTPRequestHandler):
        def reply(self, code: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path.endswith("/.well-known/openid-configuration"):
                where = {
                    "issuer": realm.url,
                    "token_endpoint": f"{realm.url}/token",
                    "jwks_uri": f"{realm.url}/certs",
                }
                self.reply(200, where)
            else:
                self.reply(200, {"keys": [realm.public()]})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            found = realm.granted({key: values[0] for key, values in form.items()})
            refused = (400 if "refresh_token" in form else 401, {"error": "invalid_grant"})
            self.reply(*((200, found) if found else refused))

        def log_message(self, format: str, *args: object) -> None:
            pass

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    realm = Realm(key, ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    threading.Thread(target=realm.server.serve_forever, daemon=True).start()
    return realm


@contextlib.contextmanager
def signed_in() -> Iterator[Realm]:
    """A realm for the block; servers that are started in it have sign-in on."""
    started = serve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_AUTH_ENABLE", "true")
        patch.setenv("MONAI_LABEL_AUTH_REALM_URI", started.url)
        yield started
    started.server.shutdown()
    started.server.server_close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
