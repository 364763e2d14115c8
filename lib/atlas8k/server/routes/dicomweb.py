"""The DICOMweb archive behind the viewer: read through here, and segmentations taken in.

What OHIF saves in its own segmentation mode is a label like any other: it is submitted, and what
is then current is written to the archive by the server. It never goes there unread.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import pydicom
import requests
from fastapi import APIRouter, Body, HTTPException, Request
from fastapi.responses import Response
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage
from requests_toolbelt.multipart.decoder import (
    ImproperBodyPartContentException,
    MultipartDecoder,
    NonMultipartContentTypeException,
)

from atlas8k.server.access import ANNOTATORS_OR_REVIEWERS, USERS
from atlas8k.server.guarded_route import GuardedRoute
from atlas8k.server.routes.cases import cases_of, submitted
from atlas8k.server.uploads import named_after
from atlas8k.server.workspace import looked, workspace
from atlas8k.services.errors import NotFoundError, RequestError, UpstreamError
from atlas8k.services.privacy import cleaned_dicom, without_patient

_ARCHIVE_PATH = re.compile(r"(studies|series|instances)(/[A-Za-z0-9][A-Za-z0-9.,_-]*)*/?")
"""DICOMweb's own resources (PS3.18): no way up, no other interface of the archive."""
_SERIES = re.compile(r"series/([0-9.]+)")
_PIXELS = re.compile(
    r"/(frames|instances/[0-9.]+/?$|rendered|thumbnail|bulkdata|series/[0-9.]+/?$)"
)
"""Resources that show or hold a CT's voxels, by series, which is the name of a volume."""
_OBJECTS = re.compile(r"(?i)application/dicom(?!\+json)")
"""Objects or headers in a form that would be passed on unread."""
_PASSED_ON = ("accept", "accept-language", "range", "if-none-match")
_PASSED_BACK = ("content-type", "etag", "content-range", "warning")
_STORE = re.compile(r"(wado/)?studies(?:/([0-9.]{1,64}))?/?")
WINDOW = {"00281050": 40, "00281051": 400}
"""Centre and width, HU."""
SEG_MB = 256.0
"""Bound of a segmentation that comes from a viewer; it has a bit a voxel."""


class StoreRoute(GuardedRoute):
    """A guarded route whose body is a file of :data:`SEG_MB` at most."""

    body_mb = SEG_MB


router = APIRouter(include_in_schema=False, route_class=GuardedRoute)
store = APIRouter(include_in_schema=False, route_class=StoreRoute)


@router.get("/proxy/dicom/{path:path}", dependencies=[USERS])
def archive(request: Request, path: str) -> Response:
    """Read from the DICOMweb archive of this server, for the viewer.

    Without ``show_phi`` whole objects do not pass, but segmentations that were written here:
    with what names the patient left empty.
    """
    session = workspace().archive
    if session is None:
        raise NotFoundError("DICOM archive", "--studies is a folder")
    operation, _, rest = path.partition("/")
    if operation in {"wado", "qido"}:
        path = rest
    if not _ARCHIVE_PATH.fullmatch(path) or ".." in path:
        raise NotFoundError("resource of a DICOM archive", path)
    prefix = ""
    if operation == "wado" or (operation == "qido" and path.endswith("metadata")):
        prefix = settings.MONAI_LABEL_WADO_PREFIX or ""
    elif operation == "qido":
        prefix = settings.MONAI_LABEL_QIDO_PREFIX or ""
    parts = [settings.MONAI_LABEL_STUDIES.rstrip("/"), prefix.strip("/"), path]
    headers = {key: request.headers[key] for key in _PASSED_ON if key in request.headers}
    try:
        answer = requests.get(
            "/".join(part for part in parts if part),
            params=request.url.query,
            headers=headers,
            auth=session.archive.access.credentials,
            timeout=settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as err:
        raise UpstreamError(f"the DICOM archive does not answer ({type(err).__name__})") from err
    series = _SERIES.search(path)
    if answer.ok and series is not None and _PIXELS.search(path):
        looked("image", series[1])
    kind, content = answer.headers.get("content-type", ""), bytes(answer.content)
    if not app_instance().settings.show_phi:
        if answer.ok and _OBJECTS.search(kind):
            if series is None or series[1] not in session.written():
                raise HTTPException(
                    403,
                    "whole DICOM objects hold the patient's data; start with --conf show_phi true",
                )
            kind, content = without_patient(kind, content)
        elif "json" in kind:
            try:
                content = json.dumps(cleaned_dicom(answer.json())).encode()
            except ValueError:
                content = b"null"
    if path.endswith("metadata") and "json" in kind:
        content = _in_the_abdominal_window(content)
    back = {key: answer.headers[key] for key in _PASSED_BACK if key in answer.headers}
    back["content-type"] = kind
    return Response(content, answer.status_code, headers=back)


def _in_the_abdominal_window(content: bytes) -> bytes:
    """Return metadata (PS3.18 F) of CTs with the window of an abdomen before their own."""
    try:
        instances = json.loads(content)
    except ValueError:
        return content
    for one in instances if isinstance(instances, list) else ():
        if isinstance(one, dict) and one.get("00080060", {}).get("Value") == ["CT"]:
            for tag, value in WINDOW.items():
                own = one.get(tag, {}).get("Value", [])
                one[tag] = {"vr": "DS", "Value": [value, *own]}
            one.pop("00281055", None)  # names of the windows, of which there are more now
    return json.dumps(instances).encode()


@store.post("/proxy/dicom/{path:path}", dependencies=[ANNOTATORS_OR_REVIEWERS])
def save(
    request: Request,
    path: str,
    body: Annotated[bytes, Body(media_type="multipart/related")] = b"",
) -> Response:
    """Submit the one DICOM SEG that a viewer stores (STOW-RS, PS3.18 10.5).

    Checked as every label is: refused with the reason, or kept and current. It is of a case that
    one has at hand, has submitted, or that nobody has: then it is taken with it.
    """
    where = _STORE.fullmatch(path)
    if workspace().archive is None or where is None:
        raise NotFoundError("place to store segmentations", path)
    with tempfile.TemporaryDirectory(prefix="atlas8k-") as folder:
        sent = Path(folder) / "upload.dcm"
        sent.write_bytes(_only_part(request.headers.get("content-type", ""), body))
        header = _segmentation(sent)
        if where[2] not in (None, header.StudyInstanceUID):
            raise RequestError(f"the segmentation is not of study {where[2]}")
        image = _series_of(header)
        cases = cases_of()
        lease = cases.at_hand(image)
        with named_after(image):
            receipt = submitted(image, cases.upload(image, sent, {}, lease=lease.id))
    stored = {
        "00081150": {"vr": "UI", "Value": [str(header.SOPClassUID)]},
        "00081155": {"vr": "UI", "Value": [str(header.SOPInstanceUID)]},
    }
    answer = {
        "00081199": {"vr": "SQ", "Value": [stored]},
        "00204000": {"vr": "LT", "Value": [f"submission {receipt['submission']}"]},
    }
    return Response(json.dumps(answer), media_type="application/dicom+json")


def _only_part(kind: str, body: bytes) -> bytes:
    """Return the one object of a request.

    Raises
    ------
    RequestError
        It is no request to store DICOM, or has none or several of them.
    """
    if "multipart/related" not in kind.lower() or not _OBJECTS.search(kind):
        raise RequestError('Content-Type: multipart/related; type="application/dicom" is needed')
    try:
        parts = MultipartDecoder(body, kind).parts
    except (
        *(ImproperBodyPartContentException, NonMultipartContentTypeException),
        *(ValueError, KeyError, AttributeError),
    ) as err:
        raise RequestError("the request's body is not what its Content-Type says") from err
    if len(parts) != 1:
        raise RequestError(f"{len(parts)} objects came; one segmentation at a time is taken")
    return bytes(parts[0].content)


def _segmentation(path: Path) -> Any:
    """Return the header of a DICOM SEG; raise 415 where it is anything else."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        kind = str(header.SOPClassUID)
        named = bool(header.SOPInstanceUID and header.StudyInstanceUID)
    except (InvalidDicomError, AttributeError, ValueError, OSError, EOFError, KeyError) as err:
        raise HTTPException(415, "only segmentations (DICOM SEG) are taken here") from err
    if kind != SegmentationStorage or not named:
        raise HTTPException(415, f"only segmentations (DICOM SEG) are taken here, not {kind[:64]}")
    return header


def _series_of(header: Any) -> str:
    """Return the series that a segmentation is of.

    Raises
    ------
    RequestError
        It names none, or several.
    """
    named = {
        str(one.get("SeriesInstanceUID", "")) for one in header.get("ReferencedSeriesSequence", ())
    }
    if len(named) != 1 or "" in named:
        raise RequestError("the segmentation does not say which one series it is of")
    return named.pop()
