"""Sessions: an uploaded image that is stored for an hour for inferences, outside the studies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, HTTPException, UploadFile
from fastapi.responses import FileResponse
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.sessions import SessionInfo, Sessions

from atlas8k.server.access import USERS
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.uploads import received
from atlas8k.services.errors import NotFoundError, RequestError

router = APIRouter(
    prefix="/session", tags=["Session"], dependencies=[USERS], route_class=GuardedRoute
)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_EXPIRY_S = 10**9


def sessions() -> Sessions:
    """Return the app's sessions; 406, as in MONAI Label, where they are turned off."""
    found = app_instance().sessions()
    if found is None:
        raise HTTPException(406, "sessions are turned off (MONAI_LABEL_SESSIONS)")
    return found


def session(session_id: str, *, update_ts: bool = True) -> SessionInfo:
    """Return a session.

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


@router.get("/{session_id}", summary="A session, or its image")
def get(session_id: str, update_ts: bool = False, image: bool = False) -> Any:
    """Return what is known about a session; with `image`, the file that was sent."""
    info = session(session_id, update_ts=update_ts)
    if image:
        name = Path(info.image).name
        return FileResponse(info.image, media_type="application/octet-stream", filename=name)
    return info.to_json()


@router.put("/", summary="Make a session of an image")
def create(
    files: Annotated[list[UploadFile], File()], uncompress: bool = False, expiry: int = 0
) -> dict[str, Any]:
    """Store one NIfTI file for at most an hour.

    Archives are not unpacked: what they hold could land anywhere.
    """
    if uncompress or len(files) != 1:
        raise RequestError("send one NIfTI file; archives and folders are not taken")
    if not 0 <= expiry <= MAX_EXPIRY_S:
        raise RequestError(f"expiry: seconds from 0 (as long as allowed) to {MAX_EXPIRY_S}")
    store = sessions()
    with received("image file", files[0]) as path:
        session_id, info = store.add_session(str(path), expiry)  # moves the file there
    return {"session_id": session_id, "session_info": info.to_json()}


@router.delete("/{session_id}", summary="End a session")
def remove(session_id: str) -> Any:
    """Delete what was sent."""
    info = session(session_id, update_ts=False)
    sessions().remove_session(session_id)
    return info.to_json()
