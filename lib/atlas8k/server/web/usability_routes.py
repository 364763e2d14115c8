"""Routes of volumes that are not usable, below ``/atlas8k/volumes``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from pydantic import Field

from atlas8k.server import usability
from atlas8k.server.cases.routes import AsEither, FromHere
from atlas8k.server.privacy import hides
from atlas8k.server.strategy import holder
from atlas8k.server.web.review_routes import Who
from atlas8k.server.web.routes import with_caller

router = APIRouter(prefix="/atlas8k/volumes", tags=["Campaign"])
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]


class Exclude(Who):
    """Why the volume is not usable."""

    reason: str = Field(min_length=1, max_length=2000)


class Include(Who):
    """Why it is usable after all; may be left empty."""

    reason: str = Field("", max_length=2000)


@dataclass(frozen=True)
class _Asked:
    """Who asks, noted for the records."""

    context: Any
    holder: Any


def _asked(request: Request, user: User, asked: Who) -> _Asked:
    with_caller(request, user.username, user.roles)
    return _Asked(app_instance().context, holder({"client_id": asked.client_id}))


@router.get("/not-usable", summary="Volumes that are left out, and why")
def not_usable(request: Request, user: AsUser) -> list[dict[str, Any]]:
    """Each with its reason and when; who, where the server shows names."""
    with_caller(request, user.username, user.roles)
    found = [one._asdict() for one in app_instance().context.ledger.not_usable()]
    return [{**one, "holder": ""} if hides() else one for one in found]


@router.post("/{image}/exclude", summary="Say that a CT is not usable", dependencies=[FromHere])
def exclude(request: Request, user: AsEither, image: str, asked: Exclude) -> dict[str, Any]:
    """Left out of list, budget, audits and training until it is included; no label is lost."""
    who = _asked(request, user, asked)
    usability.exclude(who.context, image, asked.reason, who.holder)
    return {"image": image, "usable": False, "reason": asked.reason}


@router.post("/{image}/include", summary="Let a CT count again", dependencies=[FromHere])
def include(request: Request, user: AsEither, image: str, asked: Include) -> dict[str, Any]:
    """What its content looks like is not held against it again, unless the file changes."""
    who = _asked(request, user, asked)
    changed = usability.include(who.context, image, asked.reason, who.holder)
    app_instance().score_again()
    return {"image": image, "usable": True, "changed": changed}
