"""What is said at the start, and what stops one."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

import pytest
from monailabel.config import settings

from atlas8k.core.errors import SettingsError
from atlas8k.server import startup
from atlas8k.services import opening


@pytest.mark.parametrize(
    ("argv", "host"),
    [
        ([], "0.0.0.0"),
        (["start_server", "--host", "127.0.0.1"], "127.0.0.1"),
        (["start_server", "--app", "x", "-i", "::1", "--port", "9"], "::1"),
        (["start_server", "--host=localhost"], "localhost"),
    ],
)
def test_the_host_is_what_the_command_line_says(argv: list[str], host: str) -> None:
    assert startup.bound_to(argv)[0] == host


@pytest.mark.parametrize(
    ("host", "signed_in", "warns"),
    [
        ("0.0.0.0", False, True),
        ("192.0.2.7", False, True),
        ("127.0.0.1", False, False),
        ("0.0.0.0", True, False),
    ],
)
def test_it_warns_where_anybody_may_come_in(
    host: str,
    signed_in: bool,
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(settings, "MONAI_LABEL_AUTH_ENABLE", signed_in)
    with caplog.at_level(logging.INFO):
        startup.announce(host, 8123, "/studies", 4)
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert bool(warnings) == warns
    assert any("--host 127.0.0.1" in line for line in warnings) == warns
    shown = "127.0.0.1" if host == "0.0.0.0" else host
    assert f"3D Slicer: module MONAI Label, server URL http://{shown}:8123" in caplog.text
    assert f"http://{shown}:8123/ohif/" in caplog.text


def test_a_folder_that_this_start_made_is_a_missing_one(tmp_path: Path) -> None:
    made = tmp_path / "typo"
    made.mkdir()  # as `monailabel start_server` does, long after the process began
    later = time.time() + 60
    os.utime(made, (later, later))
    with pytest.raises(SettingsError, match="no such folder") as error:
        opening.check_studies(str(made))
    assert str(made) in str(error.value)
    assert not made.exists()


def test_an_empty_folder_of_the_users_is_served(tmp_path: Path) -> None:
    before = time.time() - 3600
    os.utime(tmp_path, (before, before))
    assert opening.check_studies(str(tmp_path)) == tmp_path
    assert tmp_path.is_dir()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "ct.nii.gz"
    file.write_bytes(b"x")
    with pytest.raises(SettingsError, match=r"ct\.nii\.gz"):
        opening.check_studies(str(file))


@pytest.mark.parametrize(
    ("value", "flag"), [(True, True), ("true", True), ("0", False), (None, False), (1, True)]
)
def test_flags_in_requests(value: object, flag: bool) -> None:
    assert startup.truth(value) is flag


def test_a_datastore_without_history_of_labels_is_refused(monkeypatch):
    monkeypatch.setattr(startup.monailabel_settings, "MONAI_LABEL_DATASTORE", "XNAT")
    with pytest.raises(SettingsError, match="a folder of CTs or the URL of a DICOMweb server"):
        startup.check_datastore()
    monkeypatch.setattr(startup.monailabel_settings, "MONAI_LABEL_DATASTORE", "")
    startup.check_datastore()


def test_the_log_configuration_of_a_start_is_removed_and_a_users_own_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made, own, elsewhere = tmp_path / "tmpab_1.json", tmp_path / "log.json", tmp_path / "x"
    elsewhere.mkdir()
    other = elsewhere / "tmpab_1.json"
    for path in (made, own, other):
        path.touch()
    for path in (str(made), str(own), str(other), {"version": 1}, None, str(made)):
        startup.remove_log_configuration(path)
    assert not made.exists()
    assert own.exists()
    assert other.exists()
