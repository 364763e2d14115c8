"""A real Orthanc with series in it, and the server on top of it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from tests.e2e.harness import APP, REPOSITORY, Server, running
from tests.server.tiny import write_networks

from abdomen_phantom import STANDARD, generate
from atlas8k.core.volume import Grid
from atlas8k.formats.dicom import write_series
from atlas8k.formats.dicom.write import stable_uid
from local_orthanc import Orthanc, missing

REAL = REPOSITORY.parent / "shared" / "data" / "cptac-pda-dicom"
REAL_SERIES = "1.3.6.1.4.1.14519.5.2.1.1078.3273.288986663620929317963297526037"

needs_orthanc = pytest.mark.skipif(
    bool(missing()), reason=f"not installed: {', '.join(missing())} (make system-packages)"
)
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real series is not there")


def real_series() -> list[Path]:
    """Files of a real CT series of 35 slices."""
    return sorted(REAL.glob("*.dcm"))


GRID = Grid((20, 18, 16), np.diag([-12.0, -12.0, 15.0, 1.0]))
"""Of every tiny CT: columns, rows and slices as an axial series has them."""


def tiny_array(seed: int) -> np.ndarray:
    """A noisy ellipsoid of soft tissue in air on :data:`GRID`, HU."""
    axes = np.ogrid[tuple(slice(-1, 1, n * 1j) for n in GRID.shape)]
    inside = sum(axis**2 for axis in axes) < 0.85**2
    noise = np.random.default_rng(seed).normal(0, 60, GRID.shape)
    return np.where(inside, 40 + noise, -1000).astype(np.int16)


def tiny_series(folder: Path, seed: int, **words: Any) -> list[Path]:
    """A tiny CT as a DICOM series of 16 slices, a study of its own."""
    return write_series(folder / f"tiny{seed}", tiny_array(seed), GRID, seed=f"tiny{seed}", **words)


def tiny_uid(seed: int) -> str:
    """SeriesInstanceUID of :func:`tiny_series`."""
    return str(stable_uid("series", f"tiny{seed}", f"tiny{seed}"))


def phantom_series(folder: Path, seed: int, spacing_mm: float = 4.0) -> list[Path]:
    """A phantom as a DICOM series: organs where the embedded networks find them."""
    phantom = generate(seed, STANDARD, grid_spacing_mm=spacing_mm)
    ct = phantom.ct
    name = f"phantom{seed}"
    return write_series(folder / name, ct.array, ct.grid, seed=name, description="phantom")


def uid_of(files: list[Path]) -> str:
    """SeriesInstanceUID of a series."""
    return str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)


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
def serving(
    folder: Path, archive: Orthanc | str, *more: str, tiny: bool = True
) -> Iterator[Server]:
    """The server over an archive or its URL; ledger and working folder lie in `folder`."""
    url = archive if isinstance(archive, str) else archive.dicomweb
    app = folder / "app"
    if not app.exists():
        app_folder(folder, tiny=tiny)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    ledger = ("--conf", "ledger", str(folder / "state" / "ledger.sqlite"))
    with running(app, url, elsewhere, *ledger, *more) as server:
        server.studies = folder / "state" / "studies"
        yield server
