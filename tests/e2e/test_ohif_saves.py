"""Segmentations that a viewer stores are submitted, and those of ours come back without a patient.

Over a real Orthanc; the requests are those of OHIF's own DICOMweb client.
"""

from __future__ import annotations

import http.client
import io
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from tests.e2e.harness import Server
from tests.e2e.orthanc import GRID, needs_orthanc, orthanc_with, serving, tiny_series, uid_of

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.formats.dicom_seg_writing import write_segmentation
from atlas8k.services.privacy import KEYWORDS

pytestmark = [pytest.mark.slow, needs_orthanc]
LIMIT_S = 60
NAME = "Doe^Jane"
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Path]]:
    folder = tmp_path_factory.mktemp("series")
    found = {seed: tiny_series(folder, seed) for seed in SEEDS}
    for files in found.values():
        for path in files:
            one = pydicom.dcmread(path)
            one.PatientName, one.PatientID, one.AccessionNumber = NAME, "4711", "A-4711"
            one.WindowCenter, one.WindowWidth = -600, 1500  # of a lung
            one.save_as(path)
    return found


@pytest.fixture(scope="module")
def server(
    made: dict[int, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("saves")
    files = [path for one in made.values() for path in one]
    with (
        orthanc_with(folder, files) as archive,
        serving(folder, archive, "--conf", "networks", "off", "--conf", "dicom_poll_s", "1") as up,
    ):
        end = time.monotonic() + LIMIT_S
        while len(up.client().datastore()["objects"]) < len(made):
            assert time.monotonic() < end
            time.sleep(0.5)
        yield up


def seg(files: list[Path], folder: Path, organ: str = "liver") -> bytes:
    array = np.zeros(GRID.shape, np.uint8)
    array[8:14, 8:13, 6:12] = ORGAN_IDS[organ]
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    path = folder / f"{uuid.uuid4().hex}.dcm"
    write_segmentation(array, GRID, headers, path, description="drawn")
    return path.read_bytes()


def stow(server: Server, *objects: bytes, path: str = "wado/studies", **more: Any) -> Any:
    boundary = uuid.uuid4().hex
    body = b"".join(
        b"\r\n--" + boundary.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n" + one
        for one in objects
    )
    body += f"\r\n--{boundary}--".encode()
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    headers = {"Content-Type": kind, "Accept": "application/dicom+json", **more}
    where = f"{server.url}/proxy/dicom/{path}"
    cookies = {"atlas8k_name": "eve"}
    return requests.post(where, body, headers=headers, cookies=cookies, timeout=LIMIT_S)


def history(server: Server, series: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{server.url}/atlas8k/labels/{series}/history", timeout=LIMIT_S)
    found: list[dict[str, Any]] = answer.json()["history"]
    return found


def test_a_segmentation_is_submitted_and_written_by_the_server(
    server: Server, made: dict[int, list[Path]], tmp_path: Path
) -> None:
    series, sent = uid_of(made[1]), seg(made[1], tmp_path)
    answer = stow(server, sent)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom+json"
    stored = answer.json()["00081199"]["Value"][0]["00081155"]["Value"]
    uid = pydicom.dcmread(io.BytesIO(sent)).SOPInstanceUID
    assert stored == [uid]
    (one,) = history(server, series)
    assert one["holder"] == "client:eve"
    assert one["organs"]["liver"]["state"] in {"revised", "not_assessed"}
    assert one["organs"]["liver"]["voxels_after"] == 180
    # What the viewer sent is not in the archive; what is current is, from the server.
    study = pydicom.dcmread(made[1][0]).StudyInstanceUID
    rows: list[Any] = []
    end = time.monotonic() + LIMIT_S
    while not rows:
        assert time.monotonic() < end
        time.sleep(0.5)
        where = f"{server.url}/proxy/dicom/qido/studies/{study}/instances?includefield=all"
        answer = requests.get(where, timeout=LIMIT_S).json()
        rows = [row for row in answer if row["00080060"]["Value"] == ["SEG"]]
    (ours,) = rows
    assert ours["00080018"]["Value"] != [uid]
    # It passes without show_phi, and with nothing in it that names the patient.
    at = f"{study}/series/{ours['0020000E']['Value'][0]}/instances/{ours['00080018']['Value'][0]}"
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    answer = requests.get(
        f"{server.url}/proxy/dicom/wado/studies/{at}", headers=accept, timeout=LIMIT_S
    )
    assert answer.status_code == 200, answer.text[:300]
    assert NAME.encode() not in answer.content
    assert b"4711" not in answer.content
    found = pydicom.dcmread(io.BytesIO(answer.content[answer.content.index(b"DICM") - 128 :]))
    assert not any(one.value for one in found.iterall() if one.keyword in KEYWORDS)
    assert [one.SegmentLabel for one in found.SegmentSequence] == ["liver"]
    assert found.pixel_array.sum() == 180


def test_pages_name_no_patient(server: Server, made: dict[int, list[Path]]) -> None:
    """Without show_phi a series is known by its UID."""
    uid = uid_of(made[1])
    for path in ("/atlas8k/list", f"/atlas8k/case?image={uid}", "/atlas8k/cases"):
        answer = requests.get(f"{server.url}{path}", timeout=LIMIT_S)
        assert answer.status_code == 200, answer.text
        for secret in ("4711", "Doe", "A-4711"):
            assert secret not in answer.text, path


def test_whole_cts_do_not_pass(server: Server, made: dict[int, list[Path]]) -> None:
    one = pydicom.dcmread(made[2][0])
    at = f"{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}"
    accept = {"Accept": 'multipart/related; type="application/dicom"'}
    where = f"{server.url}/proxy/dicom/wado/studies/{at}"
    assert requests.get(where, headers=accept, timeout=LIMIT_S).status_code == 403


def test_cts_open_in_the_abdominal_window(server: Server, made: dict[int, list[Path]]) -> None:
    one = pydicom.dcmread(made[2][0])
    where = f"{server.url}/proxy/dicom/wado/studies/{one.StudyInstanceUID}/series"
    for row in requests.get(f"{where}/{one.SeriesInstanceUID}/metadata", timeout=LIMIT_S).json():
        assert list(map(float, row["00281050"]["Value"])) == [40, -600]
        assert list(map(float, row["00281051"]["Value"])) == [400, 1500]


def claimed(server: Server, size: int) -> int:
    """What a request is answered that says it will be so large, before any of it comes."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=LIMIT_S)
    connection.putrequest("POST", "/proxy/dicom/wado/studies")
    connection.putheader("Content-Type", 'multipart/related; type="application/dicom"; boundary=x')
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_what_is_not_one_segmentation_is_refused(
    server: Server, made: dict[int, list[Path]], tmp_path: Path
) -> None:
    good, study = seg(made[2], tmp_path), pydicom.dcmread(made[2][0]).StudyInstanceUID
    other = pydicom.dcmread(made[3][0]).StudyInstanceUID
    for code, answer in (
        (415, stow(server, made[2][0].read_bytes())),  # a CT
        (415, stow(server, b"no DICOM at all")),
        (415, stow(server, b"\0" * 128 + b"DICM" + b"\xff" * 40)),
        (422, stow(server, good, good)),
        (422, stow(server)),
        (422, stow(server, good, path=f"wado/studies/{other}")),
        (404, stow(server, good, path="wado/series")),
        (404, stow(server, good, path="../studies")),
        (400, stow(server, good, **{"Content-Type": "application/json"})),
        (422, stow(server, good, **{"Content-Type": "multipart/related; boundary=x"})),
        (403, stow(server, good, Origin="http://evil.example")),
    ):
        assert answer.status_code == code, answer.text
    assert claimed(server, 300 << 20) == 413
    damaged = good[: len(good) // 2]
    assert stow(server, damaged).status_code in {415, 422}
    assert history(server, uid_of(made[2])) == []
    assert stow(server, good, path=f"wado/studies/{study}").status_code == 200
    assert "Traceback" not in server.text()


def test_a_case_in_other_hands_is_not_taken(
    server: Server, made: dict[int, list[Path]], tmp_path: Path
) -> None:
    series = uid_of(made[3])
    url = f"{server.url}/atlas8k/cases/{series}"
    answer = requests.post(f"{url}/take", json={"client_id": "kim"}, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    answer = stow(server, seg(made[3], tmp_path))
    assert answer.status_code == 409
    assert "somebody else" in answer.json()["detail"]
    assert history(server, series) == []
