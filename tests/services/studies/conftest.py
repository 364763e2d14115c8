"""Studies folders made of empty files: nothing here looks inside an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.studies.kit import Open

from atlas8k.services.studies.folder import StudiesFolder


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """An empty studies folder."""
    path = tmp_path / "studies"
    path.mkdir()
    return path


@pytest.fixture
def open_folder(studies: Path) -> Iterator[Open]:
    """Opens the studies folder as a process does; may be called again for another one."""
    opened: list[StudiesFolder] = []

    def open_(**options: Any) -> StudiesFolder:
        opened.append(StudiesFolder(studies, **{"watch": False, **options}))
        return opened[-1]

    yield open_
    for folder in opened:
        folder.close()
