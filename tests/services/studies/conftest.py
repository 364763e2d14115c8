"""Studies folders made of empty files: nothing here looks inside an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.studies.kit import Open

from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import Ledger
from atlas8k.store.filesystem import LEDGER_NAME


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

    def open_(*, state_dir: Path | None = None, **options: Any) -> StudiesFolder:
        if state_dir is not None:
            options["ledger"] = Ledger(state_dir / LEDGER_NAME)
        opened.append(StudiesFolder(studies, **{"watch": False, **options}))
        return opened[-1]

    yield open_
    for folder in opened:
        folder.close()
