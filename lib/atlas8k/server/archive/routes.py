"""The archive's own route, below ``/atlas8k``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from atlas8k.server.archive.datastore import ArchiveDatastore
from atlas8k.server.errors import NotFoundError
from atlas8k.server.web.routes import with_caller

router = APIRouter(prefix="/atlas8k", tags=["Archive"])
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]


@router.get("/archive", summary="What the DICOM archive has, and what waits to be sent to it")
def archive(request: Request, user: AsUser) -> dict[str, Any]:
    """Counts of series, all that are refused with the reason, labels sent and waiting."""
    with_caller(request, user.username, user.roles)
    store = app_instance().datastore()
    if not isinstance(store, ArchiveDatastore):
        raise NotFoundError("DICOM archive", "--studies is a folder")
    return store.archive_status(None)
