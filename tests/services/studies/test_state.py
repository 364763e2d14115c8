"""A folder and its store: what the disk says is not forgotten."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.apart import ended, start
from tests.services.studies.kit import Open, write

from atlas8k.core.errors import Atlas8kError
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.store import Ledger
from atlas8k.store.filesystem import LEDGER_NAME


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def test_without_its_file_the_labels_are_still_there(
    studies: Path, open_folder: Open, state: Path, tmp_path: Path
) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder(state_dir=state)
    for number in (1, 2):
        label = write(tmp_path / "l.nii.gz", str(number).encode())
        folder.save_label("a", "final", label, {"n": number})
    folder.close()
    shutil.rmtree(state)
    folder = open_folder(state_dir=state)
    assert folder.now().status()["completed"] == 1
    assert json.loads(folder.known_label("a", "final").info) == {}
    # What was known of them was in the store; a rebuild reads what their headers say.
    assert len(list((folder.labels.folder / ".history" / "final" / "a").iterdir())) == 2


def test_a_file_that_is_taken_away_is_noticed_before_anything_is_lost_in_it(
    studies: Path, open_folder: Open, state: Path
) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder(state_dir=state)
    (state / LEDGER_NAME).rename(state / "elsewhere")
    with pytest.raises(Atlas8kError, match="moved away"):
        folder.update_image_info("a", {"k": 1})


def _open_and_write(studies: Path, state: Path, number: int) -> None:
    folder = StudiesFolder(studies, watch=False, ledger=Ledger(state / LEDGER_NAME))
    folder.update_image_info("a", {str(number): True})


def test_several_processes_may_make_the_file_at_once(
    studies: Path, open_folder: Open, state: Path
) -> None:
    (studies / "a.nii.gz").touch()
    processes = [start(_open_and_write, studies, state, number) for number in range(8)]
    assert [ended(process) for process in processes] == [0] * 8
    folder = open_folder(state_dir=state)
    assert folder.now().image_info("a").keys() == {str(number) for number in range(8)}


def test_a_closed_folder_opens_again_when_used(studies: Path, open_folder: Open) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder()
    folder.close()
    folder.update_image_info("a", {"k": 1})
    assert folder.now().image_info("a") == {"k": 1}
