"""Routes of our own; one with a stock route's path and method takes its place."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response
from monailabel.config import settings
from monailabel.endpoints.datastore import ResultType
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance, clear_cache
from monailabel.utils.async_tasks.task import AsyncTask

from atlas8k.server import background
from atlas8k.server.errors import NotFoundError
from atlas8k.server.web.routes import with_caller

router = APIRouter()
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
AsAdmin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]
AsAnnotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]


@router.get("/datastore/", tags=["Datastore"], summary="Counts, or all images and labels")
def datastore(request: Request, user: AsUser, output: ResultType = ResultType.stats) -> Any:
    """``stats``: counts; ``all``: every image and label; ``train``: finished pairs."""
    with_caller(request, user.username)
    store = app_instance().datastore()
    if output == ResultType.all:
        # Its text is kept ready and clean; encoding it anew takes seconds at 8,448 volumes.
        return Response(store.json_bytes(), media_type="application/json")
    return store.datalist() if output == ResultType.train else store.status()


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


@router.get("/atlas8k/remarks", tags=["Datastore"], summary="What was found in the files")
def remarks(request: Request, user: AsUser) -> dict[str, Any]:
    """Remarks on volumes, and files that are not listed, all of them, with the reasons."""
    with_caller(request, user.username)
    found: dict[str, Any] = app_instance().context.remarks(most=None)
    return found


@router.get("/atlas8k/unlike", tags=["Datastore"], summary="CTs unlike the training CTs")
def unlike(request: Request, user: AsUser) -> dict[str, Any]:
    """Scored volumes that are unlike the CTs the networks were trained on, and in what.

    Nothing is ranked or left out by it.
    """
    with_caller(request, user.username)
    found: dict[str, Any] = app_instance().context.unlike(most=None)
    return found


@router.delete("/scoring/", tags=["Scoring"], summary="Stop the scoring that runs")
def stop_scoring(request: Request, user: AsAnnotator) -> Any:
    """The task that was stopped, or null; what is scored stays scored."""
    with_caller(request, user.username)
    return background.stop("scoring")


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
