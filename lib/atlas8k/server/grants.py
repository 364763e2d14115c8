"""Ask the realm for tokens: for a name and a password, or to go on after an access token ends."""

from __future__ import annotations

from dataclasses import dataclass

import jwt
import requests
from monailabel.config import settings

from atlas8k.server.tokens import RealmError, configuration


class RefusedError(Exception):
    """The realm gives no token: it does not know name and password, or has ended the session."""


@dataclass(frozen=True)
class Grant:
    """What the realm gives.

    Attributes
    ----------
    access
        Access token; nobody has checked it yet.
    refresh
        Token to ask for the next one, empty where the realm gives none.
    """

    access: str
    refresh: str = ""

    @property
    def ends(self) -> float:
        """When the access token ends, Unix seconds; 0 where it does not say."""
        try:
            return float(jwt.decode(self.access, options={"verify_signature": False})["exp"])
        except (jwt.PyJWTError, KeyError, TypeError, ValueError):
            return 0.0


def ask_realm(**asked: str) -> Grant:
    """Return what the realm gives for a grant, ``grant_type`` and its fields (RFC 6749).

    Raises
    ------
    RefusedError
        It gives none.
    RealmError
        It does not answer as a realm.
    """
    realm = settings.MONAI_LABEL_AUTH_REALM_URI
    data = {"client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID, **asked}
    try:
        where = configuration(realm)["token_endpoint"]
        answer = requests.post(where, data=data, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        # Others, as 404 of a proxy or 429, say nothing of the password or the session.
        if answer.status_code in {400, 401}:
            raise RefusedError
        answer.raise_for_status()
        found = answer.json()
        return Grant(str(found["access_token"]), str(found.get("refresh_token") or ""))
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as err:
        raise RealmError(f"the sign-in server {realm} gives no token") from err


def renewed(grant: Grant) -> Grant:
    """Return the tokens that follow; raise as :func:`ask_realm` does."""
    found = ask_realm(grant_type="refresh_token", refresh_token=grant.refresh)
    return Grant(found.access, found.refresh or grant.refresh)  # it need not give a new one
