"""No patient's name, id or date in logs, replies and pages, unless asked for.

What is said about a patient comes from DICOM attributes and from what clients send along.
Image ids are the names of the files in the studies folder: they are how a client asks for
an image, and stay. Who names files after patients shows names.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

ATTRIBUTES = {
    "PatientName": "00100010",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientBirthDate": "00100030",
    "PatientBirthTime": "00100032",
    "OtherPatientIDs": "00101000",
    "OtherPatientNames": "00101001",
    "PatientAddress": "00101040",
    "PatientTelephoneNumbers": "00102154",
    "AccessionNumber": "00080050",
    "StudyID": "00200010",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "SeriesDate": "00080021",
    "SeriesTime": "00080031",
    "AcquisitionDate": "00080022",
    "AcquisitionTime": "00080032",
    "AcquisitionDateTime": "0008002A",
    "ContentDate": "00080023",
    "ContentTime": "00080033",
    "InstanceCreationDate": "00080012",
    "InstanceCreationTime": "00080013",
    "ReferringPhysicianName": "00080090",
    "OperatorsName": "00081070",
    "InstitutionName": "00080080",
}
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
    """A reply's object without what names a patient, at any depth."""
    if isinstance(value, Mapping):
        return {key: cleaned(item) for key, item in value.items() if str(key).lower() not in _KEYS}
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    return value


def cleaned_json(text: str) -> str:
    """A JSON object's text without what names a patient."""
    if not _ANY_KEY.search(text):
        return text  # nearly always, and there are as many as images and labels
    return json.dumps(cleaned(json.loads(text)), separators=(",", ":"))


def cleaned_dicom(value: Any) -> Any:
    """DICOM JSON (PS3.18 F) with those attributes empty, in nested sequences too."""
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


def hidden(text: str) -> str:
    """A line of a log with the values of those attributes hidden."""
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
    """Whether replies are :func:`cleaned` in this process; they are until asked otherwise."""
    return not _shows


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
