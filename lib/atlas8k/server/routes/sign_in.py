"""Routes of sign-in: whether it is on, whose a token is, a token for a name and a password."""

from __future__ import annotations

from typing import Annotated, Any

import requests
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from atlas8k.server.access import current_user, refused
from atlas8k.server.attempts import Attempts
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.tokens import RealmError, configuration

router = APIRouter(prefix="/auth", tags=["Auth"], route_class=GuardedRoute)
attempts = Attempts()


@router.get("/", summary="Whether sign-in is on, and with which realm", include_in_schema=False)
def about() -> dict[str, Any]:
    """Return what a client needs to sign in; 404 where sign-in is off."""
    _check_on()
    return {
        "enabled": True,
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "realm": settings.MONAI_LABEL_AUTH_REALM_URI,
    }


@router.get("/token/valid", summary="Whose token it is", include_in_schema=False)
def valid(user: Annotated[User, Depends(current_user)]) -> dict[str, Any]:
    """Return the signed-in user; 401 where the token is not good, 404 where sign-in is off."""
    _check_on()
    return dict(user.model_dump())


@router.post("/token", summary="Sign in with name and password")
def token(
    request: Request, form: Annotated[OAuth2PasswordRequestForm, Depends()]
) -> dict[str, Any]:
    """Return a token of the realm, for clients that cannot go to its sign-in page.

    Raises
    ------
    HTTPException
        404 where sign-in is off, 401 where the realm does not know name and password, 429 after
        too many that it did not know.
    UpstreamError
        The realm does not answer as one.
    """
    _check_on()
    address = request.client.host if request.client else ""
    if (wait_s := attempts.wait_s(form.username, address)) > 0:
        raise HTTPException(
            429,
            f"too many sign-ins that failed; try again in {wait_s} s",
            headers={"Retry-After": str(wait_s)},
        )
    realm = settings.MONAI_LABEL_AUTH_REALM_URI
    data = {
        "client_id": settings.MONAI_LABEL_AUTH_CLIENT_ID,
        "username": form.username,
        "password": form.password,
        "grant_type": "password",
    }
    try:
        where = configuration(realm)["token_endpoint"]
        answer = requests.post(where, data=data, timeout=settings.MONAI_LABEL_AUTH_TIMEOUT)
        if 400 <= answer.status_code < 500:
            attempts.failed(form.username, address)
            raise refused("name or password are not known")
        answer.raise_for_status()
        found = str(answer.json()["access_token"])
        attempts.succeeded(form.username, address)
        return {"access_token": found, "token_type": "bearer"}
    except (requests.RequestException, ValueError, KeyError, TypeError) as err:
        raise RealmError(f"the sign-in server {realm} gives no token") from err


def _check_on() -> None:
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        raise HTTPException(404, "sign-in is off")
