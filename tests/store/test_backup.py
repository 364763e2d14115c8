from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.store.kit import ANNA, check_consistent, names, query, scored, sizes

from atlas8k.store import Ledger, LedgerFullError, LedgerReadOnlyError
from atlas8k.store import backup as module


def test_a_backup_is_a_ledger_of_one_moment(ledger: Ledger, tmp_path: Path) -> None:
    scored(ledger, {"a": 2, "b": 1})
    ledger.submit("a", ANNA)
    target = ledger.backup(tmp_path / "far" / "copy.sqlite")
    ledger.submit("b", ANNA)
    copy = Ledger(target)
    assert copy.statuses() == {"a": "submitted", "b": "open"}
    assert copy.submissions("a") == ledger.submissions("a")
    check_consistent(target)


def test_a_backup_is_whole_while_others_write(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger.sync_volumes(names(400))
    ledger.register_model_version("one")
    going = threading.Event()

    def write() -> None:
        for name in names(400):
            ledger.record_score(name, "one", sizes(1))
            going.set()

    writer = threading.Thread(target=write)
    writer.start()
    going.wait()
    for i in range(5):
        target = ledger.backup(tmp_path / f"{i}.sqlite")
        check_consistent(target)
        assert query(target, "PRAGMA journal_mode") == [("delete",)]  # one file, no log beside
    writer.join()


def test_a_backup_that_fails_leaves_the_earlier_one(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.sync_volumes(names(2000))
    target = tmp_path / "copy.sqlite"
    target.write_bytes(b"the earlier one")
    connect = module.sqlite3.connect

    def small(*args: object, **options: object) -> object:
        connection = connect(*args, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 3")
        return connection

    monkeypatch.setattr(module.sqlite3, "connect", small)
    with pytest.raises(LedgerFullError, match=r"copy\.sqlite: disk full"):
        ledger.backup(target)
    monkeypatch.undo()
    assert target.read_bytes() == b"the earlier one"
    assert {p.suffix for p in tmp_path.iterdir()} <= {".sqlite", ".sqlite-wal", ".sqlite-shm"}


def test_where_a_backup_cannot_go(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(LedgerReadOnlyError, match="is the ledger itself"):
        ledger.backup(ledger.path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerReadOnlyError, match="cannot be written"):
        ledger.backup(tmp_path / "file" / "copy.sqlite")
