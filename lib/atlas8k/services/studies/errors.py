"""What can go wrong in a studies folder; which of it is the caller's fault."""

from __future__ import annotations

from pathlib import Path

from atlas8k.core.errors import Atlas8kError
from atlas8k.services.errors import RequestError


class BadNameError(RequestError):
    """An id, a tag or a file name that is not allowed (the caller's fault)."""

    def __init__(self, kind: str, name: object, reason: str) -> None:
        self.kind, self.name, self.reason = kind, str(name), reason
        super().__init__(f"{kind} {str(name)[:80]!r} is not allowed: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # The default reduction would replay the formatted message as `kind`.
        return type(self), (self.kind, self.name, self.reason)


class StudiesFolderError(Atlas8kError):
    """The studies folder cannot be used (the server's fault, not the caller's)."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.path, self.reason)


class DamagedLabelError(StudiesFolderError):
    """A kept label file is gone, or is not what was kept."""
