"""The file of what is known: what it refuses, and what the disk says is not forgotten."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.services.studies.kit import Open, start, write

from atlas8k.core.errors import Atlas8kError
from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.rows import STATE_NAME, VERSION
from atlas8k.store.errors import LedgerCorruptError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def test_a_file_of_a_newer_release_is_refused_and_left_alone(
    open_folder: Open, state: Path
) -> None:
    open_folder(state_dir=state).close()
    with closing(sqlite3.connect(state / STATE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StudiesFolderError, match="newer than this release"):
        open_folder(state_dir=state)
    with closing(sqlite3.connect(state / STATE_NAME)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == VERSION + 1


def test_another_programs_database_and_no_database_are_refused(
    open_folder: Open, state: Path
) -> None:
    with closing(sqlite3.connect(state / STATE_NAME)) as connection:
        connection.execute("PRAGMA application_id = 7")
    with pytest.raises(StudiesFolderError, match="not a file of this kind"):
        open_folder(state_dir=state)
    write(state / STATE_NAME, b"no database at all" * 100)
    with pytest.raises(LedgerCorruptError, match=STATE_NAME):
        open_folder(state_dir=state)


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
    assert [version.info["n"] for version in folder.labels.history("a")] == [1]


def test_a_file_that_is_taken_away_is_noticed_before_anything_is_lost_in_it(
    studies: Path, open_folder: Open, state: Path
) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder(state_dir=state)
    (state / STATE_NAME).rename(state / "elsewhere")
    with pytest.raises(Atlas8kError, match="moved away"):
        folder.state.update_image("a", {"k": 1})


def _open_and_write(studies: Path, state: Path, number: int) -> None:
    folder = StudiesFolder(studies, watch=False, state_dir=state)
    folder.state.update_image("a", {str(number): True})


def test_several_processes_may_make_the_file_at_once(
    studies: Path, open_folder: Open, state: Path
) -> None:
    (studies / "a.nii.gz").touch()
    processes = [start(_open_and_write, studies, state, number) for number in range(8)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    folder = open_folder(state_dir=state)
    assert folder.now().image_info("a").keys() == {str(number) for number in range(8)}


def test_a_closed_folder_opens_again_when_used(studies: Path, open_folder: Open) -> None:
    (studies / "a.nii.gz").touch()
    folder = open_folder()
    folder.close()
    folder.state.update_image("a", {"k": 1})
    assert folder.now().image_info("a") == {"k": 1}
