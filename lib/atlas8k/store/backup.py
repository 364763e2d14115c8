"""A copy of a ledger that is one moment's state, made while others write."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from atlas8k.store.database import Database
from atlas8k.store.errors import LedgerCorruptError, LedgerReadOnlyError, translated


def write_backup(database: Database, target: Path) -> Path:
    """Copy the ledger to `target`; see :meth:`atlas8k.store.Ledger.backup`."""
    from atlas8k.core.files import publishing

    target = target.resolve()
    if target == database.path:
        raise LedgerReadOnlyError(target, "is the ledger itself; name another file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with publishing(target) as temporary, translated(target):
            copy = sqlite3.connect(temporary, isolation_level=None)
            try:
                # Translated here: what fails in copying is the target, not the ledger.
                with database.read() as connection, translated(target):
                    connection.backup(copy)
                # One file, to be carried anywhere; the ledger goes back to WAL when opened.
                copy.execute("PRAGMA journal_mode = DELETE")
                check = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            finally:
                copy.close()
            if check != "ok":
                raise LedgerCorruptError(database.path, f"damaged, not copied ({check})")
    except OSError as error:
        raise LedgerReadOnlyError(target, f"cannot be written ({error})") from error
    return target
