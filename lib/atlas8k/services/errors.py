"""Errors of a request: what the client asked for is not there, or not allowed."""

from __future__ import annotations

from collections.abc import Iterable

from atlas8k.core.errors import Atlas8kError


class NotFoundError(Atlas8kError, LookupError):
    """The image, label, model, strategy, scoring method or trainer does not exist (404)."""

    def __init__(self, kind: str, name: object, known: Iterable[str] | None = None) -> None:
        listed = f"; there are: {', '.join(known)}" if known is not None else ""
        super().__init__(f"there is no {kind} {str(name)[:200]!r}{listed}")


class RequestError(Atlas8kError, ValueError):
    """The request cannot be carried out as it is; the message says what is allowed (422)."""


class ConflictError(Atlas8kError):
    """The request is fine but not now, or not on top of what is there (409)."""


class TooLargeError(Atlas8kError, ValueError):
    """What was sent, or what it claims to hold, is larger than allowed (413)."""


class UpstreamError(Atlas8kError):
    """A server that this one depends on does not answer as it should (503)."""
