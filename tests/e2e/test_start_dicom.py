"""`make start-dicom`: Orthanc with a phantom and the server on top, ended together."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import requests
import typer
from tests.e2e.harness import REPOSITORY, environment, free_port
from tests.e2e.orthanc import app_folder, needs_orthanc

import local_orthanc as orthanc

SCRIPT = REPOSITORY / "sample-datasets" / "start_dicom.py"
LIMIT_S = 300.0


@pytest.mark.slow
@needs_orthanc
def test_it_starts_both_and_ends_both(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "out.txt"
    where = ["--port", str(port), "--folder", str(tmp_path / "dicom"), "--count", "1"]
    app = ["--app", str(app_folder(tmp_path))]
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *where, *app],
            env=environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + LIMIT_S
        info: dict[str, dict[str, int]] = {}
        while not info:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            with contextlib.suppress(requests.RequestException):
                info = requests.get(f"http://127.0.0.1:{port}/info/", timeout=10).json()
            time.sleep(0.3)
        assert info["datastore"]["total"] == 1
        assert requests.get(f"http://127.0.0.1:{port}/ohif/", timeout=10).status_code == 200
        found = re.search(r"Orthanc: http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        url = f"http://127.0.0.1:{found[1]}/system"
        assert requests.get(url, timeout=10).status_code == 200
        listening = {
            one.laddr.ip if one.laddr else ""
            for child in psutil.Process(process.pid).children(recursive=True)
            for one in child.net_connections()
            if one.status == psutil.CONN_LISTEN and one.laddr.port == port
        }
        assert listening == {"127.0.0.1"}
        children = psutil.Process(process.pid).children(recursive=True)
        assert {child.name() for child in children} >= {"Orthanc"}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        psutil.wait_procs(children, 20)
        assert not [child for child in children if child.is_running()]
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            one = psutil.Process(process.pid)
            for child in [*one.children(recursive=True), one]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


def test_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(orthanc, "PROGRAMS", ("no-such-program",))
    monkeypatch.setattr(orthanc, "PLUGINS", ())
    spec = importlib.util.spec_from_file_location("start_dicom", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with pytest.raises(typer.Exit) as ended:
        script.main(folder=tmp_path)
    assert ended.value.exit_code == 1
    said = capsys.readouterr().err
    assert "missing: orthanc, orthanc-dicomweb" in said
    assert "apt-get install" in said
    assert not list(tmp_path.iterdir())
