"""Sessions: an uploaded image that is kept for an hour for inferences, outside the studies."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, HTTPException, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.sessions import SessionInfo, Sessions

from atlas8k.server.errors import NotFoundError, RequestError
from atlas8k.server.web.uploads import received

router = APIRouter(prefix="/session", tags=["Session"])
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_EXPIRY_S = 10**9


def sessions() -> Sessions:
    """The app's sessions.

    Raises
    ------
    HTTPException
        406, as in MONAI Label: they are turned off.
    """
    found = app_instance().sessions()
    if found is None:
        raise HTTPException(406, "sessions are turned off (MONAI_LABEL_SESSIONS)")
    return found


def session(session_id: str, *, update_ts: bool = True) -> SessionInfo:
    """A session.

    Raises
    ------
    NotFoundError
        There is none, or its id is not one that :func:`create` gives.
    """
    info = None
    if _ID.fullmatch(session_id):
        info = sessions().get_session(session_id, update_ts=update_ts)
    if info is None or not Path(info.image).is_file():
        raise NotFoundError("session", session_id)
    return info


def session_image(session_id: str) -> Path:
    """File of a session's image."""
    return Path(session(session_id).image)


@router.get("/{session_id}", summary="A session, or its image")
def get(session_id: str, user: AsUser, update_ts: bool = False, image: bool = False) -> Any:
    """What is known about a session; with `image`, the file that was sent."""
    info = session(session_id, update_ts=update_ts)
    if image:
        return FileResponse(
            info.image, media_type="application/octet-stream", filename=Path(info.image).name
        )
    return shown(info)


@router.put("/", summary="Make a session of an image")
def create(
    user: AsUser,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
) -> dict[str, Any]:
    """Keep one NIfTI file for at most an hour.

    Archives are not unpacked: what they hold could land anywhere.
    """
    if uncompress or len(files) != 1:
        raise RequestError("send one NIfTI file; archives and folders are not taken")
    if not 0 <= expiry <= MAX_EXPIRY_S:
        raise RequestError(f"expiry: seconds from 0 (as long as allowed) to {MAX_EXPIRY_S}")
    store, sent = sessions(), files[0]
    limit = app_instance().settings.upload_mb
    with received("image file", sent.filename, sent.file, upload_mb=limit) as path:
        # It is moved to the sessions, so it must not be the file that goes with the block.
        with tempfile.NamedTemporaryFile(prefix="image-", suffix=path.name[6:], delete=False) as to:
            shutil.copyfile(path, to.name)
        session_id, info = store.add_session(to.name, expiry)
    return {"session_id": session_id, "session_info": shown(info)}


@router.delete("/{session_id}", summary="End a session")
def remove(session_id: str, user: AsUser) -> dict[str, Any]:
    """Delete what was sent."""
    info = session(session_id, update_ts=False)
    sessions().remove_session(session_id)
    return shown(info)


def shown(info: SessionInfo) -> dict[str, Any]:
    """A session as MONAI Label's clients read it."""
    return dict(info.to_json())
