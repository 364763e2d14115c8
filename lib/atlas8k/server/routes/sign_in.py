"""Routes of sign-in: whether it is on, whose a token is, a token for a name and a password.

A browser signs in on a page of its own, for its requests cannot bring a token by themselves.
"""

from __future__ import annotations

import contextlib
import logging
import re
from typing import Annotated, Any

import jwt
from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.security import OAuth2PasswordRequestForm
from monailabel.config import settings
from monailabel.endpoints.user.auth import User

from atlas8k.server.access import bearer, current_user, refused
from atlas8k.server.attempts import Attempts
from atlas8k.server.browser_sessions import browser_sessions, cookie_name
from atlas8k.server.grants import Grant, RefusedError, ask_realm
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.hosts import OWN_PAGE
from atlas8k.server.page_templates import HEADERS, render
from atlas8k.server.tokens import RealmError, user_of

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/auth", tags=["Auth"], route_class=GuardedRoute)
pages = APIRouter(prefix="/atlas8k", include_in_schema=False, route_class=GuardedRoute)
attempts = Attempts()

HOME = "/atlas8k/"
FOREIGN = "that was sent by no page of this server, and nothing was done"
"""Whoever may call (`cors_origins`) may not sign a browser in or out: these need no token."""
_LOCAL = re.compile(r"/(?!/)[!-\[\]-~]{0,4000}")


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
    found = grant_for(request, form.username, form.password)
    return {"access_token": found.access, "token_type": "bearer"}


def grant_for(request: Request, username: str, password: str) -> Grant:
    """Return the tokens of a name and a password; raise as :func:`token` does."""
    address = request.client.host if request.client else ""
    if (wait_s := attempts.wait_s(username, address)) > 0:
        raise HTTPException(
            429,
            f"too many sign-ins that failed; try again in {wait_s} s",
            headers={"Retry-After": str(wait_s)},
        )
    try:
        found = ask_realm(grant_type="password", username=username, password=password)
    except RefusedError:
        attempts.failed(username, address)
        raise refused("name or password is wrong") from None
    attempts.succeeded(username, address)
    return found


@pages.get("/sign-in")
async def sign_in_page(request: Request, to: str = "") -> Response:
    """The page on which a browser signs in; who has done so goes on at once."""
    _check_on()
    with contextlib.suppress(HTTPException):
        await current_user(request, await bearer(request))
        return RedirectResponse(local(to), 303, headers=HEADERS)
    # A link of another site comes without our cookie, a step from this page has it.
    again = request.headers.get("sec-fetch-site") == "cross-site"
    return shown(local(to), again=again)


@pages.post("/sign-in")
def sign_in(
    request: Request,
    username: Annotated[str, Form()],
    password: Annotated[str, Form()],
    to: Annotated[str, Form()] = "",
) -> Response:
    """Sign in from a form; its browser gets a cookie, its tokens stay here."""
    _check_on()
    if not request.scope.get(OWN_PAGE):
        return shown(HOME, FOREIGN, 403)
    try:
        grant = grant_for(request, username, password)
        user_of(grant.access)
    except HTTPException as err:
        page = shown(local(to), str(err.detail), err.status_code, name=username)
        page.headers.update(err.headers or {})
        return page
    except jwt.PyJWTError as err:
        logger.warning("a token of the realm was refused: %s", err)
        text = f"this server does not take the token of the sign-in server: {err}"
        return shown(local(to), text, 401, name=username)
    except RealmError as err:
        logger.error("nobody can sign in: %s", err)
        text = "the sign-in server does not answer; try again in a while"
        return shown(local(to), text, 503, name=username)
    browser_sessions.end(request.cookies.get(cookie_name(), ""))
    answer = RedirectResponse(local(to), 303, headers=HEADERS)
    answer.set_cookie(
        cookie_name(),
        browser_sessions.begin(grant),
        httponly=True,
        samesite="strict",
        # A proxy that ends TLS may not say so; the browser does.
        secure="https" in {request.url.scheme, request.headers.get("origin", "").partition(":")[0]},
    )
    return answer


@pages.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the browser's session here; its tokens are forgotten."""
    _check_on()
    if not request.scope.get(OWN_PAGE):
        return shown(HOME, FOREIGN, 403)
    browser_sessions.end(request.cookies.get(cookie_name(), ""))
    answer = shown(HOME, "You are signed out.")
    answer.delete_cookie(cookie_name())
    return answer


def shown(
    to: str, text: str = "", code: int = 200, *, name: str = "", again: bool = False
) -> Response:
    """Return the page with a message; `again`: it goes on by itself where one is signed in."""
    return render(
        "sign_in.html.j2", code, to=to, text=text, error=code >= 400, name=name, again=again
    )


def local(path: str) -> str:
    """Return where to go on: a path of this server, or its first page in place of all else.

    Browsers take two slashes, or a backslash for one, for another server's name, and leave out tabs
    and line breaks.
    """
    return path if _LOCAL.fullmatch(path) else HOME


def _check_on() -> None:
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        raise HTTPException(404, "sign-in is off")
