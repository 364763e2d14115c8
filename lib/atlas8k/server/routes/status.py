"""Routes that say how the server and the campaign stand: for clients, pages and scripts."""

from __future__ import annotations

import html
import shutil
import subprocess
from collections import deque
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from monailabel.interfaces.utils.app import app_instance, clear_cache

from atlas8k.campaign.reports import Status
from atlas8k.campaign.status import status
from atlas8k.core.errors import CheckpointError
from atlas8k.server import background
from atlas8k.server.access import ADMINS, USERS
from atlas8k.server.blind import seen_ledger
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.routes.tasks import check_name
from atlas8k.server.workspace import workspace
from atlas8k.services.errors import NotFoundError
from atlas8k.services.privacy import hides, shown

router = APIRouter(route_class=GuardedRoute)
extra = APIRouter(route_class=GuardedRoute)
"""What MONAI Label offers and no client of ours asks for: offered with the setting `all_routes`."""
MAX_LINES = 10_000
LINE_BYTES = 4096
KINDS = {"scoring": "scoring", "train": "training"}


@router.get(
    "/info/", tags=["App"], summary="What there is, and where it stands", dependencies=[USERS]
)
def info() -> dict[str, Any]:
    """Models, strategies, trainers, labels; under ``atlas8k`` where scoring stands."""
    return shown(app_instance().info())


@extra.get(
    "/model/{model}",
    tags=["Model"],
    summary="Weights of a model, where it has a file",
    dependencies=[ADMINS],
)
@extra.get(
    "/model/info/{model}", tags=["Model"], summary="About a model's file", dependencies=[ADMINS]
)
def model_file(model: str) -> None:
    """404: networks are sets of files, and come from who runs the server."""
    check_name("model", model)
    raise HTTPException(404, f"Model File NOT Found for {model}")


@extra.post("/reload", include_in_schema=False, dependencies=[ADMINS])
def reload() -> dict[str, Any]:
    """Make the app anew at the next request."""
    clear_cache()
    return {}


@router.get("/logs/", tags=["Others"], summary="The end of the server's log", dependencies=[ADMINS])
def logs(
    lines: Annotated[int, Query(ge=1, le=MAX_LINES)] = 300,
    html_: Annotated[bool, Query(alias="html")] = True,
    text: bool = False,
    refresh: Annotated[int, Query(ge=0, le=3600)] = 0,
) -> Response:
    """The last lines of ``logs/app.log`` of the app folder, as a page or as text."""
    path = Path(app_instance().app_dir) / "logs" / "app.log"
    if not path.is_file():
        raise NotFoundError("log", path.name)
    with open(path, encoding="utf-8", errors="replace") as stream:
        found = "".join(line[:LINE_BYTES] for line in deque(stream, lines))
    if text or not html_:
        return PlainTextResponse(found)
    again = f'<meta http-equiv="refresh" content="{max(refresh, 3)}">' if refresh else ""
    return HTMLResponse(f"<!doctype html>{again}<title>log</title><pre>{html.escape(found)}</pre>")


@extra.get("/logs/gpu", tags=["Others"], summary="What nvidia-smi says", dependencies=[ADMINS])
def gpu() -> Response:
    """The GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise NotFoundError("GPU", "nvidia-smi")
    done = subprocess.run([program], capture_output=True, text=True, timeout=30, check=False)
    return PlainTextResponse(done.stdout)


@router.get(
    "/atlas8k/remarks",
    tags=["Datastore"],
    summary="What was found in the files",
    dependencies=[USERS],
)
def remarks() -> dict[str, Any]:
    """Remarks on volumes, and files that are not listed, all of them, with the reasons."""
    return workspace().remarks(most=None)


@router.get(
    "/atlas8k/unlike",
    tags=["Datastore"],
    summary="CTs unlike the training CTs",
    dependencies=[USERS],
)
def unlike() -> dict[str, Any]:
    """Scored volumes that are unlike the CTs the networks were trained on, and in what.

    Nothing is ranked or left out by it.
    """
    return workspace().unlike(most=None)


@router.get(
    "/atlas8k/archive",
    tags=["Archive"],
    summary="What the DICOM archive has, and what waits to be sent to it",
    dependencies=[USERS],
)
def archive() -> dict[str, Any]:
    """Counts of series, all that are refused with the reason, labels sent and waiting."""
    session = workspace().archive
    if session is None:
        raise NotFoundError("DICOM archive", "--studies is a folder")
    return session.status(None)


@router.get(
    "/atlas8k/campaign",
    tags=["Campaign"],
    summary="Rounds, stop rule, audits, minutes and the eight steps",
    dependencies=[USERS],
)
def campaign() -> Status:
    """As ``atlas8k campaign status --json``.

    Annotators are numbered in the order in which they came; their names are shown where the
    server shows patients' names (``--conf show_phi true``).
    """
    context = workspace()
    context.note_training()
    try:
        model_version = context.model_version()
    except CheckpointError:
        model_version = None
    return status(
        seen_ledger(),
        model_version=model_version,
        names=not hides(),
        running=[name for kind, name in KINDS.items() if background.runs(kind)],
    )
