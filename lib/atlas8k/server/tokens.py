"""Read the bearer tokens of a Keycloak realm: whose they are, and whether they are meant for us.

A realm signs many things: access tokens of every application, ID and refresh tokens. One counts
here that was made by this realm, to be used as an access token, for an application that is
expected, and for a short time.

MONAI Label 0.8.5 decodes tokens without naming the algorithms it accepts; PyJWT refuses that since
version 2.0, so that no token is ever valid.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
import requests
from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from atlas8k.core.settings import Settings
from atlas8k.services.errors import UpstreamError

ALGORITHMS = ["RS256"]
"""Fixed: an algorithm taken from the token would let its sender choose how it is checked."""
LEEWAY_S = 10
MAX_LIFE_S = 86_400
"""A token that is valid for longer is one that was not meant to be sent along: Keycloak's access
tokens last minutes, those of scripts a working day at most."""
KEYS_KEPT_S = 86_400
"""Signing keys are asked for anew after a day, or where a token names one that is not known;"""
KEY_AGAIN_S = 60
"""but not more often than this: anybody can send such a token."""
ACCESS_TYPES = ("bearer", "at+jwt", "application/at+jwt")
"""What an access token says it is: Keycloak's claim, RFC 9068's header."""
OF_ID_TOKENS = ("at_hash", "c_hash", "s_hash")
"""Claims that only ID tokens have (OpenID Connect Core 3.1.3.6, 3.3.2.11)."""
ANY = "*"


class RealmError(UpstreamError):
    """The sign-in server does not answer, or not as one; nobody can be let in (503)."""


@dataclass(frozen=True)
class TokenRules:
    """What a token must say beside whose it is.

    Attributes
    ----------
    issuer
        Who made it; empty: who the realm says it is.
    clients
        Applications for which it may have been made; ``*``: all. Empty: the one that
        clients are told to sign in with.
    """

    issuer: str = ""
    clients: frozenset[str] = frozenset()

    @classmethod
    def of(cls, given: Settings) -> TokenRules:
        """Return the rules of a server's settings."""
        names = (name.strip() for name in (given.token_clients or "").split(","))
        return cls(given.token_issuer or "", frozenset(name for name in names if name))

    def check(self, payload: Mapping[str, Any]) -> None:
        """Raise where a token of this realm is not for us.

        Raises
        ------
        jwt.PyJWTError
            No access token, one for another application, or one that is valid for too long.
        """
        kind = str(payload.get("typ", "Bearer"))
        if kind.lower() not in ACCESS_TYPES or any(name in payload for name in OF_ID_TOKENS):
            raise jwt.InvalidTokenError(f"it is no access token ({kind[:40]})")
        if float(payload["exp"]) - time.time() > MAX_LIFE_S + LEEWAY_S:
            raise jwt.InvalidTokenError(f"it is valid for more than {MAX_LIFE_S // 3600} hours")
        clients = self.clients or frozenset({str(settings.MONAI_LABEL_AUTH_CLIENT_ID)})
        named = meant_for(payload)
        if ANY not in clients and named and not named & clients:
            raise jwt.InvalidAudienceError(
                f"it is for {', '.join(sorted(named))[:200]}; see --conf token_clients"
            )


_rules = TokenRules()


def set_rules(rules: TokenRules) -> None:
    """Have tokens checked by these rules from now on."""
    global _rules  # noqa: PLW0603 - one server a process
    _rules = rules


def meant_for(payload: Mapping[str, Any]) -> frozenset[str]:
    """Return the applications that a token names: who asked for it, and for whom it is.

    Keycloak puts the former into ``azp`` and, unless it is told to, no more than "account" into
    ``aud``. Empty where it names none.
    """
    audience = payload.get("aud", [])
    names = [audience] if isinstance(audience, str) else audience
    names = [*names, payload.get("azp"), payload.get("client_id")]
    return frozenset(name for name in names if isinstance(name, str) and name)


def user_of(token: str) -> User:
    """Return the user a token belongs to, with the roles that the realm gives.

    Raises
    ------
    jwt.PyJWTError
        Not signed by the realm with RS256, of another issuer, expired, from the future, without
        an end, nobody's, or not for us: see :meth:`TokenRules.check`.
    RealmError
        The realm does not answer.
    """
    realm = settings.MONAI_LABEL_AUTH_REALM_URI
    try:
        described = configuration(realm)
        key = _keys(str(described["jwks_uri"])).get_signing_key_from_jwt(token)
    except (
        *(requests.RequestException, jwt.PyJWKClientConnectionError, jwt.PyJWKSetError),
        *(ValueError, KeyError, TypeError),
    ) as err:
        raise RealmError(
            f"the sign-in server {realm} gives no signing key ({type(err).__name__}); "
            "see MONAI_LABEL_AUTH_REALM_URI"
        ) from err
    payload = jwt.decode(
        token,
        key,
        algorithms=ALGORITHMS,
        issuer=_rules.issuer or str(described.get("issuer") or realm),
        options={"verify_aud": False, "require": ["exp", "iss"]},
        leeway=LEEWAY_S,
    )
    _rules.check(payload)
    name = payload.get(settings.MONAI_LABEL_AUTH_TOKEN_USERNAME)
    if not isinstance(name, str) or not name:
        raise jwt.InvalidTokenError(f"no {settings.MONAI_LABEL_AUTH_TOKEN_USERNAME} in the token")
    return User(
        username=name,
        email=_text(payload.get(settings.MONAI_LABEL_AUTH_TOKEN_EMAIL)),
        name=_text(payload.get(settings.MONAI_LABEL_AUTH_TOKEN_NAME)),
        roles=_roles(payload),
    )


@functools.cache
def configuration(realm: str) -> dict[str, Any]:
    """Return what a realm says of itself: where its keys and tokens are."""
    where = f"{realm}/.well-known/openid-configuration"
    answer = requests.get(where, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
    answer.raise_for_status()
    return dict(answer.json())


@functools.cache
def _keys(address: str) -> jwt.PyJWKClient:
    return jwt.PyJWKClient(
        address,
        lifespan=KEYS_KEPT_S,
        cooldown_duration=KEY_AGAIN_S,
        timeout=settings.MONAI_LABEL_AUTH_TIMEOUT,
    )


def _roles(payload: Mapping[str, Any]) -> list[str]:
    """Return the roles at the place in the token that MONAI Label's settings name, ``a#b#c``."""
    found: Any = payload
    for step in settings.MONAI_LABEL_AUTH_TOKEN_ROLES.split("#"):
        found = found.get(step) if isinstance(found, Mapping) else None
    return [role for role in found if isinstance(role, str)] if isinstance(found, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
