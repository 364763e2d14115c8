"""A studies folder of the release before, taken over: nothing lost, once, also when killed."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.faults import at_every_step

from atlas8k.core.structures import ORGAN_IDS
from atlas8k.core.volume import read_label
from atlas8k.labels.provenance import read_provenance
from atlas8k.services.labels.service import LabelService
from atlas8k.services.rebuild import rebuild
from atlas8k.services.rebuild_files import labels_on_disk
from atlas8k.services.studies.errors import StudiesFolderError
from atlas8k.services.studies.folder import StudiesFolder
from atlas8k.services.studies.import_state import ARCHIVE_FILE, FOLDER_FILE
from atlas8k.store import Holder, Ledger, LedgerLostError
from atlas8k.store.series_index import SeriesIndex

LIVER = ORGAN_IDS["liver"]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A folder as the release before left it, copied to another disk.

    Of ``a`` the first of two submissions is restored; ``b`` has a public liver and is held by
    Anna, and was predicted again since; ``c`` was submitted by a process that was killed before
    it made the label files; the one of ``d`` was killed before it was recorded.
    """
    root = tmp_path / "studies"
    with tarfile.open(Path(__file__).with_name("release_8.tar.xz")) as archive:
        archive.extractall(root, filter="data")
    return root


def liver(path: Path) -> list[int]:
    return [int(x) for x in np.flatnonzero((read_label(path).array == LIVER).any(axis=(1, 2)))]


def check(root: Path) -> None:
    """All that was known is known."""
    with closing(LabelService.open(root)) as service:
        service.reconciler.recover()
        book, labels = service.ledger, root / "labels"
        assert book.statuses() == {
            "a": "submitted", "b": "leased", "c": "submitted", "d": "leased",
        } or book.statuses() == {
            "a": "submitted", "b": "open", "c": "submitted", "d": "open",  # leases have run out
        }  # fmt: skip
        assert service.folder.catalogue.image_info("a") == {"note": "kept"}
        first, second, third = book.submissions("a")
        assert (third.purpose, third.restored) == ("restore", first.id)
        for one in (first, second):
            found = service.versions.find("a", str(one.sha256))
            assert found is not None
            assert found.info["submission"] == one.id
            assert service.versions.find("a", str(one.start_sha256)) is not None
        assert liver(labels / "final" / "a.nii.gz") == [1, 2, 3, 4]
        assert liver(labels / "final" / "c.nii.gz") == [1, 2, 3, 4]
        assert liver(labels / "original" / "c.nii.gz") == [1, 2, 3, 4]
        info = json.loads(service.folder.known_label("c", "final").info)
        assert info["submission"] == book.submissions("c")[0].id
        assert info["present"] == ["liver"]
        assert book.submissions("d") == []
        (written,) = (labels / ".history" / "final" / "d").glob("*.nii.gz")
        said = read_provenance(written)
        assert said is not None
        assert said.holder == "user:ben"
        for volume in "abcd":
            for tag in ("final", "original", "pseudo", "public"):
                current = service.versions.current(volume, tag)
                served = labels / tag / f"{volume}.nii.gz"
                assert served.exists() == (current is not None), (volume, tag)
                if current is not None:
                    assert served.read_bytes() == current.path.read_bytes()
                    assert not served.samefile(current.path)
        # Anna was given the first draft of b, which another prediction has replaced since.
        start = service.start_label("b", Holder.identify(user="anna"), None)
        assert start is not None
        assert liver(start.path) == [1, 2, 3, 4]
        assert start.info["organs"]["liver"]["source"] == "public"
        assert not service.existing.hold_back()


def test_all_of_it_is_there(before: Path) -> None:
    check(before)
    assert not (before / ".atlas8k" / FOLDER_FILE).exists()
    assert (before / ".atlas8k" / f"{FOLDER_FILE}.imported").exists()
    check(before)  # and stays


def test_the_submission_that_was_never_recorded_is_named(
    before: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with closing(LabelService.open(before)) as service:
            service.reconciler.recover()
    (said,) = [r.getMessage() for r in caplog.records if "never recorded" in r.getMessage()]
    assert said.startswith("d: ")


@pytest.mark.slow
def test_killed_at_any_step_it_is_done_by_the_next_start(before: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(before, kept)

    def open_(_: None) -> None:
        LabelService.open(before).reconciler.recover()

    for _ in at_every_step("kill", lambda: None, open_):
        check(before)
        shutil.rmtree(before)
        shutil.copytree(kept, before)


def test_without_its_ledger_the_folder_file_is_still_taken_over(before: Path) -> None:
    ledger = before / ".atlas8k" / "ledger.sqlite"
    ledger.unlink()
    with pytest.raises(LedgerLostError, match="ledger rebuild"):
        StudiesFolder(before, watch=False)
    assert not ledger.exists()
    rebuild(ledger, [*"abcd"], labels_on_disk(before), studies=before)
    with closing(StudiesFolder(before, watch=False)) as folder:
        assert folder.now().image_info("a") == {"note": "kept"}
        assert json.loads(folder.known_label("a", "final").info)["submission"] == 3


def test_another_file_of_that_name_is_refused_and_left_alone(before: Path) -> None:
    path = before / ".atlas8k" / FOLDER_FILE
    for break_ in (
        lambda connection: connection.execute("PRAGMA application_id = 7"),
        lambda connection: connection.execute("PRAGMA user_version = 99"),
    ):
        with closing(sqlite3.connect(path)) as connection:
            break_(connection)
        data = path.read_bytes()
        with pytest.raises(StudiesFolderError, match="not a file of the release before"):
            StudiesFolder(before, watch=False)
        assert path.read_bytes() == data
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StudiesFolderError, match="cannot be read"):
        StudiesFolder(before, watch=False)


def test_the_series_of_an_archive(tmp_path: Path) -> None:
    studies, place = tmp_path / "studies", tmp_path / "state"
    studies.mkdir()
    place.mkdir()
    with closing(sqlite3.connect(place / ARCHIVE_FILE)) as connection:
        connection.executescript(
            """CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
            CREATE TABLE series (uid TEXT PRIMARY KEY, study TEXT NOT NULL,
              instances INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
              fingerprint TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE sent (volume TEXT PRIMARY KEY, submission INTEGER NOT NULL,
              sha256 TEXT NOT NULL, series TEXT, tries INTEGER NOT NULL, reason TEXT NOT NULL,
              at REAL NOT NULL) WITHOUT ROWID;
            INSERT INTO meta VALUES ('seq', 4), ('answered_at', 17.5), ('error', '');
            INSERT INTO series VALUES ('1.2', '1', 40, 'volume', '', 'f'),
              ('1.3', '1', 3, 'refused', 'too few', 'g');
            INSERT INTO sent VALUES ('1.2', 5, 'abc', '9.9', 1, '', 18.0);
            PRAGMA application_id = 0x41384B44;
            PRAGMA user_version = 1;"""
        )
    ledger = Ledger(place / "ledger.sqlite")
    StudiesFolder(studies, watch=False, ledger=ledger).close()
    index = SeriesIndex(ledger)
    assert index.series()["1.3"].reason == "too few"
    assert index.sent()["1.2"].series == "9.9"
    assert (index.answered_at(), index.error()) == (17.5, "")
    assert index.patients() == {}  # the first release did not know whose they are
    ledger.close()
