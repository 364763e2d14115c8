"""A real Orthanc with series in it, and the server on top of it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.e2e.harness import APP, REPOSITORY, Server, running
from tests.server.tiny import write_networks

from atlas8k.server.archive.orthanc import Orthanc, missing

REAL = REPOSITORY.parent / "shared" / "data" / "cptac-pda-dicom"
REAL_SERIES = "1.3.6.1.4.1.14519.5.2.1.1078.3273.288986663620929317963297526037"

needs_orthanc = pytest.mark.skipif(
    bool(missing()), reason=f"not installed: {', '.join(missing())} (make system-packages)"
)
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real series is not there")


def real_series() -> list[Path]:
    """Files of a real CT series of 35 slices."""
    return sorted(REAL.glob("*.dcm"))


def app_folder(folder: Path, *, tiny: bool = True) -> Path:
    """An app folder with tiny random networks, or with the embedded ones."""
    app = folder / "app"
    app.mkdir(parents=True)
    shutil.copy(APP / "main.py", app)
    if tiny:
        write_networks(app / "model")
    else:
        shutil.copytree(APP / "model" / "embedded", app / "model" / "embedded")
    return app


@contextlib.contextmanager
def orthanc_with(folder: Path, files: Iterable[Path] = (), **options: object) -> Iterator[Orthanc]:
    """An Orthanc that holds these files."""
    with Orthanc(folder / "orthanc", **options) as archive:  # type: ignore[arg-type]
        archive.upload(files)
        yield archive


@contextlib.contextmanager
def serving(folder: Path, archive: Orthanc, *more: str, tiny: bool = True) -> Iterator[Server]:
    """The server over an archive; ledger and working folder lie in `folder`."""
    app = app_folder(folder, tiny=tiny)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    ledger = ("--conf", "ledger", str(folder / "state" / "ledger.sqlite"))
    with running(app, archive.dicomweb, elsewhere, *ledger, *more) as server:
        server.studies = folder / "state" / "studies"
        yield server
