"""An Orthanc with two tiny CTs, and working folders over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.orthanc import orthanc_with, tiny_series

from atlas8k.services.archive.client import Archive
from atlas8k.services.archive.folder import ArchiveFolder
from atlas8k.store import Ledger
from atlas8k.store.filesystem import LEDGER_NAME
from local_orthanc import Orthanc, missing


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())} (make system-packages)")
    folder = tmp_path_factory.mktemp("orthanc")
    files = [tiny_series(folder, seed) for seed in range(2)]
    with orthanc_with(folder, [path for one in files for path in one]) as archive:
        yield archive


@pytest.fixture
def working(tmp_path: Path, orthanc: Orthanc) -> Iterator[Callable[..., ArchiveFolder]]:
    """Makes a working folder; several share one store, as processes do."""
    made: list[ArchiveFolder] = []

    def make(**options: float) -> ArchiveFolder:
        archive = Archive(orthanc.dicomweb)
        state = tmp_path / "state"
        ledger = Ledger(state / LEDGER_NAME)
        made.append(
            ArchiveFolder(tmp_path / "studies", archive, ledger=ledger, watch=False, **options)  # type: ignore[arg-type]
        )
        return made[-1]

    yield make
    for one in made:
        one.close()
