"""What names a patient is taken out, and nothing else."""

from __future__ import annotations

import io
import logging

import pytest

from atlas8k.services.privacy import LogFilter, cleaned, cleaned_dicom, hidden

LINES = [
    ("{'PatientName': 'Doe^Jane', 'Modality': 'CT'}", "Doe", "CT"),
    ('{"PatientID":"P-77","n":3}', "P-77", '"n":3'),
    ("GET /studies?PatientBirthDate=19700101&limit=5", "19700101", "limit=5"),
    ("StudyDate: 20260101, series 4", "20260101", "series 4"),
    ('{"00100010": "Doe^Jane", "00080060": "CT"}', "Doe", "CT"),
    (r"{'patientname': 'O\'Neil', 'x': 1}", "Neil", "'x': 1"),
]


@pytest.mark.parametrize(("text", "gone", "kept"), LINES)
def test_a_line_of_the_log(text: str, gone: str, kept: str) -> None:
    shown = hidden(text)
    assert gone not in shown
    assert kept in shown


def test_a_line_without_patients_stays_as_it_is() -> None:
    text = "scored 3 of 8448, 0 failed; PatientName is not shown"
    assert hidden(text) == text


def test_tracebacks_and_queries() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(LogFilter())
    for name in ("uvicorn.access", "test.privacy"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d', "127.0.0.1", "GET", "/datastore/image?image=Doe", "1.1", 200
    )
    try:
        raise ValueError("PatientName='Doe^Jane'")
    except ValueError:
        logging.getLogger("test.privacy").exception("%s", "failed")
    text = stream.getvalue()
    assert "GET /datastore/image HTTP/1.1" in text
    assert "ValueError" in text
    assert "Doe" not in text


def test_replies() -> None:
    reply = {"id": "a", "info": [{"PatientID": 1, "Modality": "CT"}], "studydate": 3}
    assert cleaned(reply) == {"id": "a", "info": [{"Modality": "CT"}]}


def test_dicom_json() -> None:
    found = [
        {
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
            "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
            "00081115": {"vr": "SQ", "Value": [{"00080020": {"vr": "DA", "Value": ["20260101"]}}]},
        }
    ]
    assert cleaned_dicom(found) == [
        {
            "00100010": {"vr": "PN"},
            "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
            "00081115": {"vr": "SQ", "Value": [{"00080020": {"vr": "DA"}}]},
        }
    ]
