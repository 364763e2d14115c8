"""Route of the campaign: where it stands, for a page or a script."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from atlas8k.campaign.reports import Status
from atlas8k.campaign.status import status
from atlas8k.errors import CheckpointError
from atlas8k.server import background
from atlas8k.server.privacy import hides
from atlas8k.server.web.routes import with_caller

router = APIRouter(prefix="/atlas8k", tags=["Campaign"])
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
KINDS = {"scoring": "scoring", "train": "training"}


@router.get("/campaign", summary="Rounds, stop rule, audits, minutes and the eight steps")
def campaign(request: Request, user: AsUser) -> Status:
    """As ``atlas8k campaign status --json``.

    Annotators are numbered in the order in which they came; their names are shown where the
    server shows patients' names (``--conf show_phi true``).
    """
    with_caller(request, user.username, user.roles)
    context: Any = app_instance().context
    context.note_training()
    try:
        signature = context.signature()
    except CheckpointError:
        signature = None
    return status(
        context.ledger,
        signature=signature,
        names=not hides(),
        running=[name for kind, name in KINDS.items() if background.runs(kind)],
    )
