"""Routes of our own; one with a stock route's path and method takes its place."""

from __future__ import annotations

import contextlib
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import Response
from monailabel.config import settings
from monailabel.endpoints.datastore import ResultType
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance, clear_cache
from monailabel.utils.async_tasks.task import AsyncTask

from atlas8k.errors import VolumeError
from atlas8k.server import background
from atlas8k.server.context import Context
from atlas8k.server.errors import NotFoundError
from atlas8k.server.files import checksum
from atlas8k.server.routes import parse_object, shown, with_caller
from atlas8k.server.strategy import holder
from atlas8k.server.studies.catalogue import FINAL
from atlas8k.server.studies.datastore import StudiesDatastore
from atlas8k.server.studies.disk import locked
from atlas8k.server.studies.names import check_tag
from atlas8k.server.uploads import received

router = APIRouter()
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
AsAdmin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]
AsAnnotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]


@router.get("/datastore/", tags=["Datastore"], summary="Counts, or all images and labels")
def datastore(request: Request, user: AsUser, output: ResultType = ResultType.stats) -> Any:
    """``stats``: counts; ``all``: every image and label; ``train``: finished pairs."""
    with_caller(request, user.username)
    store = app_instance().datastore()
    if output == ResultType.all and isinstance(store, StudiesDatastore):
        # Its text is kept ready and clean; encoding it anew takes seconds at 8,448 volumes.
        return Response(store.json_bytes(), media_type="application/json")
    if output == ResultType.all:
        return shown(store.json())
    return store.datalist() if output == ResultType.train else store.status()


@router.put("/datastore/label", tags=["Datastore"], summary="Save finished label")
def save_label(
    request: Request,
    user: AsAnnotator,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = FINAL,
) -> dict[str, Any]:
    """Check a label, keep it, and note who submitted it.

    A label that is refused (4xx with the reason) leaves the one before it in place; one
    that is replaced is kept.
    """
    with_caller(request, user.username)
    info = parse_object("params", params)
    context = app_instance().context
    if not context.datastore.get_image_uri(image):
        raise NotFoundError("image", image)
    check_tag(tag or FINAL)
    limit = app_instance().settings.upload_mb
    file = received("label file", label.filename, label.file, upload_mb=limit)
    with file as sent, booking(context, image):
        try:
            label_id = context.datastore.save_label(image, str(sent), tag or FINAL, info)
        except VolumeError as err:
            raise type(err)(f"label of {image}", err.reason) from err
        reply: dict[str, Any] = {"image": image, "label": label_id}
        if (tag or FINAL) == FINAL:
            reply |= book(context, image, label_id, info)
    app_instance().on_save_label(image, label_id)
    return reply


@contextlib.contextmanager
def booking(context: Context, image: str) -> Iterator[None]:
    """Alone with the submissions of one volume: the file in force is the one being booked."""
    stripe = zlib.crc32(image.encode()) % 64
    with locked(context.state / "locks" / f"booking-{stripe:02d}"):
        yield


def book(context: Context, image: str, label_id: str, info: dict[str, Any]) -> dict[str, Any]:
    """Note in the ledger whose label is in force now; hold :func:`booking`."""
    path = Path(context.datastore.get_label_uri(label_id, FINAL))
    submission = context.ledger.submit(
        image,
        holder(info),
        file=str(path),
        sha256=checksum(path) if path.is_file() else None,
        detail={
            key: value
            for key, value in context.datastore.get_label_info(label_id, FINAL).items()
            if key in {"client_id", "present", "absent"}
        },
    )
    return {
        "round": submission.round,
        "late": submission.late,
        "conflict": submission.conflict,
        "minutes": submission.minutes,
    }


@router.post("/scoring/{method}", tags=["Scoring"], summary="Score what is stale")
def start_scoring(
    request: Request,
    user: AsAnnotator,
    method: str,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
) -> Any:
    """Start scoring in the background; no process is started when nothing is stale."""
    with_caller(request, user.username)
    app = app_instance()
    if method not in app._scoring_methods:
        raise NotFoundError("scoring method", method, app._scoring_methods)
    app.context.sync(thorough=True)
    if app.context.progress().complete:
        return nothing_stale(app)
    if app.scoring_runs():
        raise HTTPException(429, "scoring is already running")
    return background.start("scoring", {"method": method}, run_sync=run_sync)


@router.post("/scoring/", include_in_schema=False, deprecated=True)
def start_all_scoring(request: Request, user: AsAnnotator) -> dict[str, Any]:
    """As MONAI Label's route for every method there is."""
    return {
        name: {"result": start_scoring(request, user, name), "detail": None}
        for name in app_instance()._scoring_methods
    }


@router.post("/reload", include_in_schema=False)
def reload(user: AsAdmin) -> dict[str, Any]:
    """Make the app anew at the next request."""
    clear_cache()
    return {}


@router.get("/scoring/", tags=["Scoring"], summary="Status of scoring")
def scoring_status(
    request: Request, user: AsUser, all: bool = False, check_if_running: bool = False
) -> Any:
    """MONAI Label's task, with ``progress``: how many volumes are scored of how many."""
    with_caller(request, user.username)
    task, detail = AsyncTask.status("scoring", all, check_if_running)
    if task is None:
        raise HTTPException(404, detail)
    if isinstance(task, dict):
        return {**task, "progress": app_instance().context.status()}
    return task


def nothing_stale(app: Any) -> dict[str, Any]:
    """A task that is done before it began, in MONAI Label's form."""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    status = app.context.status()
    return {
        "id": str(uuid.uuid4()),
        "status": "DONE",
        "request": {"method": "attention"},
        "start_ts": now,
        "end_ts": now,
        "details": [f"nothing is stale: {status.get('message', '')}"],
        "progress": status,
    }
