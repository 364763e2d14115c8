"""No patient's name, id or date in logs, replies and pages, unless asked for.

What is said about a patient comes from DICOM attributes and from what clients send along.
Image ids are the names of the files in the studies folder: they are how a client asks for
an image, and stay. Who names files after patients shows names.
"""

from __future__ import annotations

import io
import json
import logging
import re
import uuid
from collections.abc import Mapping
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword
from requests_toolbelt.multipart.decoder import MultipartDecoder

KEYWORDS = [
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentDate",
    "ContentTime",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ReferringPhysicianName",
    "OperatorsName",
    "InstitutionName",
]
ATTRIBUTES = {keyword: f"{tag_for_keyword(keyword):08X}" for keyword in KEYWORDS}
"""DICOM keywords with their tags (PS3.6); names, ids and dates."""

HIDDEN = "(hidden)"
_KEYS = {key.lower() for key in ATTRIBUTES}
_NAMES = "|".join([*ATTRIBUTES, *ATTRIBUTES.values()])
_ANY_KEY = re.compile(rf'(?i)"(?:{"|".join(ATTRIBUTES)})"|\\\\u')
"""Such a key, or an escape behind which one may hide."""
_IN_TEXT = re.compile(
    rf"""(?i)\b({_NAMES})(["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;&}}\])]+)"""
)
_QUERY = re.compile(r"\?\S*")
TALKATIVE = (
    "monailabel.endpoints",
    "monailabel.datastore",
    "monailabel.utils.async_tasks",
    "monailabel.utils.sessions",
)
"""Loggers that write down whole requests and replies."""


def cleaned(value: Any) -> Any:
    """Return a reply's object without what names a patient, at any depth."""
    if isinstance(value, Mapping):
        return {key: cleaned(item) for key, item in value.items() if str(key).lower() not in _KEYS}
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    return value


def cleaned_json(text: str) -> str:
    """Return a JSON object's text without what names a patient."""
    if not _ANY_KEY.search(text):
        return text  # nearly always, and there are as many as images and labels
    return json.dumps(cleaned(json.loads(text)), separators=(",", ":"))


def cleaned_dicom(value: Any) -> Any:
    """Return DICOM JSON (PS3.18 F) with those attributes empty, in nested sequences too."""
    tags = set(ATTRIBUTES.values())
    if isinstance(value, Mapping):
        return {
            key: {"vr": item.get("vr", "UN")}
            if str(key).upper() in tags and isinstance(item, Mapping)
            else cleaned_dicom(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [cleaned_dicom(item) for item in value]
    return value


def without_patient(kind: str, content: bytes) -> tuple[str, bytes]:
    """Return DICOM objects with those attributes empty, in nested sequences too.

    Parameters
    ----------
    kind
        The answer's Content-Type: one object, or several as ``multipart/related``.

    Returns
    -------
    str, bytes
        Content-Type and body.
    """
    if "multipart" not in kind.lower():
        return kind, _object_without(content)
    parts = MultipartDecoder(content, kind).parts
    boundary, body = uuid.uuid4().hex, b""
    for part in parts:
        body += f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body += _object_without(part.content) + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return f'multipart/related; type="application/dicom"; boundary={boundary}', body


def _object_without(content: bytes) -> bytes:
    found = pydicom.dcmread(io.BytesIO(content))
    for element in found.iterall():
        if element.keyword in ATTRIBUTES:
            element.value = None
    stream = io.BytesIO()
    found.save_as(stream, write_like_original=False)
    return stream.getvalue()


def hidden(text: str) -> str:
    """Return a line of a log with the values of those attributes hidden."""
    return _IN_TEXT.sub(rf"\1\2{HIDDEN}", text)


class LogFilter(logging.Filter):
    """Hides patient data in messages and tracebacks, and the queries of asked-for URLs."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "uvicorn.access" and isinstance(record.args, tuple):
            record.args = tuple(
                _QUERY.sub("", part) if isinstance(part, str) else part for part in record.args
            )
            return True
        record.msg, record.args = hidden(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = hidden(self._formatter.formatException(record.exc_info))
        return True


_shows = False


def hides() -> bool:
    """Return whether replies are :func:`cleaned` here; they are until asked otherwise."""
    return not _shows


def shown(reply: dict[str, Any]) -> dict[str, Any]:
    """Return a reply, :func:`cleaned` unless patients' data is to be shown."""
    return dict(cleaned(reply)) if hides() else reply


def install(*, show_phi: bool) -> None:
    """Set up the logging and the replies of this process, again at will."""
    global _shows  # noqa: PLW0603 - one process, one server
    _shows = show_phi
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.access")]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        for old in [item for item in handler.filters if isinstance(item, LogFilter)]:
            handler.removeFilter(old)
        if not show_phi:
            handler.addFilter(LogFilter())
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET if show_phi else logging.WARNING)
