"""Errors of evaluation: each names the file, and the row where there is one."""

from __future__ import annotations

from pathlib import Path

from atlas8k.errors import Atlas8kError


class EvaluationError(Atlas8kError, ValueError):
    """A table or a set of results cannot be used.

    Parameters
    ----------
    path
        The file, or a description of what was compared.
    reason
        What is wrong and what to do about it.
    row
        Line of the file, the header being line 1.
    """

    def __init__(self, path: str | Path, reason: str, row: int | None = None) -> None:
        self.path = str(path)
        self.reason = reason
        self.row = row
        where = f"{path}, row {row}" if row is not None else str(path)
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str, int | None]]:
        return type(self), (self.path, self.reason, self.row)
