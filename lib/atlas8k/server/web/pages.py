"""The log, the viewer OHIF, and the archive behind it: pages that read no file but their own."""

from __future__ import annotations

import html
import json
import logging
import re
import shutil
import subprocess
from collections import deque
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import monailabel
import requests
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from atlas8k.server.archive.client import ArchiveAccess
from atlas8k.server.errors import NotFoundError, UpstreamError
from atlas8k.server.privacy import cleaned_dicom
from atlas8k.server.web.ohif_patches import scripts_of

logger = logging.getLogger(__name__)
router = APIRouter()
AsUser = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
AsAdmin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]

OHIF = Path(monailabel.__file__).parent / "endpoints" / "static" / "ohif"
SERVER_COOKIE = "MONAILABEL_SERVER_URL"
MAX_LINES = 10_000
LINE_BYTES = 4096
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".html": "text/html",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}

_ARCHIVE_PATH = re.compile(r"(studies|series|instances)(/[A-Za-z0-9][A-Za-z0-9.,_-]*)*/?")
"""DICOMweb's own resources (PS3.18): no way up, no other interface of the archive."""
_OBJECTS = re.compile(r"(?i)application/dicom(?!\+json)")
_PASSED_ON = ("accept", "accept-language", "range", "if-none-match")
_PASSED_BACK = ("content-type", "etag", "content-range", "warning")


@router.get("/logs/", tags=["Others"], summary="The end of the server's log")
def logs(
    user: AsAdmin,
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


@router.get("/logs/gpu", tags=["Others"], summary="What nvidia-smi says")
def gpu(user: AsAdmin) -> Response:
    """The GPUs of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise NotFoundError("GPU", "nvidia-smi")
    done = subprocess.run([program], capture_output=True, text=True, timeout=30, check=False)
    return PlainTextResponse(done.stdout)


@router.get("/ohif/{path:path}", include_in_schema=False)
def ohif(request: Request, path: str, user: AsUser) -> Response:
    """A file of the viewer; its start page for every path that is none.

    The start page tells the viewer where this server is, unless it has been told another
    one: by itself it looks at port 8000.
    """
    index, wanted = OHIF / "index.html", None
    if "\x00" not in path and len(path) < 1000:
        wanted = (OHIF / path).resolve()
    if wanted is None or not wanted.is_relative_to(OHIF.resolve()) or not wanted.is_file():
        wanted = index
    if not wanted.is_file():
        raise NotFoundError("viewer", "ohif")
    if wanted.suffix == ".js" and (text := scripts_of(OHIF.resolve()).get(wanted)) is not None:
        return Response(text, media_type=TYPES[".js"], headers={"Cache-Control": "no-cache"})
    reply = FileResponse(wanted, media_type=TYPES.get(wanted.suffix, "application/octet-stream"))
    if wanted == index and SERVER_COOKIE not in request.cookies:
        reply.set_cookie(SERVER_COOKIE, quote(str(request.base_url), safe=""), path="/ohif")
    return reply


@router.get("/proxy/dicom/{path:path}", include_in_schema=False)
def archive(request: Request, path: str, user: AsUser) -> Response:
    """Read from the DICOMweb archive of this server, for the viewer.

    Nothing is written through here: labels are submitted to ``/datastore/label``.
    """
    if not settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")):
        raise NotFoundError("DICOM archive", "--studies is a folder")
    operation, _, rest = path.partition("/")
    if operation in {"wado", "qido"}:
        path = rest
    if not _ARCHIVE_PATH.fullmatch(path) or ".." in path:
        raise NotFoundError("resource of a DICOM archive", path)
    url = f"{settings.MONAI_LABEL_STUDIES.rstrip('/')}/{_prefix(operation, path)}{path}"
    headers = {key: request.headers[key] for key in _PASSED_ON if key in request.headers}
    try:
        answer = requests.get(
            url,
            params=request.url.query,
            headers=headers,
            auth=ArchiveAccess().credentials,
            timeout=settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as err:
        raise UpstreamError(f"the DICOM archive does not answer ({type(err).__name__})") from err
    if _whole(answer) and not app_instance().settings.show_phi:
        raise HTTPException(
            403, "whole DICOM objects hold the patient's data; start with --conf show_phi true"
        )
    back = {key: answer.headers[key] for key in _PASSED_BACK if key in answer.headers}
    return Response(_shown(answer), answer.status_code, headers=back)


def _whole(answer: requests.Response) -> bool:
    """Whether an answer holds DICOM objects or headers in a form that is passed on unread."""
    return bool(_OBJECTS.search(answer.headers.get("content-type", "")))


def _prefix(operation: str, path: str) -> str:
    if operation == "wado" or (operation == "qido" and path.endswith("metadata")):
        prefix = settings.MONAI_LABEL_WADO_PREFIX
    elif operation == "qido":
        prefix = settings.MONAI_LABEL_QIDO_PREFIX
    else:
        prefix = None
    return f"{prefix.strip('/')}/" if prefix else ""


def _shown(answer: requests.Response) -> bytes:
    if "json" not in answer.headers.get("content-type", "") or app_instance().settings.show_phi:
        return bytes(answer.content)
    try:
        found: Any = answer.json()
    except ValueError:
        return b"null"
    return json.dumps(cleaned_dicom(found)).encode()
