"""Remarks on a file that people should know: a kind, a sentence, figures.

A file that cannot be used raises an error. A remark is for a file that can be used, or could
be once somebody states how: it is shown wherever the volume is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["note", "warning", "blocked"]
LEVELS: tuple[Level, ...] = ("note", "warning", "blocked")
"""Nothing to do; somebody should look; the volume is left out until somebody acts."""


@dataclass(frozen=True)
class Remark:
    """Something about one volume that people should know.

    Attributes
    ----------
    kind
        Name for programs, words joined by ``_``; stays the same when `text` is reworded.
    text
        One or two sentences: what is odd, and what to do about it.
    level
        Importance, see :data:`LEVELS`.
    figures
        Measurements, JSON-ready.
    """

    kind: str
    text: str
    level: Level = "warning"
    figures: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object with the attributes' names."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Remark:
        """Read a remark from a record of :meth:`as_dict`."""
        return cls(**record)


def worst(remarks: Iterable[Remark]) -> Level | None:
    """Return the highest level among `remarks`, ``None`` where there are none."""
    levels = {remark.level for remark in remarks}
    return next((level for level in reversed(LEVELS) if level in levels), None)
