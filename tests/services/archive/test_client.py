"""What the archive is asked, and what becomes of it when it does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.cutting import Cutter
from tests.e2e.orthanc import tiny_series, tiny_uid, uid_of

from atlas8k.services.archive.client import Archive, ArchiveAccess, is_uid
from atlas8k.services.errors import NotFoundError, UpstreamError
from local_orthanc import Orthanc, OrthancError, configuration, free_port

UIDS = [tiny_uid(0), tiny_uid(1)]


def test_series_headers_and_instances(orthanc: Orthanc) -> None:
    archive = Archive(f"{orthanc.dicomweb}/")
    archive.answers()
    found = archive.series()
    assert set(UIDS) <= set(found)
    one = found[UIDS[0]]
    assert (one.modality, one.instances) == ("CT", 16)
    assert archive.one(one.uid) == one
    assert archive.one("1.2.3") is None
    headers = archive.headers(one.study, one.uid)
    assert len(headers) == 16
    assert not any("PixelData" in header for header in headers)
    pixels = [len(instance.PixelData) for instance in archive.instances(one.study, one.uid)]
    assert pixels == [2 * 20 * 18] * 16


def test_a_series_that_is_not_there(orthanc: Orthanc) -> None:
    archive = Archive(orthanc.dicomweb)
    study = archive.series()[UIDS[0]].study
    with pytest.raises(NotFoundError, match=r"1\.2\.3"):
        archive.headers(study, "1.2.3")


def test_an_archive_that_is_away_says_so() -> None:
    archive = Archive(f"http://127.0.0.1:{free_port()}/dicom-web")
    for ask in (archive.answers, archive.series, lambda: list(archive.instances("1.2", "1.3"))):
        with pytest.raises(UpstreamError, match="nothing is lost"):
            ask()


def test_it_is_signed_in_to_as_monai_label_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orthanc: Orthanc
) -> None:
    files = tiny_series(tmp_path, 5)
    with Orthanc(tmp_path / "closed", users={"reader": "s3cret"}) as closed:
        closed.upload(files)
        with pytest.raises(UpstreamError, match="MONAI_LABEL_DICOMWEB_USERNAME"):
            Archive(closed.dicomweb).series()
        monkeypatch.setenv("MONAI_LABEL_DICOMWEB_USERNAME", "reader")
        monkeypatch.setenv("MONAI_LABEL_DICOMWEB_PASSWORD", "wrong")
        with pytest.raises(UpstreamError, match="401"):
            Archive(closed.dicomweb).series()
        monkeypatch.setenv("MONAI_LABEL_DICOMWEB_PASSWORD", "s3cret")
        assert ArchiveAccess().credentials == ("reader", "s3cret")
        assert list(Archive(closed.dicomweb).series()) == [uid_of(files)]


@pytest.mark.parametrize(
    ("text", "good"),
    [("1.2.840", True), ("12", False), ("1.2/../3", False), ("1." * 40 + "1", False), ("", False)],
)
def test_uids(text: str, good: bool) -> None:
    assert is_uid(text) is good


def test_orthanc_is_for_this_machine_alone(tmp_path: Path, orthanc: Orthanc) -> None:
    settings_ = configuration(tmp_path, 1234)
    assert settings_["RemoteAccessAllowed"] is False
    assert settings_["DicomServerEnabled"] is False
    with pytest.raises(OrthancError, match="refuses"):
        orthanc.upload_bytes(b"no DICOM")


@pytest.mark.parametrize("after", [300, 4000, 9000, 15_000])
def test_an_answer_that_is_cut_off_is_no_series(
    orthanc: Orthanc, tmp_path: Path, after: int
) -> None:
    """Wherever the connection ends: the client itself would take what has come."""
    between = Cutter(orthanc.port)
    archive = Archive(f"http://127.0.0.1:{between.port}/dicom-web")
    study = archive.series()[UIDS[0]].study
    between.arm(rb"GET /dicom-web/studies/[0-9.]+/series/[0-9.]+ ", after, lambda: None)
    with pytest.raises(UpstreamError, match="nothing is lost"):
        archive.download(study, UIDS[0], tmp_path)
    assert between.cut.is_set()
    assert archive.download(study, UIDS[0], tmp_path) == 16
    between.close()


def test_whose_a_series_is_stays_in_memory(orthanc: Orthanc) -> None:
    found = Archive(orthanc.dicomweb).series()
    assert {one.patient for one in found.values()} != {""}
    assert all(one.patient not in repr(one) for one in found.values())
