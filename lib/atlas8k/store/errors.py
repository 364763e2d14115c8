"""What can go wrong with a ledger file, each with what to do about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atlas8k.core.errors import LedgerError


class LedgerFileError(LedgerError):
    """A ledger file cannot be used.

    Parameters
    ----------
    path
        The ledger file.
    reason
        What is wrong and what to do about it, one sentence.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        # The default reduction would replay the formatted message as `path`.
        return type(self), (self.path, self.reason)


class LedgerLockedError(LedgerFileError):
    """Another process held the write lock for longer than the timeout."""


class LedgerFullError(LedgerFileError):
    """The disk or the quota is full; the transaction was rolled back."""


class LedgerReadOnlyError(LedgerFileError):
    """The file or its folder cannot be written."""


class LedgerCorruptError(LedgerFileError):
    """The file is not a ledger, or is damaged."""


class LedgerVersionError(LedgerFileError):
    """The file was written by a newer release, or by one that is too old."""


class LedgerLostError(LedgerFileError):
    """There is no ledger, or an empty one, where a campaign has left other traces."""


class NetworkFileSystemError(LedgerFileError):
    """The file would lie on a network file system."""


class NumberTakenError(LedgerError):
    """Another process has used the number of a submission; take the next one."""


class _UnknownError(LedgerError, KeyError):
    """There is nothing of a name; the message is ``words`` with the name in it."""

    words = ""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(self.words.format(name))

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.name,)


class UnknownVolumeError(_UnknownError):
    """No volume of that name has ever been in the studies folder."""

    words = (
        "{}: the ledger knows no volume of that name; it is a CT's file name without .nii.gz, "
        "or its SeriesInstanceUID"
    )


class UnknownModelVersionError(_UnknownError):
    """No model version of that name has been registered."""

    words = "{}: model version not registered; call register_model_version first"


class NotMeasuredError(LedgerError):
    """Scores of an earlier release lack what a ranking or selection goes by: score again."""


_BY_CODE: dict[int, tuple[type[LedgerFileError], str]] = {
    sqlite3.SQLITE_BUSY: (
        LedgerLockedError,
        "locked by another process for too long; stop the process that holds it and try again",
    ),
    sqlite3.SQLITE_FULL: (LedgerFullError, "disk full; nothing was written; free some space"),
    sqlite3.SQLITE_READONLY: (
        LedgerReadOnlyError,
        "read-only; give the server write permission for the file and its folder",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        LedgerReadOnlyError,
        "cannot be opened or created; the folder must exist and be writable",
    ),
    sqlite3.SQLITE_CORRUPT: (
        LedgerCorruptError,
        "damaged; restore a backup, or move it away and run `atlas8k ledger rebuild`",
    ),
    sqlite3.SQLITE_NOTADB: (
        LedgerCorruptError,
        "not a ledger; move it away, then restore a backup or run `atlas8k ledger rebuild`",
    ),
}


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether the statement may simply be tried again."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn sqlite3's errors into :class:`LedgerFileError`, programming errors excepted."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        # The low byte is the primary code; the rest says more about the same thing.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind, reason = _BY_CODE.get(code, (LedgerFileError, "cannot be read or written"))
        raise kind(path, f"{reason} ({error})") from error
