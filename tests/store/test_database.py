from __future__ import annotations

import multiprocessing
import os
import pickle
import sqlite3
import tempfile
import threading
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.apart import CONTEXT, ended, start
from tests.store.kit import ANNA, check_consistent, names, query, scored, sizes

from atlas8k.core.errors import Atlas8kError
from atlas8k.store import (
    Ledger,
    LedgerCorruptError,
    LedgerFileError,
    LedgerFullError,
    LedgerLockedError,
    LedgerReadOnlyError,
    NetworkFileSystemError,
    UnknownModelVersionError,
    UnknownVolumeError,
    locate,
)
from atlas8k.store.filesystem import network_type


def test_the_folder_is_made_and_the_file_found_again(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "ledger.sqlite"
    scored(Ledger(path), {"a": 1})
    assert Ledger(path).ranking("one")[0].volume == "a"
    assert query(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_locked_ledger_says_so_and_goes_on_after(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", timeout_s=0.05)
    scored(ledger, {"a": 1})
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerLockedError, match=r"l\.sqlite: locked by another process"):
            ledger.submit("a", ANNA)
        with pytest.raises(LedgerLockedError):
            ledger.next_sample(holder=ANNA, model_version="one")
        assert ledger.ranking("one")  # readers do not wait
        with pytest.raises(LedgerLockedError):
            Ledger(ledger.path, timeout_s=0.05)
        other.execute("ROLLBACK")
    assert ledger.submissions("a") == []
    assert ledger.next_sample(holder=ANNA, model_version="one") is not None


def test_a_lock_that_is_given_up_in_time_is_waited_for(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", timeout_s=10)
    ledger.sync_volumes(["a"])
    other = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, lambda: other.execute("ROLLBACK"))
    timer.start()
    ledger.submit("a", ANNA)
    timer.join()
    other.close()
    assert ledger.submitted("a")


def test_a_full_disk_says_so_and_leaves_no_half_written_state(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    scored(ledger, {"a": 1})
    pages = query(ledger.path, "PRAGMA page_count")[0][0]
    with ledger._db._connection() as connection:  # the one that every call here will use
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerFullError, match="disk full; nothing was written"):
        ledger.sync_volumes(names(5000))
    assert ledger.statuses() == {"a": "open"}
    check_consistent(ledger.path)
    with ledger._db._connection() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    ledger.sync_volumes(["a", *names(100)])
    assert ledger.counts().total == 101
    check_consistent(ledger.path)


def _open_as_nobody(path: Path, answer: Connection) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        Ledger(path)
        answer.send("opened")
    except Atlas8kError as error:
        answer.send(f"{type(error).__name__} {error}")


def as_nobody(path: Path) -> str:
    """What opening the ledger says to an account without rights, also when we are root."""
    reader, writer = CONTEXT.Pipe(duplex=False)
    assert ended(start(_open_as_nobody, path, writer)) == 0
    return str(reader.recv())


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o777), (0o666, 0o555)])
def test_a_read_only_file_or_folder_is_refused(file_mode: int, folder_mode: int) -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies in a folder of our own
        Path(name).chmod(0o755)
        folder = Path(name) / "folder"
        folder.mkdir()
        ledger = Ledger(folder / "l.sqlite")
        ledger.sync_volumes(["a"])
        ledger.close()
        ledger.path.chmod(file_mode)
        folder.chmod(folder_mode)
        said = as_nobody(ledger.path)
        assert said.startswith("LedgerReadOnlyError")
        assert "l.sqlite" in said
        folder.chmod(0o755)
        ledger.path.chmod(0o644)
        assert Ledger(ledger.path).statuses() == {"a": "open"}


def test_a_ledger_that_became_read_only_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    scored(ledger, {"a": 1})
    with ledger._db._connection() as connection:
        connection.execute("PRAGMA query_only = ON")  # what a read-only mount amounts to
    with pytest.raises(LedgerReadOnlyError, match="write permission"):
        ledger.submit("a", ANNA)
    with ledger._db._connection() as connection:
        connection.execute("PRAGMA query_only = OFF")
    assert not ledger.submitted("a")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerReadOnlyError, match=r"file/l\.sqlite"):
        Ledger(tmp_path / "file" / "l.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LedgerReadOnlyError, match="cannot be opened"):
        Ledger(tmp_path / "folder")


@pytest.mark.parametrize(
    "content", [b"not a ledger at all" * 100, b"SQLite format 3\0" + b"x" * 99]
)
def test_what_is_no_ledger_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "l.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerCorruptError, match="rebuild"):
        Ledger(path)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["l.sqlite"]


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE patients (name)")
    before = path.read_bytes()
    with pytest.raises(LedgerCorruptError, match="another program"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_damaged_ledger_says_so(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    scored(ledger, {f"v{i}": 1.0 for i in range(300)})
    ledger.close()
    with ledger.path.open("r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(8192)
        stream.write(b"\xa5" * (size - 8192))
    with pytest.raises(LedgerCorruptError, match="rebuild"):
        Ledger(ledger.path).ranking("one")


def test_an_exception_in_the_middle_writes_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(["a"])

    def half_way() -> None:
        with ledger._db.write() as connection:
            connection.execute("DELETE FROM volume")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_way()
    assert list(ledger.statuses()) == ["a"]
    ledger.sync_volumes(["a", "b"])  # and the connection is fit for use
    assert list(ledger.statuses()) == ["a", "b"]


def test_a_ledger_moved_away_while_open_is_not_written_to(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(["a"])
    for name in ("l.sqlite", "l.sqlite-wal", "l.sqlite-shm"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    for _ in range(2):
        with pytest.raises(LedgerFileError, match="moved away or replaced"):
            ledger.submit("a", ANNA)
        Ledger(ledger.path).close()  # another one in its place is not the same


def test_threads_that_wait_too_long_are_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite", timeout_s=0.05)
    with ledger._db.write(), pytest.raises(LedgerLockedError, match="other threads"):
        ledger.submit("a", ANNA)
    ledger.submit("a", ANNA)


def test_nobody_waits_for_somebody_elses_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people did is on disk before the call returns; others write while it gets there."""
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(["a", "b"])
    other = Ledger(ledger.path, timeout_s=0.05)
    sync, synced = os.fsync, []

    def fsync(handle: int) -> None:
        synced.append(os.path.samestat(os.fstat(handle), Path(f"{ledger.path}-wal").stat()))
        with other.write() as tx:  # not durable, or this would never end
            tx.set("written", "meanwhile")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    ledger.submit("a", ANNA)
    assert synced == [True]
    with ledger.read() as tx:
        assert tx.setting("written") == "meanwhile"
    with ledger.write() as tx:
        tx.set("written", "not durably")
    assert synced == [True]


def test_a_disk_that_does_not_confirm_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(["a"])

    def fsync(_handle: int) -> None:
        raise OSError("input/output error, says the test")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(LedgerFileError, match="does not confirm what was written"):
        ledger.submit("a", ANNA)


def test_threads_share_one_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(names(64))
    ledger.register_model_version("one")
    todo = list(names(64))

    def work() -> None:
        while todo:
            try:
                volume = todo.pop()
            except IndexError:
                return
            ledger.record_score(volume, "one", sizes(1))
            ledger.progress("one")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.progress("one").complete
    check_consistent(ledger.path)


def test_a_child_process_after_a_fork_has_its_own_connection(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(["a", "b"])
    child = multiprocessing.get_context("fork").Process(target=ledger.submit, args=("a", ANNA))
    child.start()
    assert ended(child) == 0
    ledger.submit("b", ANNA)
    assert ledger.submitted("a")
    assert ledger.submitted("b")
    check_consistent(ledger.path)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    table = [
        ("/", "ext4"),
        ("/data", "nfs4"),
        ("/data/local", "xfs"),
        ("/home/me/ct", "fuse.sshfs"),
        ("/over", "ext4"),
        ("/over", "nfs"),
    ]
    found = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in table]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: found)


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/studies/a", None),
        ("/data/studies", "nfs4"),
        ("/data", "nfs4"),
        ("/database", None),
        ("/data/local/studies", None),
        ("/home/me/ct/x", "fuse.sshfs"),
        ("/over/x", "nfs"),
    ],
)
def test_network_file_systems_are_told_from_local_ones(path: str, network: str | None) -> None:
    assert network_type(Path(path)) == network


@pytest.mark.usefixtures("mounts")
def test_the_ledger_lies_beside_the_studies_unless_they_are_remote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    assert locate("/studies") == Path("/studies/.atlas8k/ledger.sqlite")
    for studies in ("/data/studies", "http://pacs:8042/dicom-web", "https://pacs/dicom-web"):
        path = locate(studies)
        assert path.is_relative_to(tmp_path / "home" / "atlas8k")
        assert locate(studies, tmp_path / "own") == tmp_path / "own" / "ledger.sqlite"
    assert locate("/data/a") != locate("/data/b")
    assert "/data/studies is on a network file system (nfs4)" in caplog.text


def test_a_forced_network_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas8k.store.database.network_type", lambda path: "nfs")
    with pytest.raises(NetworkFileSystemError, match="choose a folder on a local disk"):
        Ledger(tmp_path / "x" / "l.sqlite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [LedgerFullError("l.sqlite", "full"), UnknownVolumeError("a"), UnknownModelVersionError("s")],
)
def test_errors_cross_process_borders(error: Atlas8kError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
