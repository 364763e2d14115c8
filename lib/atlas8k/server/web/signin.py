"""MONAI Label's sign-in, repaired: bearer tokens of a Keycloak realm, signed with RS256.

MONAI Label 0.8.5 decodes tokens without naming the algorithms it accepts; PyJWT refuses
that since version 2.0, so that no token is ever valid. FastAPI's own way to replace a
dependency puts :func:`current_user` in its place. It runs in a thread: asking the realm
for its key must not hold up other requests.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Annotated, Any

import jwt
import requests
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.endpoints.user import auth

from atlas8k.server.errors import UpstreamError

logger = logging.getLogger(__name__)

ALGORITHMS = ["RS256"]
"""Fixed: an algorithm taken from the token would let its sender choose how it is checked."""
LEEWAY_S = 10
KEY_AGAIN_S = 60.0


class RealmError(UpstreamError):
    """The sign-in server does not answer, or not as one; nobody can be let in (503)."""


class RealmKey:
    """Public key of the realm, asked for once, and again where a signature does not fit.

    Not more often than every :data:`KEY_AGAIN_S` seconds: anybody can send a token with
    a wrong signature.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key, self._asked = "", -KEY_AGAIN_S

    def get(self, *, anew: bool = False) -> str:
        """PEM text; `anew` to ask again where it is time.

        Raises
        ------
        RealmError
            The realm does not answer.
        """
        with self._lock:
            old = time.monotonic() - self._asked >= KEY_AGAIN_S
            if not self._key or (anew and old):
                self._asked = time.monotonic()
                self._key = self._fetch()
            return self._key

    @staticmethod
    def _fetch() -> str:
        realm = settings.MONAI_LABEL_AUTH_REALM_URI
        try:
            answer = requests.get(realm, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
            answer.raise_for_status()
            key = str(answer.json()["public_key"])
        except (requests.RequestException, ValueError, KeyError, TypeError) as err:
            raise RealmError(
                f"the sign-in server {realm} gives no public key ({type(err).__name__}); "
                "see MONAI_LABEL_AUTH_REALM_URI"
            ) from err
        return f"-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----"


_KEY = RealmKey()


def user_of(token: str) -> auth.User:
    """Whose token it is, with the roles the realm gives.

    Raises
    ------
    jwt.InvalidTokenError
        Not signed by the realm with RS256, expired, without an end, or nobody's.
    RealmError
        The realm does not answer.
    """
    try:
        payload = _decode(token, _KEY.get())
    except jwt.InvalidSignatureError:
        payload = _decode(token, _KEY.get(anew=True))
    name = payload.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME)
    if not isinstance(name, str) or not name:
        raise jwt.InvalidTokenError(f"no {settings.MONAI_LABEL_AUTH_TOKEN_USERNAME} in the token")
    return auth.User(
        username=name,
        email=_text(payload.get(settings.MONAI_LABEL_AUTH_TOKEN_EMAIL)),
        name=_text(payload.get(settings.MONAI_LABEL_AUTH_TOKEN_NAME)),
        roles=_roles(payload),
    )


def _decode(token: str, key: str) -> dict[str, Any]:
    # The audience is not checked, as in MONAI Label: Keycloak names "account" there.
    options: Any = {"verify_aud": False, "require": ["exp"]}
    found: dict[str, Any] = jwt.decode(
        token, key, algorithms=ALGORITHMS, options=options, leeway=LEEWAY_S
    )
    return found


def _roles(payload: Mapping[str, Any]) -> list[str]:
    """Roles at the place in the token that MONAI Label's settings name, ``a#b#c``."""
    found: Any = payload
    for step in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        found = found.get(step) if isinstance(found, Mapping) else None
    return [role for role in found if isinstance(role, str)] if isinstance(found, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def bearer(request: Request) -> str:
    """The token a request carries, ``""`` where sign-in is off.

    Raises
    ------
    HTTPException
        401 where there is none.
    """
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return ""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise refused("sign in first: a bearer token is needed")
    return token.strip()


def current_user(token: Annotated[str, Depends(bearer)]) -> auth.User:
    """Who is signed in; everybody, with every role, where sign-in is off.

    Raises
    ------
    HTTPException
        401 where the token is not good.
    """
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return auth.DEFAULT_USER
    try:
        return user_of(token)
    except jwt.InvalidTokenError as err:
        logger.warning("a token was refused: %s", err)
        raise refused(f"the token is not valid: {err}") from err


def refused(reason: str) -> HTTPException:
    """401 with the header that tells a client how to sign in."""
    return HTTPException(401, reason, headers={"WWW-Authenticate": "Bearer"})


def install(app: FastAPI) -> None:
    """Put :func:`current_user` in the place of MONAI Label's."""
    app.dependency_overrides[auth.get_current_user] = current_user


router = APIRouter(prefix="/auth", tags=["Auth"])


@router.post("/token", summary="Sign in with name and password")
def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, Any]:
    """A token of the realm, for clients that cannot go to its sign-in page.

    Raises
    ------
    HTTPException
        404 where sign-in is off, 401 where the realm does not know name and password.
    UpstreamError
        The realm does not answer as one.
    """
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        raise HTTPException(404, "sign-in is off")
    realm = settings.MONAI_LABEL_AUTH_REALM_URI
    timeout = settings.MONAI_LABEL_AUTH_TIMEOUT
    try:
        known = requests.get(f"{realm}/.well-known/openid-configuration", timeout=timeout)
        known.raise_for_status()
        data = {
            "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
            "username": form.username,
            "password": form.password,
            "grant_type": "password",
        }
        answer = requests.post(known.json()["token_endpoint"], data=data, timeout=timeout)
        if 400 <= answer.status_code < 500:
            raise refused("name or password are not known")
        answer.raise_for_status()
        found = answer.json()
        return {"access_token": str(found["access_token"]), "token_type": "bearer"}
    except (requests.RequestException, ValueError, KeyError, TypeError) as err:
        raise RealmError(f"the sign-in server {realm} gives no token") from err
