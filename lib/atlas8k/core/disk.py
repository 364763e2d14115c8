"""Say in our own words that a disk is full or cannot be written, however the error arrives."""

from __future__ import annotations

import errno
import sqlite3

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNWRITABLE = {errno.EROFS}
_SQLITE = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}


def disk_fault(error: BaseException | None) -> str | None:
    """Return what a disk has to do with an error, or with what it came from; ``None``: nothing.

    Nothing is said of where: that is for the log.
    """
    while error is not None:
        number = error.errno if isinstance(error, OSError) else _of_sqlite(error)
        if number in _FULL:
            return "a disk is full: free some space (studies, temporary files, app folder)"
        if number in _UNWRITABLE:
            return "a disk cannot be written: it is read-only (studies, app folder)"
        error = error.__cause__ or error.__context__
    return None


def _of_sqlite(error: BaseException) -> int | None:
    # The low byte is the primary code; the rest says more about the same thing.
    code = getattr(error, "sqlite_errorcode", None)
    return _SQLITE.get(code & 0xFF) if isinstance(code, int) else None
