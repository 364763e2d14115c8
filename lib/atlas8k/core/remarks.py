"""What was found about a file that somebody should know: a kind, a sentence, figures.

A file that cannot be used raises an error. A remark is for a file that can be used, or could
be if somebody said how: it is shown wherever the volume is.
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
    """One thing that was found about one volume.

    Attributes
    ----------
    kind
        What it is, one word or several with ``_``; stays the same when `text` is reworded.
    text
        One or two sentences: what was found, and what to do where something is to do.
    level
        How much it matters, see :data:`LEVELS`.
    figures
        What was measured, JSON-able.
    """

    kind: str
    text: str
    level: Level = "warning"
    figures: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON object with the attributes' names."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Remark:
        """Read back what :meth:`as_dict` gave."""
        return cls(**told)


def worst(remarks: Iterable[Remark]) -> Level | None:
    """Return the highest level among `remarks`, ``None`` where there are none."""
    found = {remark.level for remark in remarks}
    return next((level for level in reversed(LEVELS) if level in found), None)
